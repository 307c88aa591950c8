//! A file as the body of a response.

mod concat;
mod owned;
mod paced;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::{fmt, io, mem};

use bytes::Bytes;
use http::Extensions;
use http_body::{Body, Frame, SizeHint};
use lendfile_core::lent::Mapping;
use lendfile_core::statistics::NOT_LENT;
use lendfile_core::{FileRegion, Method, RateLimit, Transfer, TransferToken};

use self::concat::Concat;
use self::owned::Owned;
use self::paced::Paced;
use crate::Connection;

/// Files up to this many bytes are read and sent with their head in one call, unless a method was
/// asked for by name: below it the fixed cost of a second system call is more than the copy
/// (64 KiB hot: 11.0 Gbit/s per core by pread + writev, 7.95 by sendfile; talon's measurement).
const SMALL_BYTES: u64 = 32 << 10;

/// The longest frame. h2 refuses one of 2 GiB (MAX_WINDOW_SIZE); 1 GiB costs nothing.
const FRAME_BYTES: u64 = 1 << 30;

/// A lent body on a stream that may not be ours keeps its last page back and reads it itself.
const PAGE_BYTES: u64 = 4096;

/// Who decides whether a body's bytes are lent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lending {
    /// Lend where the connection advertises it by a [`Connection`] in the request's extensions,
    /// else stream owned chunks.
    #[default]
    Advertised,
    /// Always lend. For servers whose every connection is a [`LendStream`](crate::LendStream) but
    /// which give the service no handle; the last page of each body is read and sent apart.
    ///
    /// **On any other stream the file is read through its mapping.** That waits for the disk inside
    /// the server's thread, and if the file is truncated while a stream such as TLS or HTTP/2
    /// still has to read what it was given, zeros are sent in place of what is gone.
    Always,
    /// Never lend.
    Never,
}

/// The body of a response: a part of a file, bytes in memory, or several of these one behind the
/// other.
///
/// Its frames are [`Bytes`], so it works in any service and under any middleware; its size hint
/// is exact (but for a directory listing, which is written while it is sent). On a connection that [advertises](Connection) it, each GiB of the region is one frame
/// of *lent* bytes, which the connection's stream sends from the file without reading them. Whoever
/// reads them instead gets the file's content. Elsewhere the file is read, without blocking the
/// thread, in owned chunks.
///
/// # Errors
///
/// A file that has become shorter since it was opened ends in an error of kind
/// [`FileChanged`](crate::ErrorKind::FileChanged), which makes the HTTP library abort the response.
///
/// # Examples
///
/// ```
/// # use http::{Request, Response};
/// # use lendfile::{FileBody, FileRegion, OpenFile};
/// fn handler<B>(request: &Request<B>) -> std::io::Result<Response<FileBody>> {
///     let file = OpenFile::open("Cargo.toml")?;
///     let region = FileRegion::whole(file);
///     Ok(Response::new(FileBody::for_request(region, request.extensions())))
/// }
/// # let response = handler(&Request::new(())).unwrap();
/// # use http_body::Body;
/// # assert!(response.body().size_hint().exact().unwrap() > 0);
/// ```
pub struct FileBody {
    state: State,
    token: Option<TransferToken>,
}

enum State {
    Concat(Box<Concat>),
    Done,
    /// The lent frame has been handed out; the mapping tells whether it was read and found missing.
    Handed(Arc<Mapping>),
    /// To be lent to a connection that checks for missing pages before it sends on.
    Lent(Arc<Mapping>, FileRegion),
    /// To be lent to who knows whom.
    LentBlindly(Arc<Mapping>, FileRegion),
    Memory(Bytes),
    Owned(Owned),
    Paced(Box<Paced>),
    /// Written while it is sent.
    Rendered(Box<dyn Iterator<Item = Bytes> + Send>),
    /// The last page of a body lent blindly.
    Tail(Arc<Mapping>, Owned),
}

impl FileBody {
    /// A body without bytes.
    pub fn empty() -> Self {
        Self::memory(Bytes::new())
    }

    /// A body from memory.
    pub fn memory(bytes: impl Into<Bytes>) -> Self {
        Self {
            state: State::Memory(bytes.into()),
            token: None,
        }
    }

    /// Lends on a connection that advertises it, else streams owned chunks. `extensions` are the
    /// request's.
    pub fn for_request(region: FileRegion, extensions: &Extensions) -> Self {
        Self::new(region, Lending::Advertised, extensions)
    }

    /// A body of `region`, lent or not as `lending` says. `extensions` are the request's.
    pub fn new(region: FileRegion, lending: Lending, extensions: &Extensions) -> Self {
        let connection = Connection::find(extensions);
        let method = connection.map_or(Method::Auto, Connection::method);
        match method == Method::Auto && region.len() <= SMALL_BYTES {
            true => Self::owned(region),
            false => Self::of_any_length(region, lending, connection),
        }
    }

    /// The same, lent however short it is: for parts of a larger file.
    pub(crate) fn part(region: FileRegion, lending: Lending, extensions: &Extensions) -> Self {
        Self::of_any_length(region, lending, Connection::find(extensions))
    }

    /// A file's bytes as they were read into memory.
    pub(crate) fn snapshot(bytes: Bytes) -> Self {
        let body = Self::memory(bytes);
        // The report costs an allocation and two looks at the clock: only for who reads it.
        match TransferToken::is_logged() {
            true => body.with_token(),
            false => body,
        }
    }

    /// Bytes that are made as they are sent, without a length known before.
    pub(crate) fn rendered(pages: impl Iterator<Item = Bytes> + Send + 'static) -> Self {
        Self {
            state: State::Rendered(Box::new(pages)),
            token: None,
        }
    }

    /// Several bodies one behind the other. Its report is the sum of theirs.
    pub fn concat(bodies: impl IntoIterator<Item = Self>) -> Self {
        Self {
            state: State::Concat(Box::new(Concat::new(bodies))),
            token: None,
        }
    }

    fn of_any_length(
        region: FileRegion,
        lending: Lending,
        connection: Option<&Connection>,
    ) -> Self {
        let method = connection.map_or(Method::Auto, Connection::method);
        let lends = match lending {
            Lending::Advertised => connection.is_some(),
            Lending::Always => true,
            Lending::Never => false,
        };
        if !lends || region.is_empty() || method == Method::Copy {
            return Self::owned(region);
        }
        match region.map() {
            Ok(mapping) => Self::lent(region, mapping, connection),
            Err(reason) => {
                NOT_LENT.increment(reason);
                if method == Method::Auto {
                    tracing::debug!(%reason, "not lent: sent as owned chunks");
                } else {
                    tracing::warn!(%reason, asked = method.name(), "not lent: sent as owned chunks");
                }
                Self::owned(region)
            }
        }
    }

    fn with_token(mut self) -> Self {
        if self.token.is_none()
            && let Some(len) = self.state.len()
        {
            self.token = Some(TransferToken::begin(len));
        }
        self
    }

    fn owned(region: FileRegion) -> Self {
        if region.is_empty() {
            return Self::empty();
        }
        let token = TransferToken::begin(region.len());
        Self {
            state: State::Owned(Owned::new(region)),
            token: Some(token),
        }
    }

    fn lent(region: FileRegion, mapping: Arc<Mapping>, connection: Option<&Connection>) -> Self {
        let token = match connection {
            Some(connection) => {
                let token = connection.ledger().begin(&region, &mapping);
                if let Some(exchange) = connection.exchange() {
                    token.observe(exchange);
                }
                token
            }
            None => TransferToken::begin(region.len()),
        };
        Self {
            state: match connection {
                Some(_) => State::Lent(mapping, region),
                None => State::LentBlindly(mapping, region),
            },
            token: Some(token),
        }
    }

    /// Hands its bytes out no faster than `limit` allows: a burst, then the rate. What is lent stays
    /// lent, and every middleware works as without; over HTTP/2 each stream has its own limit.
    ///
    /// # Panics
    ///
    /// A limited body panics when polled outside of a tokio runtime with timers.
    #[must_use]
    pub fn rate_limit(self, limit: RateLimit) -> Self {
        Self {
            state: State::Paced(Box::new(Paced::new(self, limit))),
            token: None,
        }
    }

    /// Whether its bytes, or some of them, are or were lent.
    pub fn is_lent(&self) -> bool {
        match &self.state {
            State::Concat(concat) => concat.is_lent(),
            State::Paced(paced) => paced.body().is_lent(),
            State::Done | State::Memory(_) | State::Owned(_) | State::Rendered(_) => false,
            State::Handed(_) | State::Lent(..) | State::LentBlindly(..) | State::Tail(..) => true,
        }
    }

    /// Calls `callback` with the report when the transfer ends: after the last byte was accepted
    /// by the socket, or when the connection let go of them. For bytes that are not lent: when the
    /// body is dropped. It runs in the connection's task and must not block. A directory listing
    /// has no report.
    #[must_use]
    pub fn on_end(mut self, callback: impl FnOnce(Transfer) + Send + 'static) -> Self {
        if let State::Concat(concat) = &mut self.state {
            concat.on_end(Box::new(callback));
            return self;
        }
        if let State::Paced(paced) = self.state {
            let paced = paced.map_body(|body| body.on_end(callback));
            self.state = State::Paced(Box::new(paced));
            return self;
        }
        let body = self.with_token();
        if let Some(token) = &body.token {
            token.on_end(callback);
        }
        body
    }
}

impl State {
    /// Bytes not yet handed out, if that is known.
    fn len(&self) -> Option<u64> {
        match self {
            Self::Concat(concat) => concat.len(),
            Self::Done | Self::Handed(_) => Some(0),
            Self::Lent(_, region) | Self::LentBlindly(_, region) => Some(region.len()),
            Self::Memory(bytes) => Some(bytes.len() as u64),
            Self::Paced(paced) => paced.len(),
            Self::Owned(owned) | Self::Tail(_, owned) => Some(owned.len()),
            Self::Rendered(_) => None,
        }
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let FileBody { state, token } = &mut *self;
        let bytes = match mem::replace(state, State::Done) {
            State::Concat(mut concat) => {
                let polled = concat.poll_frame(cx);
                if !matches!(polled, Poll::Ready(None | Some(Err(_)))) {
                    *state = State::Concat(concat);
                }
                return polled;
            }
            State::Paced(mut paced) => {
                let polled = paced.poll_frame(cx);
                if !matches!(polled, Poll::Ready(None | Some(Err(_)))) {
                    *state = State::Paced(paced);
                }
                return polled;
            }
            State::Done => {
                if let Some(token) = token {
                    token.taken_to_end();
                }
                return Poll::Ready(None);
            }
            State::Handed(mapping) => {
                mapping.check()?;
                return self.poll_frame(cx);
            }
            State::Lent(mapping, mut rest) => {
                let first = rest.split_to(FRAME_BYTES);
                let bytes = mapping.lend(&first, token.clone());
                *state = match rest.is_empty() {
                    true => State::Handed(mapping),
                    false => State::Lent(mapping, rest),
                };
                bytes
            }
            State::LentBlindly(mapping, mut rest) => {
                // The last page follows only after a look at whether what was read before was
                // there, and from memory of its own.
                let tail_offset = (rest.offset() + rest.len() - 1) / PAGE_BYTES * PAGE_BYTES;
                let lendable = tail_offset.saturating_sub(rest.offset());
                let first = rest.split_to(lendable.min(FRAME_BYTES));
                if first.is_empty() {
                    *state = State::Tail(mapping, Owned::new(rest));
                    return self.poll_frame(cx);
                }
                let bytes = mapping.lend(&first, token.clone());
                *state = State::LentBlindly(mapping, rest);
                bytes
            }
            State::Tail(mapping, mut tail) => {
                mapping.check()?;
                let chunk = tail.poll_chunk(cx)?;
                if chunk.is_pending() || tail.len() > 0 {
                    *state = State::Tail(mapping, tail);
                } else {
                    *state = State::Handed(mapping);
                }
                let chunk = ready!(chunk);
                if let Some(token) = token
                    && matches!(state, State::Handed(_))
                {
                    token.taken_to_end();
                }
                chunk
            }
            State::Memory(bytes) if bytes.is_empty() => return Poll::Ready(None),
            State::Memory(bytes) => {
                if let Some(token) = token {
                    token.record(Method::Copy, bytes.len() as u64, 1);
                }
                bytes
            }
            State::Rendered(mut pages) => {
                let Some(page) = pages.next() else {
                    return Poll::Ready(None);
                };
                *state = State::Rendered(pages);
                page
            }
            State::Owned(mut owned) => {
                let chunk = owned.poll_chunk(cx)?;
                if chunk.is_pending() || owned.len() > 0 {
                    *state = State::Owned(owned);
                }
                let chunk = ready!(chunk);
                // Booked when handed to the HTTP library: nobody recognises owned bytes later.
                if let Some(token) = token {
                    token.record(Method::Copy, chunk.len() as u64, 1);
                }
                chunk
            }
        };
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.state.len() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.state
            .len()
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl fmt::Debug for FileBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileBody")
            .field("len", &self.state.len())
            .field("transfer", &self.token)
            .finish_non_exhaustive()
    }
}
