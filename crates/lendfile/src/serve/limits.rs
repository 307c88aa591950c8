//! What a connection may take: the options of [`Serve`](crate::Serve).

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioTimer;

use super::conversation::InSpan;

/// What one connection may take of time, bytes and requests.
///
/// Change what matters and give it to [`Serve::with_limits`](crate::Serve::with_limits). How many
/// connections there may be is [`Connections`](crate::Connections)' business; how long a request's
/// *body* may take is the service's, since only it knows whether it waits for one
/// (`tower_http::timeout::RequestBodyTimeoutLayer`).
///
/// Time limits are noticed by sampling, up to a quarter of the shortest of them late.
///
/// # Examples
///
/// ```
/// let mut limits = lendfile::Limits::default();
/// limits.idle_timeout = Some(std::time::Duration::from_secs(5));
/// limits.min_rate = std::num::NonZeroU64::new(1000);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// From a connection's beginning, or the first byte of a further request, to the end of that
    /// request's head; a TLS handshake included. Default 30 s.
    pub header_timeout: Option<Duration>,
    /// Between a response and the next request. Default 75 s. HTTP/2's PING is no request.
    pub idle_timeout: Option<Duration>,
    /// How long a peer may accept nothing of what there is for it; then the connection is reset.
    /// Default 60 s.
    ///
    /// What counts is that the socket takes bytes, which it does once a third or so of its buffer
    /// is free: a peer that takes a few bytes now and then may be cut. Over TCP
    /// `TCP_USER_TIMEOUT` is set to the same, so the kernel may end the connection first. Over
    /// HTTP/2 the bytes of bodies count, whichever stream's: a peer that opens no window is cut
    /// whatever else it sends. Time that is waited for the disk does not count, but a file whose
    /// pages do not come for ten times this ends the connection, too.
    pub progress_timeout: Option<Duration>,
    /// Bytes per second that a peer must take while there is something for it, as a mean since
    /// the request; looked at from 10 s on. Default none.
    pub min_rate: Option<NonZeroU64>,
    /// Requests on one connection; the last response closes it. Default none.
    pub max_requests: Option<NonZeroU64>,
    /// Bytes of a request's head, 8 KiB at least; a longer one is answered 431. Also what hyper
    /// gathers before it writes, so little is gained above the default of 64 KiB. An HTTP/2 head that
    /// comes in more frames (CONTINUATION) than it needs by far closes the connection.
    pub max_header_bytes: usize,
    /// Header fields of an HTTP/1 request; more are answered 431. Default 100.
    pub max_headers: usize,
    /// HTTP/2: streams at a time. Default 128.
    pub http2_streams: u32,
    /// HTTP/2: streams that a peer may reset before the service has seen them; then the connection is
    /// closed ("rapid reset", CVE-2023-44487). Default 20. (Of streams that a peer's errors make *us*
    /// reset, h2 bears 1,024.)
    pub http2_resets: usize,
    /// HTTP/2: bytes of a frame that we accept. Default 16 KiB, the protocol's minimum.
    pub http2_frame_bytes: u32,
    /// Bytes that the kernel may hold for a TCP peer beyond those under way to it
    /// (`TCP_NOTSENT_LOWAT`). Default 128 KiB.
    ///
    /// Without it a stalled reader's buffer grows to `net.ipv4.tcp_wmem` (4 MiB), and
    /// "the socket accepts bytes" says little about the peer.
    pub unsent_bytes: Option<NonZeroU32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Some(Duration::from_secs(30)),
            idle_timeout: Some(Duration::from_secs(75)),
            progress_timeout: Some(Duration::from_secs(60)),
            min_rate: None,
            max_requests: None,
            max_header_bytes: 64 << 10,
            max_headers: HYPERS_MAX_HEADERS,
            http2_streams: 128,
            http2_resets: 20,
            http2_frame_bytes: 16 << 10,
            unsent_bytes: NonZeroU32::new(128 << 10),
        }
    }
}

/// Why a connection was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cut {
    /// A request's head took too long.
    Header,
    /// Nothing was asked for too long.
    Idle,
    /// The peer accepted nothing for too long.
    Progress,
    /// The peer accepted too little.
    Rate,
}

impl Cut {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Header, Self::Idle, Self::Progress, Self::Rate];

    /// The name used in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Idle => "idle",
            Self::Progress => "progress",
            Self::Rate => "rate",
        }
    }
}

/// hyper's default, for which it needs no allocation.
const HYPERS_MAX_HEADERS: usize = 100;

/// hyper's smallest buffer.
const MIN_HEADER_BYTES: usize = 8 << 10;

impl Limits {
    /// hyper, told of them. Its own header timeout is off: it counts the rest between two requests
    /// as part of the head, and allocates a timer for each request.
    pub(super) fn protocols(&self) -> Protocols {
        let mut http1 = http1::Builder::new();
        http1
            .header_read_timeout(None)
            .half_close(true)
            .max_buf_size(self.max_header_bytes.max(MIN_HEADER_BYTES));
        if self.max_headers != HYPERS_MAX_HEADERS {
            http1.max_headers(self.max_headers);
        }
        let header_bytes = u32::try_from(self.max_header_bytes).unwrap_or(u32::MAX);
        let mut http2 = http2::Builder::new(InSpan);
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.http2_streams)
            .max_pending_accept_reset_streams(self.http2_resets)
            .max_frame_size(self.http2_frame_bytes)
            .max_header_list_size(header_bytes);
        Protocols { http1, http2 }
    }
}

/// hyper, for connections whose version is known.
pub(super) struct Protocols {
    pub(super) http1: http1::Builder,
    pub(super) http2: http2::Builder<InSpan>,
}
