//! The transport over one socket of tokio's: the file's way by the ring, everything else as the
//! epoll backend does it.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use lendfile_core::capabilities::{self, Refusal};
use lendfile_core::{
    Capabilities, Continuation, Error, FileRegion, Method, MethodSet, Sent, Transport,
};
use lendfile_epoll::{ColdTurn, EpollTransport, Socket, warm_bytes};
use tokio::io::ReadBuf;

use crate::drain::{Drain, unclaimed};
use crate::flow::{Demand, Stop};
use crate::ring::{Place, Ring};

/// The methods that need the ring.
const BY_RING: [Method; 3] = [Method::RingFixed, Method::RingHybrid, Method::RingSplice];

/// A [`Transport`] over a socket registered with tokio, on the thread of a
/// [`Runtime`](crate::Runtime).
///
/// It is `Send`, but its ring is not: polled on another thread it sends by the epoll backend.
///
/// # Cancel safety
///
/// With [`Method::RingSplice`] bytes may be under way when a write is dropped while pending. They
/// are reported by the next write, which must begin with the same bytes; any other write is an
/// error, as nobody could say then what the peer has. hyper always goes on with the same bytes.
pub struct UringTransport<S> {
    epoll: EpollTransport<S>,
    method: Method,
    capabilities: Capabilities,
    /// `None` where there was no ring when it was made.
    place: Option<Place>,
    /// The socket's descriptor once more, for the ring: it may look it up late.
    duplicate: Option<Arc<OwnedFd>>,
    /// Where the file under way was found not to be in the page cache.
    cold_at: Option<u64>,
    turn: ColdTurn,
    /// Whether the last send went by the ring.
    by_ring: bool,
    under_way: UnderWay,
    /// Whether it waits for a pipe or a buffer.
    waits: bool,
}

/// What the ring moves into the socket while a write is pending. Until it is reported, nothing else
/// may be sent, also where the ring cannot be asked any more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UnderWay {
    Nothing,
    Bytes,
    /// Bytes that nobody can be told of: every write is an error from then on.
    Lost,
}

impl<S: Socket> UringTransport<S> {
    pub(crate) fn new(socket: S, capabilities: Capabilities) -> Self {
        Self {
            epoll: EpollTransport::new(socket),
            method: Method::Auto,
            capabilities,
            place: Ring::current().map(|ring| ring.flow_place()),
            duplicate: None,
            cold_at: None,
            turn: ColdTurn::default(),
            by_ring: false,
            under_way: UnderWay::Nothing,
            waits: false,
        }
    }

    /// Asks for a method by name.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](lendfile_core::ErrorKind::Unavailable) if it is not one of this backend's on this machine.
    pub(crate) fn with_method(mut self, method: Method) -> Result<Self, Error> {
        capabilities::choose(method, &self.capabilities, MethodSet::EMPTY)?;
        self.method = method;
        Ok(self)
    }

    /// The socket.
    pub fn socket(&self) -> &S {
        self.epoll.socket()
    }

    /// Sends by the ring; `None` if this thread has not the ring of this transport.
    fn poll_ring(
        &mut self,
        cx: &mut Context<'_>,
        region: &FileRegion,
        continuation: Continuation,
        method: Method,
        at_most: usize,
    ) -> Option<Poll<Result<Sent, Stop>>> {
        let by_ring = match method {
            Method::RingSplice => match self.duplicate() {
                Ok(duplicate) => Some(duplicate),
                Err(error) => return Some(Poll::Ready(Err(Stop::Missing(error)))),
            },
            _ => None,
        };
        let place = self.place.as_ref()?;
        let socket = self.epoll.socket();
        let (sent, is_draining, waits) = place.with(|ring, flow| {
            let mut drain = Drain {
                ring,
                flow,
                key: place.key(),
                socket,
                demand: Demand {
                    region,
                    continuation,
                    method,
                },
                at_most,
            };
            let sent = match &by_ring {
                Some(duplicate) => drain.poll_by_ring(cx, duplicate),
                None => drain.poll_inline(cx),
            };
            (sent, flow.drain.is_some(), flow.waits)
        })?;
        self.waits = waits;
        self.under_way = match sent {
            Poll::Ready(Err(Stop::Unclaimed)) => UnderWay::Lost,
            _ if is_draining => UnderWay::Bytes,
            _ => UnderWay::Nothing,
        };
        Some(sent)
    }

    /// The socket's descriptor once more, made when it is first needed.
    fn duplicate(&mut self) -> io::Result<Arc<OwnedFd>> {
        if let Some(duplicate) = &self.duplicate {
            return Ok(duplicate.clone());
        }
        let duplicate = Arc::new(self.epoll.socket().as_fd().try_clone_to_owned()?);
        self.duplicate = Some(duplicate.clone());
        Ok(duplicate)
    }

    /// Tries the methods from the one that was asked for downwards.
    fn poll_methods(
        &mut self,
        cx: &mut Context<'_>,
        region: &FileRegion,
        continuation: Continuation,
    ) -> Poll<io::Result<Sent>> {
        if self.under_way == UnderWay::Lost {
            return Poll::Ready(Err(unclaimed()));
        }
        let mut missing = MethodSet::EMPTY;
        loop {
            let refused = region.file().refused().and(missing);
            let method = capabilities::choose(self.method, &self.capabilities, refused)
                .map_err(io::Error::from)?;
            let method = match capabilities::choose_cold(self.method, &self.capabilities, refused) {
                _ if self.under_way == UnderWay::Bytes => Method::RingSplice,
                Some(cold) if !self.is_warm(region) => cold,
                _ => method,
            };
            self.by_ring = BY_RING.contains(&method);
            if !self.by_ring {
                self.epoll.ask_for(method);
                return self.epoll.poll_send_file(cx, region, continuation);
            }
            self.epoll.hold_back(region.len(), continuation);
            // A method that was asked for by name is what it is.
            let is_cold = self.method == Method::Auto;
            let at_most = match is_cold {
                true => {
                    ready!(self.turn.poll(cx));
                    usize::try_from(self.turn.bytes()).unwrap_or(usize::MAX)
                }
                false => usize::MAX,
            };
            let Some(sent) = self.poll_ring(cx, region, continuation, method, at_most) else {
                if self.under_way == UnderWay::Bytes {
                    return Poll::Ready(Err(self.lose()));
                }
                missing = BY_RING.into_iter().fold(missing, MethodSet::with);
                continue;
            };
            match ready!(sent) {
                Ok(sent) => {
                    self.turn.spend(sent.bytes as u64);
                    return Poll::Ready(Ok(sent));
                }
                Err(Stop::Ended) => return Poll::Ready(Err(region.ended_early().into())),
                Err(Stop::Missing(error)) => {
                    tracing::debug!(%error, %method, "the ring's method cannot be had now");
                    missing = missing.with(method);
                }
                Err(Stop::Failed(error)) => match capabilities::refusal(&error) {
                    Refusal::Unsupported => {
                        let file = region.file();
                        capabilities::downgrade(file, method, &self.capabilities, &error);
                    }
                    Refusal::Error => return Poll::Ready(Err(region.unreadable(error).into())),
                },
                Err(Stop::Socket(error)) => return Poll::Ready(Err(error)),
                Err(Stop::Unclaimed) => return Poll::Ready(Err(unclaimed())),
            }
        }
    }

    /// Whether the next call's worth of the region can be sent without waiting for the disk. What
    /// the ring has brought near already is not asked for, and what was found cold goes by the
    /// ring: the question has set off its reading, and some of it may be there by now.
    fn is_warm(&mut self, region: &FileRegion) -> bool {
        if self.cold_at == Some(region.offset()) {
            return false;
        }
        let place = self.place.as_ref();
        let by_ring = place.and_then(|place| place.with(|_, flow| flow.is_at(region)));
        let warm = by_ring == Some(false) && warm_bytes(region) > 0;
        self.cold_at = (!warm).then(|| region.offset());
        warm
    }

    /// Waits for bytes that the ring has under way, before anything else is done with the socket.
    fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.under_way {
            UnderWay::Nothing => return Poll::Ready(Ok(())),
            UnderWay::Bytes => {}
            UnderWay::Lost => return Poll::Ready(Err(unclaimed())),
        }
        let place = self.place.as_ref();
        let settled = place.and_then(|place| place.with(|_, flow| flow.poll_settled(cx)));
        // Without its ring nobody will ever know how many they were.
        match settled {
            Some(Poll::Pending) => Poll::Pending,
            Some(Poll::Ready(0)) => {
                self.under_way = UnderWay::Nothing;
                Poll::Ready(Ok(()))
            }
            _ => Poll::Ready(Err(self.lose())),
        }
    }

    fn lose(&mut self) -> io::Error {
        self.under_way = UnderWay::Lost;
        unclaimed()
    }

    /// Does something with the socket, and lets the next have the pipe or buffer that was waited for
    /// if it was not taken.
    fn unless_waiting<R>(&mut self, act: impl FnOnce(&mut Self) -> R) -> R {
        let waited = std::mem::take(&mut self.waits);
        let result = act(self);
        if let (true, false, Some(place)) = (waited, self.waits, &self.place) {
            place.with(|ring, _| {
                ring.stop_waiting(place.key());
                ring.pass_on();
            });
        }
        result
    }

    fn reset(&self) {
        if let Some(place) = &self.place {
            place.with(|_, flow| flow.reset());
        }
    }
}

impl<S: Socket> Transport for UringTransport<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.epoll.poll_read(cx, buf)
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        plain: &[IoSlice<'_>],
        continuation: Continuation,
    ) -> Poll<io::Result<usize>> {
        ready!(self.unless_waiting(|this| this.poll_settled(cx)))?;
        let sent = ready!(self.epoll.poll_send(cx, plain, continuation));
        if continuation == Continuation::End {
            self.reset();
        }
        Poll::Ready(sent)
    }

    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        region: &FileRegion,
        continuation: Continuation,
    ) -> Poll<io::Result<Sent>> {
        let sent = self.unless_waiting(|this| this.poll_methods(cx, region, continuation));
        let sent = ready!(sent);
        let ended = match &sent {
            Ok(sent) => continuation == Continuation::End && sent.bytes as u64 == region.len(),
            Err(_) => true,
        };
        self.cold_at = None;
        if ended {
            self.reset();
            self.epoll.let_go();
        }
        Poll::Ready(sent)
    }

    fn waits_for_file(&self) -> bool {
        if !self.by_ring {
            return self.epoll.waits_for_file();
        }
        let place = self.place.as_ref();
        place.and_then(|place| place.with(|_, flow| flow.waits_for_file)) == Some(true)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What a write has left under way goes out before the end does.
        if let Err(error) = ready!(self.unless_waiting(|this| this.poll_settled(cx))) {
            tracing::debug!(%error, "shut down behind it");
        }
        self.reset();
        self.epoll.poll_shutdown(cx)
    }

    fn reset_on_close(&mut self) {
        self.epoll.reset_on_close();
    }

    fn yield_turn(&mut self, cx: &mut Context<'_>) {
        self.epoll.yield_turn(cx);
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn method(&self) -> Method {
        self.method
    }
}

impl<S: fmt::Debug> fmt::Debug for UringTransport<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UringTransport")
            .field("epoll", &self.epoll)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}
