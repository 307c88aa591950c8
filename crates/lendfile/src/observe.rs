//! What became of each request: the hook that access logs and metrics are made of.
//!
//! An observer is asked when a request begins and told when its response has ended, which for lent
//! bytes is when the socket has accepted the last of them or the connection has let go of them. In
//! between there is one allocation, shared by the response's body and the transfers it consists of.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method as HttpMethod, Request, StatusCode, Uri, Version};
use http_body::{Body, Frame};
use lendfile_core::{Method, Outcome, Transfer, TransferObserver};

use crate::Connection;

/// Is told of every request and of its end. [`AccessLog`](crate::AccessLog) is one; a pair of
/// observers is another, which tells both.
///
/// All calls run in the connection's task and must not block.
pub trait Observer: Send + Sync + 'static {
    /// What it remembers of a request until its end.
    type Notes: Send + Sync + 'static;

    /// Whether it looks at [`Exchange::duration`], asked at each request: two looks at a clock take
    /// 0.07 µs.
    fn wants_duration(&self) -> bool {
        true
    }

    /// A request's head has come; it has not been answered yet.
    fn begin(&self, request: &Head<'_>) -> Self::Notes;

    /// The exchange has ended, well or badly.
    fn end(&self, notes: &Self::Notes, exchange: &Exchange);
}

impl<A: Observer, B: Observer> Observer for (A, B) {
    type Notes = (A::Notes, B::Notes);

    fn wants_duration(&self) -> bool {
        self.0.wants_duration() || self.1.wants_duration()
    }

    fn begin(&self, request: &Head<'_>) -> Self::Notes {
        (self.0.begin(request), self.1.begin(request))
    }

    fn end(&self, notes: &Self::Notes, exchange: &Exchange) {
        self.0.end(&notes.0, exchange);
        self.1.end(&notes.1, exchange);
    }
}

impl<O: Observer> Observer for Option<O> {
    type Notes = Option<O::Notes>;

    fn wants_duration(&self) -> bool {
        self.as_ref().is_some_and(O::wants_duration)
    }

    fn begin(&self, request: &Head<'_>) -> Self::Notes {
        self.as_ref().map(|observer| observer.begin(request))
    }

    fn end(&self, notes: &Self::Notes, exchange: &Exchange) {
        if let (Some(observer), Some(notes)) = (self, notes) {
            observer.end(notes, exchange);
        }
    }
}

/// A request's head, and where it came from.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Head<'a> {
    /// The peer's address, if it is in a network.
    pub peer: Option<SocketAddr>,
    /// Whether it came through TLS.
    pub encrypted: bool,
    /// The method.
    pub method: &'a HttpMethod,
    /// The target.
    pub uri: &'a Uri,
    /// The protocol.
    pub version: Version,
    /// The header fields.
    pub headers: &'a HeaderMap,
}

impl<'a> Head<'a> {
    /// The head of a request on `connection`.
    pub(crate) fn of<B>(request: &'a Request<B>, connection: &Connection) -> Self {
        Self {
            peer: connection.peer(),
            encrypted: connection.is_encrypted(),
            method: request.method(),
            uri: request.uri(),
            version: request.version(),
            headers: request.headers(),
        }
    }
}

/// How an exchange went.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Exchange {
    /// The response's status; `None` if the service had not answered when the connection ended.
    pub status: Option<StatusCode>,
    /// `Complete` or `Aborted`.
    pub outcome: Outcome,
    /// From the request's head to the end of the response; `None` if no observer
    /// [wants it](Observer::wants_duration).
    pub duration: Option<Duration>,
    /// Whether it went through TLS.
    pub encrypted: bool,
    bytes: [u64; METHODS],
}

const METHODS: usize = Method::ALL.len();

impl Exchange {
    /// Bytes of the response's body that went by `method`. What was not lent counts as
    /// [`Method::Copy`], whether it came from a file or from memory.
    pub fn bytes_by(&self, method: Method) -> u64 {
        self.bytes[method as usize]
    }

    /// Bytes of the response's body, without head and framing: of those lent, what the socket's
    /// buffer accepted; of others, what was handed to the HTTP library.
    pub fn bytes_sent(&self) -> u64 {
        self.bytes.iter().sum()
    }

    /// The method that carried most of it; `None` if there was no body.
    pub fn method(&self) -> Option<Method> {
        Method::ALL
            .iter()
            .copied()
            .filter(|method| self.bytes_by(*method) > 0)
            .max_by_key(|method| self.bytes_by(*method))
    }
}

/// An observer whose notes are nobody's business.
pub(crate) trait Watch: Send + Sync {
    /// A request has begun.
    fn begin(self: Arc<Self>, head: &Head<'_>) -> Arc<dyn Open>;
}

impl<O: Observer> Watch for O {
    fn begin(self: Arc<Self>, head: &Head<'_>) -> Arc<dyn Open> {
        Arc::new(Running {
            notes: O::begin(&self, head),
            tally: Tally::new(head, self.wants_duration().then(Instant::now)),
            observer: self,
        })
    }
}

/// An exchange under way; it ends when the last clone is dropped.
pub(crate) trait Open: TransferObserver {
    fn tally(&self) -> &Tally;
}

struct Running<O: Observer> {
    notes: O::Notes,
    tally: Tally,
    observer: Arc<O>,
}

impl<O: Observer> Open for Running<O> {
    fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl<O: Observer> TransferObserver for Running<O> {
    fn transfer_ended(&self, transfer: &Transfer) {
        self.tally.add(transfer);
    }
}

impl<O: Observer> Drop for Running<O> {
    fn drop(&mut self) {
        self.observer.end(&self.notes, &self.tally.sum());
    }
}

/// The body of a response on its way to the HTTP library, seen from outside.
pub(crate) struct Taking {
    exchange: Arc<dyn Open>,
    promised: Option<u64>,
    at_end: bool,
}

impl Taking {
    /// Begins, with the answer that `body` belongs to.
    pub(crate) fn new(exchange: Arc<dyn Open>, status: StatusCode, body: &impl Body) -> Self {
        exchange.tally().answered(status);
        Self {
            exchange,
            promised: body.size_hint().exact(),
            at_end: body.is_end_stream(),
        }
    }

    /// Notes what came out of the body, and whether that was the last of it.
    pub(crate) fn polled<E>(&mut self, polled: Option<&Result<Frame<Bytes>, E>>, at_end: bool) {
        self.exchange.tally().polled(polled);
        self.at_end = at_end;
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        self.exchange.tally().dropped(self.at_end, self.promised);
    }
}

impl fmt::Debug for Taking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.exchange.tally().fmt(f)
    }
}

/// The books of one exchange. One task keeps them at a time.
#[derive(Debug)]
pub(crate) struct Tally {
    /// `None` if nobody wants to know.
    started: Option<Instant>,
    encrypted: bool,
    is_head: bool,
    /// 0 before there is an answer.
    status: AtomicU16,
    /// Body bytes that the HTTP library took.
    handed: AtomicU64,
    taken_to_end: AtomicBool,
    failed: AtomicBool,
    /// Of the transfers that have ended: what they promised, what was sent, whether all of it.
    lent: AtomicU64,
    sent: [AtomicU64; METHODS],
    cut_short: AtomicBool,
}

impl Tally {
    pub(crate) fn new(head: &Head<'_>, started: Option<Instant>) -> Self {
        Self {
            started,
            encrypted: head.encrypted,
            is_head: *head.method == HttpMethod::HEAD,
            status: AtomicU16::new(0),
            handed: AtomicU64::new(0),
            taken_to_end: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            lent: AtomicU64::new(0),
            sent: std::array::from_fn(|_| AtomicU64::new(0)),
            cut_short: AtomicBool::new(false),
        }
    }

    /// Notes what the service answered.
    pub(crate) fn answered(&self, status: StatusCode) {
        self.status.store(status.as_u16(), Relaxed);
    }

    /// Notes what came out of the body.
    pub(crate) fn polled<E>(&self, polled: Option<&Result<Frame<Bytes>, E>>) {
        match polled {
            None => self.taken_to_end.store(true, Relaxed),
            Some(Ok(frame)) => {
                let len = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.handed.store(self.handed.load(Relaxed) + len, Relaxed);
            }
            Some(Err(_)) => self.failed.store(true, Relaxed),
        }
    }

    /// Notes that the HTTP library let go of the body: whether it had said it was at its end, and
    /// the length it had promised.
    pub(crate) fn dropped(&self, at_end: bool, promised: Option<u64>) {
        let all = promised.is_some_and(|len| self.handed.load(Relaxed) >= len);
        // The body of a HEAD's answer is never asked for.
        if at_end || all || self.is_head {
            self.taken_to_end.store(true, Relaxed);
        }
    }

    fn add(&self, transfer: &Transfer) {
        match transfer.outcome {
            // Middleware read it: what became of it is what the HTTP library took.
            Outcome::Unobserved => return,
            Outcome::Complete => {}
            _ => self.cut_short.store(true, Relaxed),
        }
        self.lent.fetch_add(transfer.len, Relaxed);
        for &method in Method::ALL {
            // Nearly all go one way, and adding nothing costs as much as adding something.
            match transfer.bytes_by(method) {
                0 => {}
                bytes => _ = self.sent[method as usize].fetch_add(bytes, Relaxed),
            }
        }
    }

    /// How it went, up to now.
    pub(crate) fn sum(&self) -> Exchange {
        let (taken, handed) = (self.taken_to_end.load(Relaxed), self.handed.load(Relaxed));
        let mut lent = self.lent.load(Relaxed);
        let mut bytes = std::array::from_fn(|i| self.sent[i].load(Relaxed));
        let mut complete = taken && !self.failed.load(Relaxed);
        if taken && handed < lent {
            // The body was made and not used: for a HEAD, or by middleware with an answer of its own.
            (lent, bytes) = (0, [0; METHODS]);
        } else {
            complete &= !self.cut_short.load(Relaxed);
        }
        bytes[Method::Copy as usize] += handed.saturating_sub(lent);
        Exchange {
            status: StatusCode::from_u16(self.status.load(Relaxed)).ok(),
            outcome: match complete {
                true => Outcome::Complete,
                false => Outcome::Aborted,
            },
            duration: self.started.map(|started| started.elapsed()),
            encrypted: self.encrypted,
            bytes,
        }
    }
}

#[cfg(test)]
mod tests;
