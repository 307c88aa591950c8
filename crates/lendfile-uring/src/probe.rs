//! Can this machine run the io_uring backend? Answered by doing: a ring is made, and a byte is
//! spliced through it. It does not look at kernel versions, and it does not measure: that ring
//! splice works does not say that it is faster than sendfile here.

use std::fmt;
use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::Options;
use crate::sys::{BUFFERS, PROBE, Ring, WORKERS};

/// How long one ring operation may take before the probe gives up on it.
///
/// Neither pipe can block, so this only bounds how long a worker thread may wait to be scheduled;
/// measured on an idle 2-core machine: below 1 ms.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// What crosses the ring. Not zero, so that memory which was never written cannot pass for it.
const BYTE: u8 = 0x5a;

/// The steps that can be refused, as they are named to the reader.
pub(crate) const SETUP: &str = "io_uring_setup";
pub(crate) const ENTER: &str = "io_uring_enter";
pub(crate) const SPLICE: &str = "IORING_OP_SPLICE";

/// What this machine's io_uring could do when it was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Probe {
    /// Making a ring (`io_uring_setup`).
    pub ring: Ability,
    /// Splicing through it (`IORING_OP_SPLICE`, pipe to pipe).
    pub splice: Ability,
    /// Registering memory with it (`IORING_REGISTER_BUFFERS`), a buffer of
    /// [`Options`]' default size.
    pub buffers: Ability,
    /// Bounding its worker threads (`IORING_REGISTER_IOWQ_MAX_WORKERS`).
    pub workers: Ability,
}

/// The outcome of trying one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ability {
    /// It was done, and the effect was checked.
    Works,
    /// The kernel does not have it, or a sysctl, seccomp profile or security module denies it:
    /// use another backend.
    Unavailable(Reason),
    /// The attempt failed, which says nothing about the ability: the process is out of
    /// descriptors or memory, or the errno is not a known refusal. An error, not a downgrade.
    Failed(Reason),
    /// Not tried, because something it needs did not work.
    Untried,
}

/// What stood in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reason {
    /// The system call, operation or feature that did not work.
    pub step: &'static str,
    /// How it did not.
    pub cause: Cause,
}

/// How a step went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// It returned this error number.
    Errno(i32),
    /// This kernel's rings do not have the feature.
    Missing,
    /// It did not complete within this time. What the kernel may still use is kept.
    TimedOut(Duration),
    /// It reported success, but the byte did not arrive.
    WrongBytes,
}

/// Tries io_uring on this machine.
///
/// Takes a fraction of a millisecond where all is well and at most about two seconds; blocks the
/// calling thread meanwhile, so call it at start. Nothing is remembered: each call tries anew.
///
/// Should the kernel not complete the splice in time, the ring and the two descriptors it names
/// stay open until the process ends, since a late splice would otherwise hit whatever file had
/// been given their numbers.
///
/// # References
/// io_uring_setup(2), splice(2); `kernel.io_uring_disabled` in the kernel's sysctl documentation.
pub fn probe() -> Probe {
    match Ring::new() {
        Ok(ring) => Probe {
            ring: Ability::Works,
            buffers: judge(ring.register_buffer(Options::default().buffer_bytes)),
            workers: judge(ring.read_worker_bounds()),
            splice: judge(splice_one_byte(ring)),
        },
        Err(error) => Probe {
            ring: judge(Err(failed(SETUP, &error))),
            splice: Ability::Untried,
            buffers: Ability::Untried,
            workers: Ability::Untried,
        },
    }
}

/// Sends one byte from a pipe through the ring into another pipe and reads it there.
///
/// Pipes, not a file: whether a *filesystem* can splice is another question than whether the ring
/// can, and two non-blocking pipes cannot make a worker wait.
fn splice_one_byte(ring: Ring) -> Result<(), Reason> {
    let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
    let (source, source_end) = pipe_with(flags).map_err(|e| failed("pipe2", &e.into()))?;
    let (sink_end, sink) = pipe_with(flags).map_err(|e| failed("pipe2", &e.into()))?;
    rustix::io::write(&source_end, &[BYTE]).map_err(|e| failed("write", &e.into()))?;

    let moved = ring.splice(source, sink, 1, TIME_LIMIT)?;

    let mut byte = [0];
    match rustix::io::read(&sink_end, &mut byte) {
        Ok(1) if moved == 1 && byte == [BYTE] => Ok(()),
        Ok(_) | Err(Errno::AGAIN) => Err(Reason {
            step: SPLICE,
            cause: Cause::WrongBytes,
        }),
        Err(errno) => Err(failed("read", &errno.into())),
    }
}

/// Sorts what happened into "not to be had here" and "went wrong".
pub(crate) fn judge(outcome: Result<(), Reason>) -> Ability {
    let Err(reason) = outcome else {
        return Ability::Works;
    };
    let refusals: &[Errno] = match reason.step {
        // EPERM: `io_uring_disabled`, most seccomp profiles (some deny only io_uring_enter).
        // EACCES: security modules. ENOSYS: a kernel without io_uring, other seccomp profiles.
        SETUP | ENTER => &[Errno::PERM, Errno::ACCESS, Errno::NOSYS],
        // The operation's arguments are right, so EINVAL is "no such operation" (before 5.7).
        // EACCES: a ring restricted to other operations.
        SPLICE => &[Errno::INVAL, Errno::OPNOTSUPP, Errno::ACCESS, Errno::PERM],
        // EINVAL: before 5.6, before 5.15. EACCES: a restricted ring.
        PROBE | WORKERS => &[Errno::INVAL, Errno::ACCESS, Errno::PERM],
        // ENOMEM: more than `RLIMIT_MEMLOCK` leaves.
        BUFFERS => &[Errno::NOMEM, Errno::ACCESS, Errno::PERM],
        _ => &[],
    };
    let refused = match reason.cause {
        Cause::Errno(errno) => refusals.contains(&Errno::from_raw_os_error(errno)),
        Cause::Missing => true,
        Cause::TimedOut(_) | Cause::WrongBytes => false,
    };
    if refused {
        Ability::Unavailable(reason)
    } else {
        Ability::Failed(reason)
    }
}

/// The reason for a failed system call. An error without a number is none of the kernel's; EIO
/// stands in for it.
pub(crate) fn failed(step: &'static str, error: &io::Error) -> Reason {
    let errno = error
        .raw_os_error()
        .unwrap_or_else(|| Errno::IO.raw_os_error());
    Reason {
        step,
        cause: Cause::Errno(errno),
    }
}

impl Ability {
    /// Whether it was done and had its effect.
    pub fn works(&self) -> bool {
        matches!(self, Self::Works)
    }
}

impl fmt::Display for Ability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Works => f.write_str("works"),
            Self::Unavailable(reason) => write!(f, "unavailable: {reason}"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
            Self::Untried => f.write_str("not tried"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.cause)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(errno) => io::Error::from_raw_os_error(*errno).fmt(f),
            Self::Missing => f.write_str("this kernel does not have it"),
            Self::TimedOut(limit) => write!(f, "not completed within {limit:?}"),
            Self::WrongBytes => f.write_str("reported success, but the byte did not arrive"),
        }
    }
}

#[cfg(test)]
mod tests;
