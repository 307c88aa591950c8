//! Crowds: what many clients at a time cost a file server, and what hostile ones can do to it.
//!
//! Each function starts the server anew over a directory of its own, sends its crowd over loopback
//! from this process, and returns what it saw. Judging that is the caller's.
//!
//! - [`attack()`]: slow heads, slow bodies, stalled readers and hostile ranges, and a probe that must
//!   not notice.
//! - [`idle`] and [`stalled`]: what a connection costs that does nothing.
//! - [`soak()`]: aborts, reloads and replaced files, every byte checked; does anything grow?
//! - [`steady()`]: mixed lengths, for long; does it slow down?
//! - [`restart()`]: SIGKILL in the middle of transfers; can the next one listen at once?
//!
//! The server is anything that takes `lendfile serve`'s arguments. Client and server share the
//! machine's cores, so latencies hold what the crowd itself takes of them.

mod attack;
mod client;
mod content;
mod holdings;
mod load;
mod many;
mod restart;
mod soak;
mod steady;

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

pub use self::attack::{Assault, Attack, Ends, Kind, Probes, attack};
pub use self::holdings::Holdings;
pub use self::many::{Crowd, idle, stalled};
pub use self::restart::{Restarts, restart};
pub use self::soak::{Soaked, soak};
pub use self::steady::{Pace, Sixth, Steadiness, steady};

use crate::place::Place;
use crate::server::{Address, Server};
use crate::{Error, Result};

/// The longest that any single wait may take before a measurement fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(30);

/// Time that the server's memory has to become what it was.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);

/// Length of the small file.
const SMALL_BYTES: u64 = 1 << 10;

/// Length of the large file, which is sparse.
const LARGE_BYTES: u64 = 1 << 30;

/// How the server is started.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<String>,
}

impl Program {
    /// The `lendfile` command at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            arguments: Vec::new(),
        }
    }

    /// The same with further arguments, which go before those of the measurement.
    #[must_use]
    pub fn with<I: Into<String>>(mut self, arguments: impl IntoIterator<Item = I>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    fn command(&self, listen: SocketAddr, options: &[&str], directory: &Path) -> Command {
        let mut command = Command::new(&self.path);
        command
            .args(["serve", "--listen", &listen.to_string()])
            .args(&self.arguments)
            .args(options)
            .arg(directory);
        command
    }
}

/// A server and the directory that it serves.
#[derive(Debug)]
struct Service {
    server: Server,
    directory: TempDir,
}

impl Service {
    /// On a free port, over a directory with `small` and `large`.
    fn start(program: &Program, options: &[&str]) -> Result<Self> {
        Self::start_in(&Place::default(), program, options)
    }

    fn start_in(place: &Place, program: &Program, options: &[&str]) -> Result<Self> {
        let directory = tempfile::tempdir().map_err(|error| Error::system("a directory", error))?;
        let write = || {
            fs::write(
                directory.path().join("small"),
                content::bytes(1, SMALL_BYTES),
            )?;
            File::create(directory.path().join("large"))?.set_len(LARGE_BYTES)
        };
        write().map_err(|error| Error::system("writing the files", error))?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = start(place, program, any, options, directory.path())?;
        Ok(Self { server, directory })
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
    }

    fn holdings(&self) -> Result<Holdings> {
        Holdings::of(self.server.pid())
    }
}

fn start(
    place: &Place,
    program: &Program,
    listen: SocketAddr,
    options: &[&str],
    directory: &Path,
) -> Result<Server> {
    let mut command = program.command(listen, options, directory);
    Server::start(place, &Place::default(), &mut command, Address::Announced)
}

/// Lets this process, and the servers it starts, have as many descriptors as `wanted`.
///
/// # Errors
///
/// [`crate::Kind::Unavailable`] if the hard limit is below that and may not be raised.
pub fn allow_descriptors(wanted: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= wanted);
    let maximum = match enough(limit.maximum) {
        true => limit.maximum,
        false => Some(wanted),
    };
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).map_err(|error| {
        Error::unavailable(format!(
            "{wanted} descriptors, {:?} allowed: {error}; raise the limit (ulimit -Hn) or ask for \
             fewer connections",
            limit.maximum,
        ))
    })
}
