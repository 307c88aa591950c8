//! Receiving from a socket into a file by the ring, as a plain future.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::ops::RangeBounds;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use lendfile_core::{Failure, Method, Progress, Transfer};
use lendfile_epoll::{EpollTransport, Reception, Socket, TransferOptions};

use crate::receive::{End, Peeks, Receive, Stop};
use crate::ring::{Place, Ring};
use crate::target::Target;

/// Receives from `socket` into the part `range` of `file`: exactly as many bytes as it is long, or
/// if it has no end, all until the peer ends the stream. Resolves when they are in the file, which
/// is not to say on the disk.
///
/// As [`lendfile_epoll::recv_file`], except that **writing does not wait for the disk in the
/// thread**: by [`Method::RingFixed`], the choice of [`Method::Auto`], bytes are copied into
/// registered buffers and a worker of the ring writes those, one while the next is filled. That takes
/// two copies by CPU where epoll's splice takes one. With [`Options::direct_io`], or if the file is
/// open with `O_DIRECT`, whole blocks of 4096 bytes go past the page cache, with one copy; what is
/// left over at either end goes through it.
///
/// The file must be a regular file, open for writing and not for appending; it grows as needed and
/// is not truncated. A stalled peer holds no buffer. Where all buffers are in use it waits for one
/// (`ring_waits` of [`statistics`](mod@lendfile_core::statistics)); without a ring, without lockable
/// memory, or polled on another thread than the one it was made on, it goes on as epoll's does,
/// unless the options are [`strict`](TransferOptions::strict).
///
/// Only one task may receive from the socket at a time, by any means; another may send. Meanwhile
/// the socket's `SO_PEEK_OFF` and `SO_RCVLOWAT` are set, and put back in the end.
///
/// # Errors
///
/// A [`Failure`] whose report counts exactly what is in the file. What could not be written is still
/// in the socket, unless epoll's way was taken: then it is in [`Failure::unwritten`]. A peer that
/// ends the stream before the range is full gives [`UnexpectedEof`](io::ErrorKind::UnexpectedEof).
/// Kinds `Misuse` (the file is not of the sort above, or the range is reversed) and `Unavailable`
/// are found before a byte is taken.
///
/// # Cancel safety
///
/// A byte leaves the socket when it is in the file, and is counted then. A future that is dropped
/// has received exactly [`Progress::bytes`]; go on with the range that begins so much later. The
/// ring may still be writing bytes behind them, up to
/// [`Options::buffer_bytes`](crate::Options::buffer_bytes): those that the socket gives next. If the
/// file is to be shortened, or written otherwise, wait for that by [`RecvFile::settle`] first.
///
/// # Panics
///
/// When polled outside of a tokio runtime with timers.
///
/// # Examples
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use lendfile_epoll::TransferOptions;
/// use lendfile_uring::{Runtime, recv_file};
///
/// Runtime::new()?.block_on(async {
///     let listener = tokio::net::TcpListener::bind("127.0.0.1:7000").await?;
///     let (socket, _) = listener.accept().await?;
///     let file = std::fs::File::create("upload")?;
///     let transfer = recv_file(&socket, &file, .., TransferOptions::new()).await?;
///     println!("{} bytes", transfer.bytes_sent());
///     Ok(())
/// })
/// # }
/// ```
///
/// [`Options::direct_io`]: crate::Options::direct_io
pub fn recv_file<'a, S: Socket>(
    socket: &'a S,
    file: &'a impl AsFd,
    range: impl RangeBounds<u64>,
    options: TransferOptions,
) -> RecvFile<'a, S> {
    let ring = Ring::current();
    let capabilities = match &ring {
        Some(ring) => ring.capabilities,
        None => *EpollTransport::<S>::backend_capabilities(),
    };
    RecvFile {
        epoll: lendfile_epoll::RecvFile::with_capabilities(
            socket,
            file,
            range,
            options,
            capabilities,
        ),
        place: ring.map(|ring| ring.intake_place()),
        by_ring: None,
    }
}

/// A file being received. Made by [`recv_file`].
#[must_use = "futures do nothing unless polled"]
pub struct RecvFile<'a, S: Socket> {
    /// Keeps the books, and does what the ring does not.
    epoll: lendfile_epoll::RecvFile<'a, S>,
    /// `None` where there is no ring.
    place: Option<Place>,
    /// `None` until it is first polled.
    by_ring: Option<ByRing<'a, S>>,
}

/// What the ring's way takes besides its place.
struct ByRing<'a, S: Socket> {
    target: Target,
    peeks: Peeks<'a, S>,
    end: Option<End>,
}

impl<'a, S: Socket> ByRing<'a, S> {
    fn begin(ring: &Ring, reception: &Reception<'a, S>) -> io::Result<Self> {
        Ok(Self {
            target: Target::open(reception.file(), ring.options.direct_io)?,
            peeks: Peeks::new(reception.socket()),
            end: None,
        })
    }
}

impl<'a, S: Socket> RecvFile<'a, S> {
    /// What has been written, to be watched while the future runs elsewhere.
    pub fn progress(&self) -> Progress {
        self.epoll.progress()
    }

    /// Stops receiving until the next poll. Resolves when the ring writes nothing to the file any
    /// more, and what it wrote is counted and out of the socket: dropped then, the future leaves the
    /// file alone. Waits for the disk, not for the peer.
    ///
    /// At once, and without that promise, where the ring cannot be asked: on another thread, or when
    /// its runtime has ended.
    ///
    /// # Cancel safety
    ///
    /// Can be dropped and called again.
    pub async fn settle(&mut self) {
        poll_fn(|cx| {
            let has_begun = self.by_ring.is_some();
            let settled = has_begun.then(|| self.with_ring(|receive| receive.poll_settled(cx)));
            match settled.flatten() {
                Some(Ok(settled)) => settled,
                Some(Err(_)) | None => Poll::Ready(()),
            }
        })
        .await;
    }

    /// Runs `f` if there is something under way, and a ring for it. An error says why the ring's way
    /// cannot be taken.
    fn with_ring<R>(
        &mut self,
        f: impl FnOnce(&mut Receive<'_, 'a, S>) -> R,
    ) -> Option<io::Result<R>> {
        let reception = self.epoll.reception()?;
        if reception.method().ok() != Some(Method::RingFixed) {
            return None;
        }
        let (place, slot) = (self.place.as_ref()?, &mut self.by_ring);
        let result = place.with_intake(|ring, intake| {
            let by_ring = match slot {
                Some(by_ring) => by_ring,
                None => slot.insert(ByRing::begin(ring, reception)?),
            };
            let waited = std::mem::take(&mut intake.waits);
            let mut receive = Receive {
                ring,
                intake,
                key: place.key(),
                target: &mut by_ring.target,
                peeks: &by_ring.peeks,
                reception,
                end: &mut by_ring.end,
            };
            let result = f(&mut receive);
            if waited && !intake.waits {
                // Whoever is next in the queue may have what this one was woken for and did not take.
                ring.stop_waiting(place.key());
                ring.pass_on();
            }
            Ok(result)
        });
        Some(result.unwrap_or_else(|| Err(io::Error::other("not on its ring's thread"))))
    }

    /// Goes on by system calls.
    fn leave_ring(&mut self, error: io::Error) -> Result<(), Failure> {
        self.by_ring = None;
        self.place = None;
        let Some(reception) = self.epoll.reception() else {
            return Ok(());
        };
        let refused = reception.refuse(Method::RingFixed, error);
        refused.map_err(|error| self.epoll.fail(error.into()))
    }
}

impl<S: Socket> Future for RecvFile<'_, S> {
    type Output = Result<Transfer, Failure>;

    /// # Panics
    ///
    /// If polled after it had ended.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.with_ring(|receive| receive.poll_all(cx)) {
            None | Some(Ok(Poll::Ready(Ok(())))) => {}
            Some(Ok(Poll::Pending)) => return Poll::Pending,
            Some(Ok(Poll::Ready(Err(Stop::Failed(error))))) => {
                self.by_ring = None;
                return Poll::Ready(Err(self.epoll.fail(error)));
            }
            Some(Ok(Poll::Ready(Err(Stop::Refused(error)))) | Err(error)) => {
                self.leave_ring(error)?;
            }
        }
        // What is complete, or at the stream's end, is so for epoll's way, too.
        Pin::new(&mut self.epoll).poll(cx)
    }
}

impl<S: Socket> fmt::Debug for RecvFile<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvFile")
            .field("epoll", &self.epoll)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
