//! A ticker inside a server: how long the thread that runs it was away.
//!
//! A task that wants to run every millisecond, on the runtime that serves, is late by as long as
//! something blocks the thread. tokio's timers have a resolution of 1 ms, so an idle runtime is up
//! to some 2 ms late; what is above that is a stall.
//!
//! A server under measurement runs [`Ticker::run`] on the runtime it watches and
//! [`announce_stalls`] beside it; [`crate::server::Server`] reads the lines.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often the ticker wants to run.
pub const TICK: Duration = Duration::from_millis(1);

/// How often a server says how late its ticker was.
const ANNOUNCEMENT_INTERVAL: Duration = Duration::from_millis(100);

/// How long after a moment its delays have been said: an interval, and some for a busy machine.
pub(crate) const HEARD_WITHIN: Duration = Duration::from_millis(150);

/// What asks `lendfile serve` for it.
pub(crate) const FLAG: &str = "--ticker";

/// What such a line begins with; nanoseconds follow.
pub(crate) const ANNOUNCEMENT: &str = "late by ";

/// A ticker; its clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Ticker {
    worst_nanos: Arc<AtomicU64>,
}

impl Ticker {
    /// Ticks until dropped, on the runtime that polls it.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its time enabled.
    pub async fn run(&self) {
        loop {
            let due = Instant::now() + TICK;
            tokio::time::sleep_until(due.into()).await;
            self.late_by(due.elapsed());
        }
    }

    /// Notes a delay of one's own making.
    pub fn late_by(&self, delay: Duration) {
        let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        self.worst_nanos.fetch_max(nanos, Ordering::Relaxed);
    }

    /// The longest delay since this was last asked.
    pub fn take_worst(&self) -> Duration {
        Duration::from_nanos(self.worst_nanos.swap(0, Ordering::Relaxed))
    }
}

/// Says on standard output, ten times a second, how late `ticker` has been, for as long as the
/// process lives. The thread that writes is one of its own, so that a full pipe stalls nobody.
///
/// # Errors
///
/// If the thread cannot be started.
pub fn announce_stalls(ticker: Ticker) -> io::Result<()> {
    thread::Builder::new()
        .name("stall announcer".to_owned())
        .spawn(move || {
            loop {
                thread::sleep(ANNOUNCEMENT_INTERVAL);
                let nanos = ticker.take_worst().as_nanos();
                if writeln!(io::stdout(), "{ANNOUNCEMENT}{nanos}").is_err() {
                    return;
                }
            }
        })
        .map(drop)
}

/// The delay in a line of [`announce_stalls`].
pub(crate) fn parse(line: &str) -> Option<Duration> {
    let nanos = line.trim().strip_prefix(ANNOUNCEMENT)?;
    nanos.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_was_blocked_shows_as_a_late_tick() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let ticker = Ticker::default();
        let ticking = ticker.clone();
        runtime.block_on(async {
            let task = tokio::spawn(async move { ticking.run().await });
            tokio::task::yield_now().await;
            thread::sleep(Duration::from_millis(30));
            while ticker.worst_nanos.load(Ordering::Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
            task.abort();
        });
        let worst = ticker.take_worst();
        assert!(worst >= Duration::from_millis(29), "{worst:?}");
        assert_eq!(ticker.take_worst(), Duration::ZERO, "asking starts anew");
    }

    #[test]
    fn a_line_carries_the_delay() {
        assert_eq!(parse("late by 1500\n"), Some(Duration::from_nanos(1500)));
        assert_eq!(parse("listening on http://x"), None);
    }
}
