//! What is kept of an exchange until the log's thread makes a line of it.
//!
//! In the thread that serves, a request's few hundred instructions of formatting run after thousands
//! of the kernel's and find none of their own in the processor's cache; in the log's thread, those of
//! hundreds of lines run in a row.

use std::net::IpAddr;
use std::time::Duration;

use http::header::{HOST, HeaderName, REFERER, USER_AGENT};
use http::{HeaderMap, StatusCode, Version};
use lendfile_core::{Method, Outcome};
use rustix::time::{ClockId, clock_gettime};

use super::LogFormat;
use crate::observe::{Exchange, Head};

/// Bytes of one field at most; a client may send 64 KiB of them.
const FIELD_BYTES: u16 = 4 << 10;

/// What is known of a line when the request has come. Opaque: only the log reads it.
#[derive(Debug)]
pub struct Begun {
    request: RequestPart,
    /// The fields, one behind the other, in one small allocation. Room within this, for whatever may
    /// come, would be copied wherever it goes, which costs more.
    text: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct RequestPart {
    peer: Option<IpAddr>,
    version: Version,
    lengths: Lengths,
}

/// Of what the client has a say in. `None` if it is absent or not wanted.
#[derive(Clone, Copy, Debug)]
struct Lengths {
    method: u16,
    target: u16,
    host: Option<u16>,
    referer: Option<u16>,
    user_agent: Option<u16>,
}

impl Lengths {
    fn total(&self) -> usize {
        let optional = [self.host, self.referer, self.user_agent];
        let optional = optional.into_iter().flatten().map(usize::from);
        usize::from(self.method) + usize::from(self.target) + optional.sum::<usize>()
    }
}

impl Begun {
    pub(super) fn new(format: LogFormat, head: &Head<'_>) -> Self {
        let authority = head.uri.authority().map(|host| host.as_str().as_bytes());
        // As an HTTP/1.1 request line has it: path and query, or what CONNECT and `*` have.
        let target = match head.uri.path_and_query() {
            Some(path) => path.as_str().as_bytes(),
            None => authority.unwrap_or(b"-"),
        };
        let wanted = |name| field(head.headers, &name);
        let (host, referer, user_agent) = match format {
            LogFormat::Common => (None, None, None),
            LogFormat::Combined => (None, wanted(REFERER), wanted(USER_AGENT)),
            LogFormat::Json => (
                wanted(HOST).or(authority),
                wanted(REFERER),
                wanted(USER_AGENT),
            ),
        };
        let method = head.method.as_str().as_bytes();
        let lengths = Lengths {
            method: clipped(method),
            target: clipped(target),
            host: host.map(clipped),
            referer: referer.map(clipped),
            user_agent: user_agent.map(clipped),
        };
        let mut text = Vec::with_capacity(lengths.total());
        let fields = [Some(method), Some(target), host, referer, user_agent];
        for field in fields.into_iter().flatten() {
            text.extend_from_slice(&field[..usize::from(clipped(field))]);
        }
        Self {
            request: RequestPart {
                peer: head.peer.map(|peer| peer.ip()),
                version: head.version,
                lengths,
            },
            text,
        }
    }
}

fn field<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    headers.get(name).map(|value| value.as_bytes())
}

fn clipped(field: &[u8]) -> u16 {
    u16::try_from(field.len()).map_or(FIELD_BYTES, |len| len.min(FIELD_BYTES))
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    /// Since 1970.
    pub(super) time: Duration,
    pub(super) status: Option<StatusCode>,
    pub(super) bytes: u64,
    pub(super) outcome: Outcome,
    /// What carried most of the body; only JSON has it.
    pub(super) via: Option<Method>,
    pub(super) encrypted: bool,
    pub(super) duration: Option<Duration>,
}

impl Ended {
    /// Just now.
    pub(super) fn now(format: LogFormat, exchange: &Exchange) -> Self {
        // It costs next to nothing to look at and goes on with the kernel's timer interrupts, so it is
        // behind by one of them: 1 to 10 ms, as a rule (clock_gettime(2)). Times before 1970 are none.
        let time = clock_gettime(ClockId::RealtimeCoarse);
        Self {
            time: Duration::try_from(time).unwrap_or_default(),
            status: exchange.status,
            bytes: exchange.bytes_sent(),
            outcome: exchange.outcome,
            via: match format {
                LogFormat::Json => exchange.method(),
                LogFormat::Common | LogFormat::Combined => None,
            },
            encrypted: exchange.encrypted,
            duration: exchange.duration,
        }
    }
}

/// Exchanges that have ended.
#[derive(Debug, Default)]
pub(super) struct Records {
    records: Vec<(RequestPart, Ended)>,
    text: Vec<u8>,
}

impl Records {
    pub(super) fn push(&mut self, begun: &Begun, ended: Ended) {
        self.records.push((begun.request, ended));
        self.text.extend_from_slice(&begun.text);
    }

    /// Bytes of memory that they take.
    pub(super) fn size(&self) -> usize {
        size_of_val(self.records.as_slice()) + self.text.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Keeps the memory.
    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.text.clear();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Request<'_>, &Ended)> {
        let mut text = self.text.as_slice();
        let mut next = move |len: u16| {
            let (field, rest) = text.split_at(len.into());
            text = rest;
            field
        };
        self.records.iter().map(move |(request, ended)| {
            let Lengths {
                method,
                target,
                host,
                referer,
                user_agent,
            } = request.lengths;
            // In the order in which they were written.
            let request = Request {
                peer: request.peer,
                version: request.version,
                method: next(method),
                target: next(target),
                host: host.map(&mut next),
                referer: referer.map(&mut next),
                user_agent: user_agent.map(&mut next),
            };
            (request, ended)
        })
    }
}

/// What a client asked for, nothing of it escaped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) peer: Option<IpAddr>,
    pub(super) version: Version,
    pub(super) method: &'a [u8],
    pub(super) target: &'a [u8],
    pub(super) host: Option<&'a [u8]>,
    pub(super) referer: Option<&'a [u8]>,
    pub(super) user_agent: Option<&'a [u8]>,
}
