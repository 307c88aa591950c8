//! The drain client: keep-alive connections served by one thread that never sleeps.
//!
//! It asks for one path over and over, checks each answer's status and length, and throws the body
//! away inside the kernel (`MSG_TRUNC`), so that the receiver costs as little as it can and the
//! sender is what is measured. Content is checked once, apart from the load, by
//! [`fetch_digest`].
//!
//! It does not pin itself or enter a namespace: call it through [`crate::place::Place::run`].

mod connection;
mod digest;
mod head;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

pub use digest::{Digest, fetch_digest};

use crate::{Error, Result};
use connection::{Connection, Turn};

/// How long opening a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How long the whole load may go without a single byte before the server counts as stalled.
/// Far above every protocol pause (delayed ACK 40 ms, BBR's RTT probe 200 ms, the smallest
/// retransmission timeout 200 ms).
const STALL_LIMIT: Duration = Duration::from_secs(5);

/// How long to spin between two sweeps over the connections. Without a pause the client takes every
/// segment on its own, and the server pays in acknowledgements and for the socket's lock. Bare
/// sendfile, veth, 2-core VM, medians of 5, GB/s with 0, 5, 10, 20 µs: 1 MiB × 8 cubic 5.8, 6.8,
/// 6.8, 6.6; 1 MiB × 8 BBR 3.7, 3.6, 3.6, 3.0; 64 KiB × 8 cubic 3.5, 3.5, 3.3, 3.2.
const SWEEP_PAUSE: Duration = Duration::from_micros(5);

/// The longest body piece discarded by one `recv`. A socket never holds more than
/// `net.ipv4.tcp_rmem[2]` (6 MiB by default, 32 MiB on newer kernels), and the memory behind it is
/// never touched.
const DISCARD_BYTES: usize = 4 << 20;

/// Latencies are kept from 1 ns to ten minutes with three digits.
const LONGEST_LATENCY_NANOS: u64 = 600_000_000_000;

/// What to ask for, how wide and for how long.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Load {
    /// Where the server listens.
    pub address: SocketAddr,
    /// The request's path, beginning with `/`.
    pub path: String,
    /// The body's length in bytes which every answer must announce and deliver.
    pub length: u64,
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// How long to drain, after all connections are open.
    pub duration: Duration,
}

impl Load {
    /// One connection for one second; the fields are there to change that.
    pub fn new(address: SocketAddr, path: impl Into<String>, length: u64) -> Self {
        Self {
            address,
            path: path.into(),
            length,
            connections: 1,
            duration: Duration::from_secs(1),
        }
    }
}

/// What a [`Load`] brought.
#[derive(Clone)]
#[non_exhaustive]
pub struct Outcome {
    /// Body bytes received, those of requests cut off by the end included.
    pub bytes: u64,
    /// Requests answered completely.
    pub requests: u64,
    /// The time drained.
    pub elapsed: Duration,
    /// Processor time of the draining thread. It never sleeps, so what is missing to `elapsed` is
    /// time its core was taken away.
    pub processor: Duration,
    /// Nanoseconds from sending a request to its answer's last byte; complete requests only.
    pub latency: Histogram<u64>,
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outcome")
            .field("bytes", &self.bytes)
            .field("requests", &self.requests)
            .field("elapsed", &self.elapsed)
            .field("processor", &self.processor)
            .field("latency_count", &self.latency.len())
            .finish()
    }
}

/// An empty latency histogram of the client's range.
///
/// # Panics
///
/// Never: the bounds are constants that the histogram accepts.
pub fn empty_latency() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_LATENCY_NANOS, 3).expect("constant bounds are valid")
}

/// Drains the server for the load's duration, spinning on the calling thread, then closes all
/// connections, cutting off what is under way.
///
/// # Errors
///
/// [`crate::Kind::Disqualified`] if an answer has a wrong status or length, carries bytes beyond
/// its length, or if the server closes a connection or sends nothing for five seconds;
/// [`crate::Kind::System`] if a connection cannot be opened or breaks.
pub fn drain(load: &Load) -> Result<Outcome> {
    let request = request(load);
    let mut discard = vec![0_u8; DISCARD_BYTES];
    let mut latency = empty_latency();
    let mut connections = (0..load.connections)
        .map(|_| Connection::open(load.address, load.length, CONNECT_LIMIT))
        .collect::<Result<Vec<_>>>()?;

    let (mut bytes, mut requests) = (0, 0);
    let processor = thread_processor_time();
    let begun = Instant::now();
    let mut now = begun;
    let mut last_byte = begun;
    for connection in &mut connections {
        connection.ask(&request)?;
    }
    while now - begun < load.duration {
        let before = bytes;
        for connection in &mut connections {
            match connection.turn(&mut discard)? {
                Turn::Nothing => {}
                Turn::Received { body_bytes } => bytes += body_bytes,
                Turn::Complete { body_bytes, took } => {
                    bytes += body_bytes;
                    requests += 1;
                    latency.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
                    connection.ask(&request)?;
                }
            }
        }
        let swept = Instant::now();
        loop {
            std::hint::spin_loop();
            now = Instant::now();
            if now - swept >= SWEEP_PAUSE {
                break;
            }
        }
        if bytes != before {
            last_byte = now;
        } else if now - last_byte > STALL_LIMIT {
            return Err(Error::disqualified(format!(
                "no byte on {} connections for {} s, after {bytes} bytes",
                load.connections,
                STALL_LIMIT.as_secs(),
            )));
        }
    }
    Ok(Outcome {
        bytes,
        requests,
        elapsed: now - begun,
        processor: thread_processor_time().saturating_sub(processor),
        latency,
    })
}

fn thread_processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

fn request(load: &Load) -> Vec<u8> {
    format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\n\r\n",
        load.path, load.address
    )
    .into_bytes()
}
