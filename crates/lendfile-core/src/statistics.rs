//! What this process has counted, as plain data: for metrics and for tests. Each backend adds to
//! the counters here; nothing in lendfile decides by them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::lent::CannotLend;

/// A reading of all counters. Not one moment: each was read for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// How often a send had to wait for pages that were not in the page cache, without blocking.
    pub cold_waits: u64,
    /// How often a file has been given a lower rung of the ladder.
    pub downgrades: u64,
    /// Pipes that exist now, in use or pooled.
    pub pipes_open: u64,
    /// Pipes that wait in a thread's pool now.
    pub pipes_pooled: u64,
    /// How often a pipe was wanted and none of a useful size could be had.
    pub pipes_refused: u64,
    /// How often pages were read by a helper thread, since the file could not be asked whether
    /// they were in the page cache.
    pub pages_fetched: u64,
    /// Operations that rings were given.
    pub ring_operations: u64,
    /// How often a connection had to wait for a share of its ring's pipes and buffers.
    pub ring_waits: u64,
    /// How often a call that must not block took so long that it probably did.
    pub stalls: u64,
}

/// Reads all counters.
pub fn statistics() -> Statistics {
    Statistics {
        cold_waits: COLD_WAITS.value(),
        downgrades: DOWNGRADES.value(),
        pipes_open: PIPES_OPEN.value(),
        pipes_pooled: PIPES_POOLED.value(),
        pipes_refused: PIPES_REFUSED.value(),
        pages_fetched: PAGES_FETCHED.value(),
        ring_operations: RING_OPERATIONS.value(),
        ring_waits: RING_WAITS.value(),
        stalls: STALLS.value(),
    }
}

/// One number of the process; backends keep it.
#[derive(Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds one.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one away, from what counts things that exist.
    pub fn decrement(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// What it is now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One number for each reason.
#[derive(Debug)]
pub struct NotLent([Counter; CannotLend::NAMES.len()]);

impl NotLent {
    /// Adds one.
    pub fn increment(&self, reason: CannotLend) {
        self.0[reason.index()].increment();
    }

    /// The [names](CannotLend::name) of all reasons, with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let values = self.0.iter().map(Counter::value);
        CannotLend::NAMES.into_iter().zip(values)
    }
}

/// How often a body that should have been lent was sent as owned chunks.
pub static NOT_LENT: NotLent = NotLent([const { Counter::new() }; CannotLend::NAMES.len()]);

/// [`Statistics::cold_waits`].
pub static COLD_WAITS: Counter = Counter::new();
/// [`Statistics::downgrades`].
pub static DOWNGRADES: Counter = Counter::new();
/// [`Statistics::pipes_open`].
pub static PIPES_OPEN: Counter = Counter::new();
/// [`Statistics::pipes_pooled`].
pub static PIPES_POOLED: Counter = Counter::new();
/// [`Statistics::pipes_refused`].
pub static PIPES_REFUSED: Counter = Counter::new();
/// [`Statistics::pages_fetched`].
pub static PAGES_FETCHED: Counter = Counter::new();
/// [`Statistics::ring_operations`].
pub static RING_OPERATIONS: Counter = Counter::new();
/// [`Statistics::ring_waits`].
pub static RING_WAITS: Counter = Counter::new();
/// [`Statistics::stalls`].
pub static STALLS: Counter = Counter::new();
