//! The client's clock and books: how long it goes on, how long it pauses, what it has received.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

use super::{Load, Outcome, Until, empty_latency};
use crate::{Error, Result};

/// How long the whole load may go without a single byte before the server counts as stalled.
/// Far above every protocol pause (delayed ACK 40 ms, BBR's RTT probe 200 ms, the smallest
/// retransmission timeout 200 ms).
const STALL_LIMIT: Duration = Duration::from_secs(5);

/// How long to spin between two sweeps over the connections. Without a pause the client takes every
/// segment on its own, and the server pays in acknowledgements and for the socket's lock. Bare
/// sendfile, veth, 2-core VM, medians of 5, GB/s with 0, 5, 10, 20 µs: 1 MiB × 8 cubic 5.8, 6.8,
/// 6.8, 6.6; 1 MiB × 8 BBR 3.7, 3.6, 3.6, 3.0; 64 KiB × 8 cubic 3.5, 3.5, 3.3, 3.2.
const SWEEP_PAUSE: Duration = Duration::from_micros(5);

/// The books of one load under way.
pub(super) struct Pace {
    connections: usize,
    limit: Option<Duration>,
    begun: Instant,
    now: Instant,
    last_byte: Instant,
    processor: Duration,
    bytes: u64,
    bytes_at_last_pause: u64,
    requests: u64,
    latency: Histogram<u64>,
}

impl Pace {
    pub(super) fn begin(load: &Load) -> Self {
        let begun = Instant::now();
        Self {
            connections: load.connections,
            limit: match load.until {
                Until::Answered(_) => None,
                Until::Elapsed(limit) => Some(limit),
            },
            begun,
            now: begun,
            last_byte: begun,
            processor: thread_processor_time(),
            bytes: 0,
            bytes_at_last_pause: 0,
            requests: 0,
            latency: empty_latency(),
        }
    }

    pub(super) fn goes_on(&self) -> bool {
        self.limit.is_none_or(|limit| self.now - self.begun < limit)
    }

    pub(super) fn received(&mut self, body_bytes: u64) {
        self.bytes += body_bytes;
    }

    pub(super) fn completed(&mut self, took: Duration) {
        self.requests += 1;
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.latency.saturating_record(nanos);
    }

    /// Spins until the next sweep is due.
    ///
    /// # Errors
    ///
    /// Disqualifies a server that has sent nothing for [`STALL_LIMIT`].
    pub(super) fn pause(&mut self) -> Result<()> {
        let swept = Instant::now();
        loop {
            std::hint::spin_loop();
            self.now = Instant::now();
            if self.now - swept >= SWEEP_PAUSE {
                break;
            }
        }
        if self.bytes != self.bytes_at_last_pause {
            self.bytes_at_last_pause = self.bytes;
            self.last_byte = self.now;
        } else if self.now - self.last_byte > STALL_LIMIT {
            return Err(Error::disqualified(format!(
                "no byte on {} connections for {} s, after {} bytes",
                self.connections,
                STALL_LIMIT.as_secs(),
                self.bytes,
            )));
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Outcome {
        Outcome {
            bytes: self.bytes,
            requests: self.requests,
            elapsed: self.now - self.begun,
            processor: thread_processor_time().saturating_sub(self.processor),
            latency: self.latency,
        }
    }
}

fn thread_processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
