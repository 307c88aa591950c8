//! What is believed of a file's pages: which were in the page cache a moment ago.
//!
//! A belief spares the next transfer the question. It can be wrong, since pages are evicted at any
//! time: then a send waits for the disk once, is found to have taken long, and the belief is
//! dropped.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a belief lasts of a file that can be asked at the price of two system calls, 1 to 2 µs:
/// a hot file is asked ten times a second, and pages dropped right after they were sent (by
/// `posix_fadvise`, or since memory is short) are seldom waited for.
pub(crate) const LASTS: Duration = Duration::from_millis(100);

/// How long one of a file that can be asked only by reading it, if need be in a thread. What is read
/// by anybody within it is young on the kernel's lists.
pub(crate) const LASTS_UNASKED: Duration = Duration::from_secs(2);

/// Stretches that are remembered: as many readers can be at different places of a file.
const STRETCHES: usize = 4;

#[derive(Clone, Copy, Debug)]
struct Stretch {
    start: u64,
    end: u64,
    seen: Instant,
}

/// The beliefs about one file.
#[derive(Debug, Default)]
pub(crate) struct Warm(Mutex<[Option<Stretch>; STRETCHES]>);

impl Warm {
    /// Bytes from `offset` on that are believed to be in the page cache, if a belief lasts so long.
    pub(crate) fn known(&self, offset: u64, lasts: Duration) -> u64 {
        let stretches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = stretches
            .iter()
            .flatten()
            .find(|stretch| stretch.start <= offset && offset < stretch.end);
        known
            .filter(|stretch| stretch.seen.elapsed() < lasts)
            .map_or(0, |stretch| stretch.end - offset)
    }

    /// Notes that `len` bytes from `offset` on were there.
    pub(crate) fn note(&self, offset: u64, len: u64, lasts: Duration) {
        let mut new = Stretch {
            start: offset,
            end: offset + len,
            seen: Instant::now(),
        };
        let mut stretches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for slot in stretches.iter_mut() {
            if let Some(old) = slot
                && old.start <= new.end
                && new.start <= old.end
            {
                if old.seen.elapsed() < lasts && !(new.start <= old.start && old.end <= new.end) {
                    // As old as its oldest part.
                    new.start = new.start.min(old.start);
                    new.end = new.end.max(old.end);
                    new.seen = old.seen;
                }
                *slot = None;
            }
        }
        let oldest = stretches
            .iter_mut()
            .min_by_key(|slot| slot.map(|old| old.seen));
        if let Some(slot) = oldest {
            *slot = Some(new);
        }
    }

    /// Drops every belief.
    pub(crate) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = [None; STRETCHES];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_joined_and_what_is_forgotten_is_unknown() {
        let warm = Warm::default();
        warm.note(0, 10, Duration::MAX);
        warm.note(20, 10, Duration::MAX);
        let known = |at| warm.known(at, Duration::MAX);
        assert_eq!([0, 9, 10, 25].map(known), [10, 1, 0, 5]);
        warm.note(10, 10, Duration::MAX);
        assert_eq!(known(3), 27);
        warm.forget();
        assert_eq!(known(3), 0);
    }

    #[test]
    fn more_readers_than_stretches_cost_the_oldest() {
        let warm = Warm::default();
        for at in 0..=STRETCHES as u64 {
            warm.note(at * 100, 10, Duration::MAX);
        }
        assert_eq!(warm.known(0, Duration::MAX), 0);
        assert_eq!(warm.known(STRETCHES as u64 * 100, Duration::MAX), 10);
    }

    #[test]
    fn a_belief_that_is_over_is_neither_told_nor_joined() {
        let warm = Warm::default();
        warm.note(0, 10, Duration::MAX);
        assert_eq!(warm.known(0, Duration::ZERO), 0);
        warm.note(10, 10, Duration::ZERO);
        assert_eq!(warm.known(0, Duration::MAX), 0);
        assert_eq!(warm.known(10, Duration::MAX), 10);
    }
}
