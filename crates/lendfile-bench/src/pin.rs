//! Cores: which the client and the server get, and putting the calling thread on one.
//!
//! Children inherit the affinity of the thread that starts them, so a server is pinned by starting
//! it from a pinned thread ([`crate::place::Place::spawn`]).

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::{Error, Result};

/// A core for each side.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Cores {
    /// The client's, the lower one: interrupts usually land there too.
    pub client: usize,
    /// The server's.
    pub server: usize,
}

/// Chooses the two lowest cores this process may run on; `None` if there is only one, where a client
/// that spins takes the server's time and pinning would change nothing.
///
/// # Errors
///
/// [`crate::Kind::System`] if the affinity cannot be read.
pub fn choose() -> Result<Option<Cores>> {
    let allowed = sched_getaffinity(None)
        .map_err(|errno| Error::system("reading the processor affinity", errno))?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    Ok(match (cores.next(), cores.next()) {
        (Some(client), Some(server)) => Some(Cores { client, server }),
        _ => None,
    })
}

/// Puts the calling thread, and what it starts from now on, on one core.
///
/// # Errors
///
/// [`crate::Kind::System`] if the kernel refuses the core.
pub fn pin_thread(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set)
        .map_err(|errno| Error::system(format!("pinning a thread to core {core}"), errno))
}
