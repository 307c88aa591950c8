//! Sending a region of a file over a socket, as a plain future.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lendfile_core::{
    Continuation, Failure, FileRegion, Outcome, Progress, Transfer, Transport, log_file_failure,
};

use crate::borrowed::Borrowed;
use crate::options::Fallback;
use crate::pace::{Pacer, poll_allowance};
use crate::{EpollTransport, Socket, TransferOptions};

/// Sends `region` over `socket`. Resolves when all of it was accepted by the socket's buffer, which
/// is not to say received by the peer.
///
/// Only one task may send over the socket at a time; another may receive.
///
/// # Errors
///
/// A [`Failure`] with the report of what was sent before: of kind `FileChanged` if the file has
/// become shorter, `Unavailable` if the method is not to be had, else the system's error. Unless
/// the socket is the cause, the connection can be used further.
///
/// # Cancel safety
///
/// Nothing is held by the kernel between polls. A future that is dropped has sent exactly
/// [`Progress::bytes`] of the region; go on with `region.advance(bytes)`. Bytes of a
/// [head](SendFile::with_head) are counted by [`SendFile::head_left`].
///
/// # Panics
///
/// When polled outside of a tokio runtime with timers.
///
/// # Examples
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use lendfile_core::{FileRegion, OpenFile};
/// use lendfile_epoll::{TransferOptions, send_file};
///
/// let socket = tokio::net::TcpStream::connect("192.0.2.1:7000").await?;
/// let region = FileRegion::whole(OpenFile::open("segment.log")?);
/// let transfer = send_file(&socket, region, TransferOptions::new()).await?;
/// println!("{} bytes by {:?}", transfer.bytes_sent(), transfer.method());
/// # Ok(())
/// # }
/// ```
pub fn send_file<S: Socket>(
    socket: &S,
    region: FileRegion,
    options: TransferOptions,
) -> SendFile<'_, S> {
    let transport = EpollTransport::new(Borrowed(socket)).with_method(options.method);
    let transport = match options.fallback {
        Fallback::Allowed => transport,
        Fallback::Refused => transport.map(EpollTransport::strict),
    };
    SendFile {
        transport: transport.map_err(|error| Some(error.into())),
        head: Vec::new(),
        head_sent: 0,
        len: region.len(),
        rest: region,
        pacer: options.rate_limit.map(Pacer::new),
        turn_bytes: options.turn_bytes,
        progress: Progress::begin(),
        ended: false,
    }
}

/// A file being sent. Made by [`send_file`].
#[must_use = "futures do nothing unless polled"]
pub struct SendFile<'a, S: Socket> {
    /// Or why it cannot be had.
    transport: Result<EpollTransport<Borrowed<'a, S>>, Option<io::Error>>,
    head: Vec<u8>,
    head_sent: usize,
    rest: FileRegion,
    len: u64,
    pacer: Option<Pacer>,
    turn_bytes: u64,
    progress: Progress,
    ended: bool,
}

impl<S: Socket> SendFile<'_, S> {
    /// Sends these bytes first, in one train of segments with the file's first pages. They are
    /// no part of the report.
    pub fn with_head(mut self, head: impl Into<Vec<u8>>) -> Self {
        self.head = head.into();
        self
    }

    /// Bytes of the head that were not accepted yet.
    pub fn head_left(&self) -> usize {
        self.head.len() - self.head_sent
    }

    /// What has been sent, to be watched while the future runs elsewhere.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let transport = match &mut self.transport {
            Ok(transport) => transport,
            Err(error) => {
                let error = error.take().expect("polled after it had ended");
                return Poll::Ready(Err(error));
            }
        };
        while self.head_sent < self.head.len() {
            let follows = match self.rest.is_empty() {
                true => Continuation::End,
                false => Continuation::More,
            };
            let head = [IoSlice::new(&self.head[self.head_sent..])];
            self.head_sent += ready!(transport.poll_send(cx, &head, follows))?;
        }
        let mut turn_left = self.turn_bytes;
        while !self.rest.is_empty() {
            if turn_left == 0 {
                transport.yield_turn(cx);
                return Poll::Pending;
            }
            let wanted = self.rest.len().min(turn_left);
            let Poll::Ready(allowed) = poll_allowance(&mut self.pacer, cx, wanted) else {
                self.progress.record_wait();
                return Poll::Pending;
            };
            let mut rest = self.rest.clone();
            let part = rest.split_to(allowed);
            // What the rate allows leaves at once: the next part may be long in coming.
            let follows = match rest.is_empty() || self.pacer.is_some() {
                true => Continuation::End,
                false => Continuation::More,
            };
            match transport.poll_send_file(cx, &part, follows) {
                Poll::Ready(sent) => {
                    let sent = sent.inspect_err(log_file_failure)?;
                    let bytes = sent.bytes as u64;
                    self.progress.record(sent);
                    self.rest.advance(bytes);
                    turn_left = turn_left.saturating_sub(bytes);
                    if let Some(pacer) = &mut self.pacer {
                        pacer.take(bytes);
                    }
                }
                Poll::Pending => {
                    self.progress.record_wait();
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Socket> Future for SendFile<'_, S> {
    type Output = Result<Transfer, Failure>;

    /// # Panics
    ///
    /// If polled after it had ended in an error.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(self.poll_send(cx));
        self.ended = true;
        Poll::Ready(match result {
            Ok(()) => Ok(self.progress.end(Outcome::Complete, self.len)),
            Err(error) => {
                let report = self.progress.end(Outcome::Aborted, self.len);
                Err(Failure::new(report, error))
            }
        })
    }
}

impl<S: Socket> Drop for SendFile<'_, S> {
    fn drop(&mut self) {
        if let Ok(transport) = &mut self.transport {
            // The socket's owner goes on without it.
            transport.let_go();
        }
        if !self.ended && self.progress.bytes() > 0 {
            self.progress.end(Outcome::Aborted, self.len);
        }
    }
}

impl<S: Socket> fmt::Debug for SendFile<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendFile")
            .field("rest", &self.rest)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}
