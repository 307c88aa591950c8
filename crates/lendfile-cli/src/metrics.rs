//! What Prometheus reads: counters of the requests, and what the library has counted anyway.
//!
//! A request costs a few atomic additions: no lock, no allocation, no look-up by name. Everything
//! is put into words when it is asked for.
//!
//! - `page`: the exposition format. `server`: the listener it is served on.

mod page;
mod server;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use lendfile::{AccessLog, Connections, Exchange, Method, Observer, Outcome, ServeDir};

pub(crate) use server::MetricsServer;

/// Statuses are below it; what a service answers beyond is counted as 0.
const STATUSES: usize = 600;

const METHODS: usize = Method::ALL.len();

/// The numbers of one server, of all its threads.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Inner>);

struct Inner {
    /// By status; 0 for those that were never answered.
    requests: [AtomicU64; STATUSES],
    /// Of bodies, by the method they were sent by, in clear and through TLS.
    body_bytes: [[AtomicU64; METHODS]; 2],
    aborted: AtomicU64,
    connections: Connections,
    site: ServeDir,
    log: Option<AccessLog>,
}

impl Metrics {
    pub(crate) fn new(connections: Connections, site: ServeDir, log: Option<AccessLog>) -> Self {
        Self(Arc::new(Inner {
            requests: [const { AtomicU64::new(0) }; STATUSES],
            body_bytes: [const { [const { AtomicU64::new(0) }; METHODS] }; 2],
            aborted: AtomicU64::new(0),
            connections,
            site,
            log,
        }))
    }
}

impl Observer for Metrics {
    type Notes = ();

    fn wants_duration(&self) -> bool {
        false
    }

    fn begin(&self, _: &lendfile::Head<'_>) {}

    fn end(&self, (): &(), exchange: &Exchange) {
        let status = exchange.status.map_or(0, |status| status.as_u16().into());
        self.0.requests[if status < STATUSES { status } else { 0 }].fetch_add(1, Relaxed);
        let sums = &self.0.body_bytes[usize::from(exchange.encrypted)];
        for &method in Method::ALL {
            let bytes = exchange.bytes_by(method);
            if bytes > 0 {
                sums[method as usize].fetch_add(bytes, Relaxed);
            }
        }
        if exchange.outcome == Outcome::Aborted {
            self.0.aborted.fetch_add(1, Relaxed);
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics")
            .field("connections", &self.0.connections)
            .field("log", &self.0.log)
            .finish_non_exhaustive()
    }
}
