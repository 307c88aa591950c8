//! The counts of a transfer under way, for whoever watches it from outside.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::transfer::Counters;
use crate::{Method, Outcome, Sent, Transfer};

/// What a transfer has done so far. Cheap to clone; stays readable, and exact, after the transfer
/// has ended or its future was dropped.
#[derive(Clone)]
pub struct Progress(Arc<Counts>);

struct Counts {
    started: Instant,
    counters: Counters,
}

impl Progress {
    /// Bytes that have arrived where the transfer takes them: accepted by the socket's buffer, or
    /// written to the file. A transfer that was dropped is resumed from here.
    pub fn bytes(&self) -> u64 {
        self.0.counters.total()
    }

    /// Those that went by `method`.
    pub fn bytes_by(&self, method: Method) -> u64 {
        self.0.counters.by(method)
    }

    /// System calls that moved bytes, those without progress included.
    pub fn syscalls(&self) -> u64 {
        u64::from(self.0.counters.syscalls.load(Ordering::Relaxed))
    }

    /// How often it waited: for a socket, the disk, or its rate.
    pub fn waits(&self) -> u64 {
        u64::from(self.0.counters.waits.load(Ordering::Relaxed))
    }

    /// Time since the transfer was made.
    pub fn elapsed(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// The counts of a new transfer. For backends, as is all that follows.
    pub fn begin() -> Self {
        Self(Arc::new(Counts {
            started: Instant::now(),
            counters: Counters::default(),
        }))
    }

    /// Books bytes.
    pub fn record(&self, sent: Sent) {
        let counters = &self.0.counters;
        counters.add(sent.method, sent.bytes as u64, sent.syscalls);
        counters
            .cold_waits
            .fetch_add(sent.cold_waits, Ordering::Relaxed);
    }

    /// Books system calls that moved nothing yet.
    pub fn record_syscalls(&self, syscalls: u32) {
        let counters = &self.0.counters;
        counters.syscalls.fetch_add(syscalls, Ordering::Relaxed);
    }

    /// Books a wait.
    pub fn record_wait(&self) {
        self.0.counters.waits.fetch_add(1, Ordering::Relaxed);
    }

    /// The report of the transfer, which was to move `len` bytes and has ended; it is logged.
    pub fn end(&self, outcome: Outcome, len: u64) -> Transfer {
        let transfer = self.0.counters.report(outcome, len, self.0.started);
        transfer.log();
        transfer
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress")
            .field("bytes", &self.bytes())
            .field("elapsed", &self.elapsed())
            .finish_non_exhaustive()
    }
}
