//! When a connection has taken too long: a state machine that samples its [`Activity`] now and
//! then.
//!
//! One timer per connection fires every quarter of the shortest limit, whatever the connection
//! does, so nothing is armed or reset when bytes move. The price is precision: a limit is hit up to
//! a quarter of the shortest one late, never early.
//!
//! [`Activity`]: super::activity::Activity

use std::time::{Duration, Instant};

use super::activity::{Doing, Snapshot};
use super::limits::{Cut, Limits};

/// How long a peer is watched before its rate is held against it: a round trip, a full buffer or a
/// lost packet must not look like an attack.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// A file may take so many times as long as a peer.
const READ_PATIENCE: u32 = 10;

/// The clock of one connection.
#[derive(Debug)]
pub(super) struct Clock {
    /// When the present wait began, or the peer last accepted something in it.
    since: Instant,
    seen: Snapshot,
    /// When the peer began to owe, and how much had been accepted then.
    sending: (Instant, u64),
}

impl Clock {
    /// That of a connection which was accepted at `began`.
    pub(super) fn new(began: Instant, seen: Snapshot) -> Self {
        Self {
            since: began,
            sending: (began, seen.accepted),
            seen,
        }
    }

    /// Samples the connection; which limit it has reached.
    pub(super) fn check(&mut self, now: Instant, sample: Snapshot, limits: &Limits) -> Option<Cut> {
        let seen = std::mem::replace(&mut self.seen, sample);
        let owing = sample.doing.is_owing();
        let new_turn = match owing {
            true => !seen.doing.is_owing(),
            false => seen.doing != sample.doing || seen.requests != sample.requests,
        };
        // A head that comes byte by byte is one wait; a body that is taken byte by byte is many.
        // A further request is none: over HTTP/2 it can be made by who takes nothing.
        let moved = owing && seen.accepted != sample.accepted;
        if new_turn || moved {
            self.since = now;
        }
        // Over HTTP/1 a further request means that the response before it was taken.
        if new_turn || !sample.http2 && seen.requests != sample.requests {
            self.sending = (now, sample.accepted);
        }
        let waited = now.saturating_duration_since(self.since);
        let is_over = |limit: Option<Duration>| limit.is_some_and(|limit| waited >= limit);
        match sample.doing {
            Doing::ReadingHead => is_over(limits.header_timeout).then_some(Cut::Header),
            Doing::Resting => is_over(limits.idle_timeout).then_some(Cut::Idle),
            Doing::Sending | Doing::Stalled => {
                if is_over(limits.progress_timeout) {
                    return Some(Cut::Progress);
                }
                self.is_too_slow(now, limits).then_some(Cut::Rate)
            }
            Doing::Reading => is_over(read_timeout(limits)).then_some(Cut::Progress),
            Doing::Serving => None,
        }
    }

    /// Begins to wait anew, after a limit has been acted upon; when to look again.
    pub(super) fn restart(&mut self, now: Instant, limits: &Limits) -> Option<Instant> {
        self.since = now;
        self.next_check(now, limits)
    }

    /// When to look again.
    pub(super) fn next_check(&self, now: Instant, limits: &Limits) -> Option<Instant> {
        let limit = match self.seen.doing {
            Doing::ReadingHead => limits.header_timeout,
            Doing::Resting => limits.idle_timeout,
            Doing::Sending | Doing::Stalled => limits.progress_timeout,
            Doing::Reading => read_timeout(limits),
            Doing::Serving => None,
        };
        let tick = now + tick(limits)?;
        // The deadline itself, if it comes before the tick.
        let deadline = limit.map(|limit| self.since + limit);
        Some(deadline.map_or(tick, |deadline| deadline.clamp(now, tick)))
    }

    fn is_too_slow(&self, now: Instant, limits: &Limits) -> bool {
        let Some(rate) = limits.min_rate else {
            return false;
        };
        let (since, from) = self.sending;
        let elapsed = now.saturating_duration_since(since);
        let sent = self.seen.accepted.saturating_sub(from);
        elapsed >= RATE_WINDOW
            && u128::from(sent) < elapsed.as_millis() * u128::from(rate.get()) / 1000
    }
}

/// How long a file may be waited for: it is not the peer's fault, but nobody notices a peer that has
/// gone meanwhile, and its connection counts.
fn read_timeout(limits: &Limits) -> Option<Duration> {
    limits.progress_timeout.map(|limit| limit * READ_PATIENCE)
}

/// A quarter of the shortest limit; `None` if there is none.
fn tick(limits: &Limits) -> Option<Duration> {
    let window = limits.min_rate.map(|_| RATE_WINDOW);
    [
        limits.header_timeout,
        limits.idle_timeout,
        limits.progress_timeout,
        window,
    ]
    .into_iter()
    .flatten()
    .min()
    .map(|shortest| (shortest / 4).max(Duration::from_millis(1)))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    fn limits() -> Limits {
        Limits::default()
    }

    fn sample(doing: Doing, accepted: u64, requests: u64) -> Snapshot {
        Snapshot {
            accepted,
            requests,
            doing,
            http2: false,
        }
    }

    fn http2(doing: Doing, accepted: u64, requests: u64) -> Snapshot {
        Snapshot {
            http2: true,
            ..sample(doing, accepted, requests)
        }
    }

    /// Runs the clock as the timer would, over what `at` says of each moment.
    fn run(limits: &Limits, at: impl Fn(Duration) -> Snapshot) -> Option<(Duration, Cut)> {
        let start = Instant::now();
        let mut clock = Clock::new(start, at(Duration::ZERO));
        let mut now = start;
        while now < start + Duration::from_secs(3600) {
            now = clock.next_check(now, limits)?;
            let elapsed = now - start;
            if let Some(cut) = clock.check(now, at(elapsed), limits) {
                return Some((elapsed, cut));
            }
        }
        None
    }

    #[test]
    fn a_file_that_never_comes_is_waited_for_ten_times_as_long_as_a_peer() {
        let cut = run(&limits(), |_| sample(Doing::Reading, 0, 1));
        let limit = limits().progress_timeout.unwrap() * READ_PATIENCE;
        assert_eq!(cut, Some((limit, Cut::Progress)));
    }

    #[test]
    fn a_head_that_comes_byte_by_byte_is_cut_at_the_header_timeout() {
        let cut = run(&limits(), |t| sample(Doing::ReadingHead, t.as_secs(), 0));
        assert_eq!(cut, Some((Duration::from_secs(30), Cut::Header)));
    }

    #[test]
    fn a_connection_at_rest_is_cut_at_the_idle_timeout() {
        let cut = run(&limits(), |_| sample(Doing::Resting, 1000, 1));
        assert_eq!(cut, Some((Duration::from_secs(75), Cut::Idle)));
    }

    #[test]
    fn a_reader_that_takes_nothing_is_cut_and_one_that_takes_little_is_not() {
        let cut = run(&limits(), |_| sample(Doing::Sending, 1000, 1));
        assert_eq!(cut, Some((Duration::from_secs(60), Cut::Progress)));
        // One byte per 50 s.
        let cut = run(&limits(), |t| sample(Doing::Sending, t.as_secs() / 50, 1));
        assert_eq!(cut, None);
    }

    #[test]
    fn neither_new_streams_nor_a_window_that_opens_for_nothing_are_progress() {
        let cut = run(&limits(), |t| http2(Doing::Stalled, 1000, t.as_secs() / 3));
        assert_eq!(cut, Some((Duration::from_secs(60), Cut::Progress)));
        let cut = run(&limits(), |t| match t.as_secs() / 20 % 2 {
            0 => http2(Doing::Stalled, 1000, 1),
            _ => http2(Doing::Sending, 1000, 1),
        });
        assert_eq!(cut, Some((Duration::from_secs(60), Cut::Progress)));
    }

    #[test]
    fn a_reader_below_the_minimum_rate_is_cut_and_one_above_is_not() {
        let mut limits = limits();
        limits.min_rate = NonZeroU64::new(1000);
        let at = |rate: u64| move |t: Duration| sample(Doing::Sending, t.as_secs() * rate, 1);
        let (elapsed, cut) = run(&limits, at(900)).unwrap();
        assert_eq!(cut, Cut::Rate);
        assert!((10..15).contains(&elapsed.as_secs()), "{elapsed:?}");
        assert_eq!(run(&limits, at(1100)), None);
        // Nor by asking for more, over HTTP/2.
        let cut = run(&limits, |t| {
            http2(Doing::Stalled, t.as_secs() * 900, t.as_secs())
        });
        assert!(matches!(cut, Some((_, Cut::Rate))), "{cut:?}");
    }

    #[test]
    fn a_slow_service_is_never_cut() {
        assert_eq!(run(&limits(), |_| sample(Doing::Serving, 0, 1)), None);
    }

    #[test]
    fn a_busy_connection_is_never_cut() {
        let cut = run(&limits(), |t| {
            sample(Doing::Resting, t.as_secs() * 1000, t.as_secs())
        });
        assert_eq!(cut, None);
    }

    #[test]
    fn a_wait_is_counted_from_its_own_beginning() {
        // At rest for 70 s, then a head begins.
        let cut = run(&limits(), |t| match t.as_secs() {
            0..70 => sample(Doing::Resting, 1000, 1),
            _ => sample(Doing::ReadingHead, 1000, 1),
        });
        let (elapsed, cut) = cut.unwrap();
        assert_eq!(cut, Cut::Header);
        // The head was noticed up to a quarter of 30 s after it began.
        assert!((100..=108).contains(&elapsed.as_secs()), "{elapsed:?}");
    }

    #[test]
    fn without_limits_there_is_no_timer() {
        let mut limits = limits();
        limits.header_timeout = None;
        limits.idle_timeout = None;
        limits.progress_timeout = None;
        let clock = Clock::new(Instant::now(), Snapshot::default());
        assert_eq!(clock.next_check(Instant::now(), &limits), None);
    }
}
