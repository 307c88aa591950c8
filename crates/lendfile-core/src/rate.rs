//! How fast: a limit in bytes per second, and the token bucket that keeps it.
//!
//! Pure arithmetic over instants that the caller brings. Nothing here waits or reads a clock, so
//! the same bucket serves every runtime and is tested without one.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// The burst that is allowed unless another is asked for: what the rate brings in this time.
const DEFAULT_BURST: Duration = Duration::from_millis(100);

/// The smallest burst that a rate can be kept with: what it brings in this time. Timers tick at
/// 1 ms and a busy thread is late by some more; what the bucket cannot hold meanwhile is lost.
const SMALLEST_BURST: Duration = Duration::from_millis(20);

/// Bytes worth a wake-up, unless the bucket holds less: a page's system call costs as much.
const PORTION_BYTES: u64 = 16 << 10;

/// Time worth a wake-up: at 10 ms a transfer wakes at most 100 times a second.
const PORTION: Duration = Duration::from_millis(10);

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// A limit for one transfer: a rate in bytes per second, and a burst in bytes.
///
/// A transfer begins with a full burst, then goes on at the rate; what it does not use is saved up
/// to a burst again. So over *t* seconds at most `burst + rate × t` bytes are sent. Counted are
/// bytes of the file handed to the socket, not heads, framing or retransmissions.
///
/// # Examples
///
/// ```
/// use std::num::NonZeroU64;
/// use lendfile_core::RateLimit;
///
/// let limit = RateLimit::new(NonZeroU64::new(10_000_000).unwrap());
/// assert_eq!(limit.burst_bytes(), 1_000_000);
/// assert_eq!(limit.with_burst(4 << 20).burst_bytes(), 4 << 20);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    bytes_per_second: NonZeroU64,
    burst_bytes: u64,
}

impl RateLimit {
    /// A limit of `bytes_per_second`, with a burst of a tenth of that.
    pub fn new(bytes_per_second: NonZeroU64) -> Self {
        Self {
            bytes_per_second,
            burst_bytes: brought_in(bytes_per_second, DEFAULT_BURST),
        }
    }

    /// Sets the burst. Less than the rate brings in 20 ms is raised to that, since timers tick at
    /// 1 ms and a smaller bucket would run over between two of them.
    #[must_use]
    pub fn with_burst(self, bytes: u64) -> Self {
        Self {
            burst_bytes: bytes.max(brought_in(self.bytes_per_second, SMALLEST_BURST)),
            ..self
        }
    }

    /// The rate.
    pub fn bytes_per_second(&self) -> NonZeroU64 {
        self.bytes_per_second
    }

    /// The burst.
    pub fn burst_bytes(&self) -> u64 {
        self.burst_bytes
    }

    /// The least that is worth waking a task for. At most half a burst, so that the other half
    /// takes up what comes in while the task is late.
    fn portion_bytes(&self) -> u64 {
        brought_in(self.bytes_per_second, PORTION)
            .max(PORTION_BYTES)
            .min(self.burst_bytes / 2)
            .max(1)
    }
}

/// Bytes that come in during `time`, at least one.
fn brought_in(bytes_per_second: NonZeroU64, time: Duration) -> u64 {
    let bytes = u128::from(bytes_per_second.get()) * time.as_nanos() / NANOS_PER_SECOND;
    u64::try_from(bytes).unwrap_or(u64::MAX).max(1)
}

/// What a transfer under a [`RateLimit`] may send now.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    limit: RateLimit,
    /// In bytes × nanoseconds per second, so that no fraction of a byte is lost however often
    /// it is looked at.
    level: u128,
    at: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(limit: RateLimit, now: Instant) -> Self {
        Self {
            limit,
            level: capacity(&limit),
            at: now,
        }
    }

    /// How many of `wanted` bytes may be sent at `now`; or, if it is not worth a system call yet,
    /// when to ask again.
    ///
    /// # Errors
    ///
    /// The instant at which enough will be there.
    pub fn allowance(&mut self, wanted: u64, now: Instant) -> Result<u64, Instant> {
        let elapsed = now.saturating_duration_since(self.at).as_nanos();
        let rate = u128::from(self.limit.bytes_per_second.get());
        self.level = self
            .level
            .saturating_add(elapsed.saturating_mul(rate))
            .min(capacity(&self.limit));
        self.at = self.at.max(now);
        let there = u64::try_from(self.level / NANOS_PER_SECOND).unwrap_or(u64::MAX);
        let enough = self.limit.portion_bytes().min(wanted);
        if there >= enough {
            return Ok(there.min(wanted));
        }
        let missing = u128::from(enough) * NANOS_PER_SECOND - self.level;
        let nanos = u64::try_from(missing.div_ceil(rate)).unwrap_or(u64::MAX);
        Err(self.at + Duration::from_nanos(nanos))
    }

    /// Takes out what was sent. More than there is leaves the bucket empty.
    pub fn take(&mut self, bytes: u64) {
        let taken = u128::from(bytes) * NANOS_PER_SECOND;
        self.level = self.level.saturating_sub(taken);
    }
}

fn capacity(limit: &RateLimit) -> u128 {
    u128::from(limit.burst_bytes) * NANOS_PER_SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(rate: u64) -> RateLimit {
        RateLimit::new(NonZeroU64::new(rate).unwrap())
    }

    /// Bytes sent in `time` by a sender that asks when told to, and is late by `late`.
    fn sent_in(limit: RateLimit, time: Duration, late: Duration) -> (u64, u64) {
        let begun = Instant::now();
        let mut now = begun;
        let mut bucket = TokenBucket::new(limit, now);
        let (mut sent, mut wakes) = (0, 0);
        while now <= begun + time {
            match bucket.allowance(u64::MAX, now) {
                Ok(bytes) => {
                    bucket.take(bytes);
                    sent += bytes;
                }
                Err(again) => {
                    assert!(again > now, "would spin");
                    now = again + late;
                    wakes += 1;
                }
            }
        }
        (sent, wakes)
    }

    #[test]
    fn ten_seconds_bring_ten_seconds_worth_and_a_burst_at_every_rate() {
        for rate in [1, 7, 1000, 50_000, 1 << 20, 123_456_789, 20 << 30, 1 << 50] {
            for late in [0, 1, 2] {
                let limit = limit(rate);
                let late = Duration::from_millis(late);
                let (sent, wakes) = sent_in(limit, Duration::from_secs(10), late);
                let fair = 10 * rate;
                assert!(
                    sent <= fair + limit.burst_bytes() + 1,
                    "{rate}: {sent} is more than rate and burst"
                );
                // One portion may still be on its way at the end.
                let least = (fair - fair / 50).saturating_sub(limit.portion_bytes());
                assert!(sent >= least, "{rate}: {sent}, late by {late:?}");
                assert!(wakes <= 1100, "{rate}: {wakes} wake-ups in 10 s");
            }
        }
    }

    #[test]
    fn what_is_not_used_is_saved_up_to_a_burst() {
        let limit = limit(1000).with_burst(5000);
        let begun = Instant::now();
        let mut bucket = TokenBucket::new(limit, begun);
        assert_eq!(bucket.allowance(u64::MAX, begun), Ok(5000));
        bucket.take(5000);
        assert!(bucket.allowance(u64::MAX, begun).is_err());
        let later = begun + Duration::from_secs(3);
        assert_eq!(bucket.allowance(u64::MAX, later), Ok(3000));
        let much_later = begun + Duration::from_secs(3600);
        assert_eq!(bucket.allowance(u64::MAX, much_later), Ok(5000));
    }

    #[test]
    fn looking_often_loses_no_fraction_of_a_byte() {
        let begun = Instant::now();
        let mut bucket = TokenBucket::new(limit(1), begun);
        bucket.take(1);
        for tenth in 1..10 {
            let now = begun + Duration::from_millis(100 * tenth);
            let again = bucket.allowance(1, now).unwrap_err();
            assert_eq!(again, begun + Duration::from_secs(1));
        }
        assert_eq!(bucket.allowance(1, begun + Duration::from_secs(1)), Ok(1));
    }

    #[test]
    fn a_short_rest_does_not_wait_for_a_whole_portion() {
        let limit = limit(1 << 20);
        let now = Instant::now();
        let mut bucket = TokenBucket::new(limit, now);
        bucket.take(limit.burst_bytes());
        let again = bucket.allowance(1024, now).unwrap_err();
        assert!(again - now < Duration::from_millis(1), "{:?}", again - now);
    }

    #[test]
    fn a_burst_smaller_than_timers_can_keep_is_raised() {
        assert_eq!(limit(1_000_000).with_burst(1).burst_bytes(), 20_000);
        assert_eq!(limit(1).with_burst(0).burst_bytes(), 1);
    }

    #[test]
    fn a_clock_that_stands_still_or_steps_back_brings_nothing() {
        let begun = Instant::now() + Duration::from_secs(10);
        let mut bucket = TokenBucket::new(limit(1000), begun);
        bucket.take(100);
        let back = begun - Duration::from_secs(5);
        assert!(bucket.allowance(10, back).is_err());
        assert!(bucket.allowance(10, begun).is_err());
    }
}
