//! The drain client: keep-alive connections served by one thread that never sleeps.
//!
//! It asks for one path, or several in turn, over and over, checks each answer's status and length,
//! and throws the body away inside the kernel (`MSG_TRUNC`), so that the receiver costs as little as
//! it can and the sender is what is measured. Content is checked once, apart from the load, by
//! [`fetch_digest`].
//!
//! It does not pin itself or enter a namespace: call it through [`crate::place::Place::run`].

mod connection;
mod digest;
mod h2c;
mod head;
mod load;
mod pace;

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

pub use digest::{Digest, fetch_digest, fetch_digest_h2c};
pub use load::{Drain, Load, Protocol, Target, Until};

use crate::Result;
use connection::{Connection, Turn};
use load::Requests;
use pace::Pace;

/// The longest body piece taken by one `recv`. A socket never holds more than `net.ipv4.tcp_rmem[2]`
/// (6 MiB by default, 32 MiB on newer kernels), and when bodies are discarded, the memory behind it
/// is never touched.
const DISCARD_BYTES: usize = 4 << 20;

/// The same when bodies are copied: what fits into a core's own cache, as a real client's buffer.
const COPY_BYTES: usize = 256 << 10;

/// Latencies are kept from 1 ns to ten minutes with three digits.
const LONGEST_LATENCY_NANOS: u64 = 600_000_000_000;

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

/// Drains the server as the load says, spinning on the calling thread, then closes all connections,
/// cutting off what is under way.
///
/// # Errors
///
/// [`crate::Kind::Disqualified`] if an answer has a wrong status or length, carries bytes beyond
/// its length, or if the server closes a connection or sends nothing for five seconds;
/// [`crate::Kind::System`] if a connection cannot be opened or breaks.
///
/// # Panics
///
/// If the load has no target.
pub fn drain(load: &Load) -> Result<Outcome> {
    match load.protocol {
        Protocol::H2c => h2c::drain(load, &mut |_| {}),
        Protocol::Http1 => drain_http1(load),
    }
}

fn drain_http1(load: &Load) -> Result<Outcome> {
    let texts: Vec<Vec<u8>> = load
        .targets
        .iter()
        .map(|target| {
            format!(
                "GET {} HTTP/1.1\r\nHost: {}\r\n\r\n",
                target.path, load.address
            )
            .into_bytes()
        })
        .collect();
    let mut requests = Requests::new(load);
    let mut buf = vec![
        0_u8;
        match load.drain {
            Drain::Copy => COPY_BYTES,
            Drain::Discard => DISCARD_BYTES,
        }
    ];
    let mut connections = (0..load.connections)
        .map(|_| Connection::open(load.address))
        .collect::<Result<Vec<_>>>()?;

    let mut pace = Pace::begin(load);
    for connection in &mut connections {
        if let Some(target) = requests.next() {
            connection.ask(&texts[target], load.targets[target].length)?;
        }
    }
    while pace.goes_on() && !requests.are_answered() {
        for connection in &mut connections {
            match connection.turn(load.drain, &mut buf)? {
                Turn::Nothing => {}
                Turn::Received { body_bytes } => pace.received(body_bytes),
                Turn::Complete { body_bytes, took } => {
                    pace.received(body_bytes);
                    pace.completed(took);
                    requests.answered();
                    if let Some(target) = requests.next() {
                        connection.ask(&texts[target], load.targets[target].length)?;
                    }
                }
            }
        }
        pace.pause()?;
    }
    Ok(pace.finish())
}
