//! A ring that does one splice: the probe's.
//!
//! Splice names its descriptors by number, and the kernel looks the numbers up late, on a worker
//! thread (Linux 6.18, `io_splice` in io_uring/splice.c). So the operation owns both descriptors
//! until its completion has been seen. Closing the ring does not end that: the kernel cancels a
//! closed ring's operations in the background (`io_ring_exit_work`). What is not seen to complete
//! is therefore kept, never closed.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode};
use rustix::io::Errno;

use super::setup;
use crate::probe::{Cause, ENTER, Reason, SPLICE, failed};

/// One operation at a time.
const ENTRIES: u32 = 1;

/// Splice's "at the descriptor's own position", the only one a pipe has.
const NO_OFFSET: i64 = -1;

/// Operations which the kernel did not complete in time, with all that they name.
static UNFINISHED: Mutex<Vec<InFlight>> = Mutex::new(Vec::new());

/// A ring without anything in it.
pub(crate) struct Ring(IoUring);

/// A ring and the descriptors that its one operation names.
struct InFlight {
    ring: IoUring,
    from: OwnedFd,
    to: OwnedFd,
}

impl Ring {
    /// Makes a ring, with no flags: every refusal is then about io_uring itself.
    pub(crate) fn new() -> io::Result<Self> {
        IoUring::new(ENTRIES).map(Self)
    }

    /// Registers so much memory and takes it back.
    pub(crate) fn register_buffer(&self, bytes: usize) -> Result<(), Reason> {
        setup::try_buffer(&self.0, bytes)
    }

    /// Asks for the bounds of this thread's workers, and leaves them.
    pub(crate) fn read_worker_bounds(&self) -> Result<(), Reason> {
        setup::bound_workers(&self.0, 0)
    }

    /// Splices up to `len` bytes and waits at most `time_limit` for the completion; returns the
    /// bytes moved.
    ///
    /// All three are consumed: closed after the completion, kept for good if there is none.
    pub(crate) fn splice(
        self,
        from: OwnedFd,
        to: OwnedFd,
        len: u32,
        time_limit: Duration,
    ) -> Result<u32, Reason> {
        // Without it (kernels before 5.11) there is no way to wait for a limited time.
        if !self.0.params().is_feature_ext_arg() {
            return Err(Reason {
                step: "IORING_FEAT_EXT_ARG",
                cause: Cause::Missing,
            });
        }
        let mut operation = InFlight {
            ring: self.0,
            from,
            to,
        };
        operation.push_splice(len);
        match operation.wait(time_limit) {
            Ok(result) => u32::try_from(result).map_err(|_| Reason {
                step: SPLICE,
                cause: Cause::Errno(-result),
            }),
            Err(reason) => {
                operation.keep_if_submitted();
                Err(reason)
            }
        }
    }
}

impl InFlight {
    fn push_splice(&mut self, len: u32) {
        let entry = opcode::Splice::new(
            Fd(self.from.as_raw_fd()),
            NO_OFFSET,
            Fd(self.to.as_raw_fd()),
            NO_OFFSET,
            len,
        )
        .build();
        let mut queue = self.ring.submission();
        // SAFETY: the entry names no memory, only two descriptors. `self` owns both, and `splice`
        // drops `self` only after `wait` has returned the completion or while the entry is still
        // in the queue; otherwise `keep_if_submitted` puts it into a static.
        let pushed = unsafe { queue.push(&entry) };
        pushed.expect("a new ring has room for an entry");
    }

    /// Submits what is queued and waits for its completion's result.
    fn wait(&mut self, time_limit: Duration) -> Result<i32, Reason> {
        let start = Instant::now();
        loop {
            if let Some(completion) = self.ring.completion().next() {
                return Ok(completion.result());
            }
            let left = time_limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(Reason {
                    step: SPLICE,
                    cause: Cause::TimedOut(time_limit),
                });
            }
            let timespec = Timespec::from(left);
            let args = SubmitArgs::new().timespec(&timespec);
            // A call that submits returns the count even if its wait then timed out; only a call
            // that had nothing to submit tells of ETIME or EINTR. The clock above decides.
            if let Err(error) = self.ring.submitter().submit_with_args(1, &args)
                && ![Some(Errno::TIME), Some(Errno::INTR)].contains(&Errno::from_io_error(&error))
            {
                return Err(failed(ENTER, &error));
            }
        }
    }

    /// Keeps everything unless the kernel has not even taken the entry. There is no polling
    /// thread, so it takes entries only inside io_uring_enter, which nobody will call again.
    fn keep_if_submitted(mut self) {
        if self.ring.submission().is_empty() {
            UNFINISHED
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(self);
        }
    }
}

#[cfg(test)]
mod tests;
