//! How many connections there may be, and how many there have been.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connection::BoxError;
use super::limits::Cut;

/// Why hyper refused a request over HTTP/1 by itself: the service never saw it, and the connection
/// ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusedRequest {
    /// Its head is none that HTTP allows. Answered 400.
    Malformed,
    /// Its head has more bytes or fields than [`Limits`](crate::Limits) allow, or its target more than
    /// 65,534 bytes. Answered 431 or 414.
    TooLarge,
}

impl RefusedRequest {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Malformed, Self::TooLarge];

    /// The name used in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
        }
    }

    /// What ended a connection, if it was such a refusal.
    fn of(ended: &BoxError) -> Option<Self> {
        let error = ended.downcast_ref::<hyper::Error>()?;
        match (error.is_parse_too_large(), error.is_parse()) {
            (true, _) => Some(Self::TooLarge),
            (_, true) => Some(Self::Malformed),
            _ => None,
        }
    }
}

/// The connections of one server or several: their limits and their counts.
///
/// Clones share them. Give one to every [`Serve`](crate::Serve) of a process, by
/// [`with_connections`](crate::Serve::with_connections), so that its limits hold for all threads
/// and addresses together.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    total: Option<Arc<Semaphore>>,
    per_address: Option<NonZeroU32>,
    addresses: Mutex<HashMap<IpAddr, u32>>,
    accepted: AtomicU64,
    closed: AtomicU64,
    refused: AtomicU64,
    refused_requests: [AtomicU64; RefusedRequest::ALL.len()],
    cut: [AtomicU64; Cut::ALL.len()],
}

impl Connections {
    /// Without limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// At most `total` at a time, and at most `per_address` from one IP address (for IPv6, from
    /// one /64: that is what a single customer gets).
    ///
    /// At the total, accepting pauses and further clients wait in the listening socket's queue. A
    /// connection beyond an address' share is closed at once. Peers of Unix sockets have no
    /// address and no such limit.
    pub fn limited(total: Option<NonZeroUsize>, per_address: Option<NonZeroU32>) -> Self {
        Self(Arc::new(Inner {
            total: total
                .map(|total| Arc::new(Semaphore::new(total.get().min(Semaphore::MAX_PERMITS)))),
            per_address,
            ..Inner::default()
        }))
    }

    /// Connections accepted so far, those refused not counted.
    pub fn accepted(&self) -> u64 {
        self.0.accepted.load(Relaxed)
    }

    /// Connections open now.
    pub fn open(&self) -> u64 {
        let closed = self.0.closed.load(Relaxed);
        self.accepted().saturating_sub(closed)
    }

    /// Connections refused because their address had too many.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Relaxed)
    }

    /// Connections that hit a time limit of lendfile's own. (What the kernel cuts by
    /// `TCP_USER_TIMEOUT` ends like any lost peer.)
    pub fn cut(&self, cause: Cut) -> u64 {
        self.0.cut[cause as usize].load(Relaxed)
    }

    /// Requests over HTTP/1 that hyper refused by itself, counted when their connection has ended. One
    /// whose connection was cut or lost before the answer had left is not among them, nor is what the
    /// h2 crate refuses of HTTP/2 (heads that are too long, with 431; malformed ones, by resetting the
    /// stream or closing the connection), of which nobody is told.
    pub fn refused_requests(&self, reason: RefusedRequest) -> u64 {
        self.0.refused_requests[reason as usize].load(Relaxed)
    }

    pub(super) fn count_cut(&self, cause: Cut) {
        self.0.cut[cause as usize].fetch_add(1, Relaxed);
    }

    /// Waits until there may be one more; `None` if the peer's address has its share.
    pub(super) async fn admit(&self, peer: Option<SocketAddr>) -> Option<Admitted> {
        let address = match (self.0.per_address, peer) {
            (Some(most), Some(peer)) => Some(self.enter(customer(peer.ip()), most)?),
            _ => None,
        };
        let mut admitted = Admitted {
            connections: self.clone(),
            address,
            _room: None,
        };
        self.0.accepted.fetch_add(1, Relaxed);
        if let Some(total) = self.0.total.clone() {
            // Never closed, so it cannot fail.
            admitted._room = total.acquire_owned().await.ok();
        }
        Some(admitted)
    }

    /// Counts one more from `address`, unless there are `most`.
    fn enter(&self, address: IpAddr, most: NonZeroU32) -> Option<IpAddr> {
        let mut addresses = self.addresses();
        let count = addresses.entry(address).or_default();
        if *count >= most.get() {
            self.0.refused.fetch_add(1, Relaxed);
            return None;
        }
        *count += 1;
        Some(address)
    }

    fn leave(&self, address: IpAddr) {
        let mut addresses = self.addresses();
        if let Some(count) = addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&address);
            }
        }
    }

    fn addresses(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.0
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who is behind an address.
fn customer(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        ip => ip,
    }
}

/// A connection's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    connections: Connections,
    address: Option<IpAddr>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Admitted {
    /// Notes what the connection ended with.
    pub(super) fn ended_with(&self, error: &BoxError) {
        if let Some(reason) = RefusedRequest::of(error) {
            self.connections.0.refused_requests[reason as usize].fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.connections.0.closed.fetch_add(1, Relaxed);
        if let Some(address) = self.address {
            self.connections.leave(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn peer(text: &str) -> Option<SocketAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn an_address_gets_its_share_and_has_it_again_when_connections_end() {
        let connections = Connections::limited(None, NonZeroU32::new(2));
        let admit = |text| {
            connections
                .admit(peer(text))
                .now_or_never()
                .expect("at once")
        };
        let first = admit("192.0.2.1:1");
        let second = admit("192.0.2.1:2");
        assert!(first.is_some() && second.is_some());
        assert!(admit("192.0.2.1:3").is_none());
        // The same address, written as IPv6.
        assert!(admit("[::ffff:192.0.2.1]:4").is_none());
        assert!(admit("192.0.2.2:1").is_some());
        assert_eq!((connections.open(), connections.refused()), (2, 2));
        drop(first);
        assert!(admit("192.0.2.1:3").is_some());
        drop(second);
        assert!(connections.addresses().is_empty());
        assert_eq!(connections.open(), 0);
    }

    #[test]
    fn one_customer_of_ipv6_is_a_64() {
        let connections = Connections::limited(None, NonZeroU32::new(1));
        let admit = |text| {
            connections
                .admit(peer(text))
                .now_or_never()
                .expect("at once")
        };
        let _first = admit("[2001:db8::1]:1").unwrap();
        assert!(admit("[2001:db8::ffff:0:0:2]:1").is_none());
        assert!(admit("[2001:db8:0:1::1]:1").is_some());
    }

    #[test]
    fn beyond_the_total_the_next_waits_until_one_ends() {
        let connections = Connections::limited(NonZeroUsize::new(1), None);
        let first = connections.admit(None).now_or_never().unwrap();
        let mut second = Box::pin(connections.admit(None));
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        assert!(second.now_or_never().unwrap().is_some());
    }
}
