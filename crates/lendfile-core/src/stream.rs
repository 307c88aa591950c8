//! The stream that hyper, axum or anybody else writes to: it sends lent slices from their file and
//! all others from memory.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::lent::{self, Lent};
use crate::{Continuation, Error, ErrorKind, FileRegion, Ledger, Transport, log_file_failure};

/// Bytes that one connection may send before other tasks of its thread get a turn, or twice
/// as many if that ends the region. nginx's `sendfile_max_chunk` is the same 2 MiB; at the 7 GB/s
/// measured on one core it is 0.3 ms.
const TURN_BYTES: u64 = 2 << 20;

/// Slices that `sendmsg(2)` takes at most (UIO_MAXIOV, include/uapi/linux/uio.h).
const IOV_MAX: usize = 1024;

/// A connection that recognises [lent bytes](crate::lent) among what is written to it.
///
/// Vectored writes are what it is made for: [`AsyncWrite::is_write_vectored`] is true, which is
/// how hyper knows to pass pointers on instead of copying. Slices may be lent or plain in any
/// order; a head in front of a lent slice leaves in one train of segments with it.
///
/// # Errors
///
/// When part of a write was sent before an error, that part is reported and the error is returned
/// by the next write or flush, so that no count is lost. After an error of kind
/// [`FileChanged`](crate::ErrorKind::FileChanged) the connection must be closed.
///
/// # Cancel safety
///
/// A write that is dropped while pending has sent nothing that it did not report.
pub struct LendStream<T> {
    transport: T,
    ledger: Arc<Ledger>,
    turn_left: u64,
    deferred: Option<io::Error>,
}

impl<T: Transport> LendStream<T> {
    /// A stream over a connected socket.
    pub fn new(transport: T) -> Self {
        Self {
            transport,
            ledger: Ledger::new(),
            turn_left: TURN_BYTES,
            deferred: None,
        }
    }

    /// The connection's books; give them to the bodies that lend to it.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// The socket below.
    pub fn transport(&self) -> &T {
        &self.transport
    }

    /// Has the connection [end by a reset](Transport::reset_on_close).
    pub fn reset_on_close(&mut self) {
        self.transport.reset_on_close();
    }

    /// Sends as much as goes without waiting, and the count of it.
    fn poll_send_all(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(error) = self.deferred.take() {
            return Poll::Ready(Err(error));
        }
        if self.ledger.is_poisoned() {
            let message = "bytes lent to this connection were read after the file had lost them";
            let error = Error::new(ErrorKind::FileChanged, message).into();
            log_file_failure(&error);
            return Poll::Ready(Err(error));
        }
        let mut sent = 0;
        for run in Runs::of(bufs) {
            match self.poll_run(cx, &run) {
                Poll::Ready(Ok(n)) => {
                    sent += n;
                    if (n as u64) < run.len() {
                        return Poll::Ready(Ok(sent));
                    }
                }
                Poll::Ready(Err(error)) if sent > 0 => {
                    self.deferred = Some(error);
                    return Poll::Ready(Ok(sent));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if sent > 0 => return Poll::Ready(Ok(sent)),
                Poll::Pending => {
                    self.turn_left = TURN_BYTES;
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(sent))
    }

    fn poll_run(&mut self, cx: &mut Context<'_>, run: &Run<'_>) -> Poll<io::Result<usize>> {
        match &run.kind {
            Kind::Plain(_) if run.len() == 0 => Poll::Ready(Ok(0)),
            Kind::Plain(_) if self.turn_left == 0 => self.yield_turn(cx),
            Kind::Plain(bufs) => {
                // One call takes no more; a short count is normal.
                let (bufs, continuation) = match bufs.get(..IOV_MAX) {
                    Some(first) if bufs.len() > IOV_MAX => (first, Continuation::More),
                    _ => (*bufs, run.continuation),
                };
                let sent = self.transport.poll_send(cx, bufs, continuation);
                match sent {
                    Poll::Ready(Ok(n)) => {
                        self.turn_left = self.turn_left.saturating_sub(n as u64);
                        self.ledger.record_plain(n);
                    }
                    Poll::Ready(Err(_)) => {}
                    Poll::Pending => self.ledger.record_plain_wait(),
                }
                sent
            }
            Kind::Lent(lent) => self.poll_lent(cx, lent.region(), run.continuation),
        }
    }

    /// Sends a region until it is done, the socket is full, or the turn is over.
    fn poll_lent(
        &mut self,
        cx: &mut Context<'_>,
        mut region: FileRegion,
        continuation: Continuation,
    ) -> Poll<io::Result<usize>> {
        let mut total = 0;
        while !region.is_empty() {
            if self.turn_left == 0 {
                if total > 0 {
                    break;
                }
                return self.yield_turn(cx);
            }
            // What can be finished with another turn's worth is: cutting it costs a short send.
            let turn_bytes = match region.len() <= self.turn_left + TURN_BYTES {
                true => region.len(),
                false => self.turn_left,
            };
            let mut rest = region.clone();
            let turn = rest.split_to(turn_bytes);
            let follows = if rest.is_empty() {
                continuation
            } else {
                Continuation::More
            };
            match self.transport.poll_send_file(cx, &turn, follows) {
                Poll::Ready(Ok(sent)) => {
                    self.ledger.record(region.file(), region.offset(), sent);
                    self.turn_left = self.turn_left.saturating_sub(sent.bytes as u64);
                    total += sent.bytes;
                    region.advance(sent.bytes as u64);
                }
                Poll::Ready(Err(error)) => {
                    log_file_failure(&error);
                    if total == 0 {
                        return Poll::Ready(Err(error));
                    }
                    self.deferred = Some(error);
                    break;
                }
                Poll::Pending if total > 0 => break,
                Poll::Pending => {
                    self.ledger.record_file_wait(
                        region.file(),
                        region.offset(),
                        self.transport.waits_for_file(),
                    );
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(total))
    }

    fn yield_turn<R>(&mut self, cx: &mut Context<'_>) -> Poll<R> {
        self.transport.yield_turn(cx);
        Poll::Pending
    }
}

impl<T: Transport + Unpin> AsyncRead for LendStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.transport.poll_read(cx, buf)
    }
}

impl<T: Transport + Unpin> AsyncWrite for LendStream<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send_all(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send_all(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.deferred.take().map_or(Ok(()), Err))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.poll_shutdown(cx)
    }
}

impl<T: fmt::Debug> fmt::Debug for LendStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LendStream")
            .field("transport", &self.transport)
            .field("ledger", &self.ledger)
            .finish_non_exhaustive()
    }
}

/// Slices that go the same way: neighbours in memory, or one stretch of a file.
struct Run<'a> {
    kind: Kind<'a>,
    continuation: Continuation,
}

enum Kind<'a> {
    Lent(Lent<'a>),
    Plain(&'a [IoSlice<'a>]),
}

impl Run<'_> {
    fn len(&self) -> u64 {
        match &self.kind {
            Kind::Lent(lent) => lent.len(),
            Kind::Plain(bufs) => bufs.iter().map(|buf| buf.len() as u64).sum(),
        }
    }
}

/// Cuts a list of slices into runs.
struct Runs<'a> {
    rest: &'a [IoSlice<'a>],
}

impl<'a> Runs<'a> {
    fn of(bufs: &'a [IoSlice<'a>]) -> Self {
        Self { rest: bufs }
    }
}

impl<'a> Iterator for Runs<'a> {
    type Item = Run<'a>;

    fn next(&mut self) -> Option<Run<'a>> {
        let first = self.rest.first()?;
        let mut taken = 1;
        let kind = match lent::find(first) {
            Some(mut lent) => {
                while let Some(longer) = self
                    .rest
                    .get(taken)
                    .and_then(|next| lent::find(next).and_then(|next| lent.joined_with(&next)))
                {
                    lent = longer;
                    taken += 1;
                }
                Kind::Lent(lent)
            }
            None => {
                taken += self.rest[1..]
                    .iter()
                    .take_while(|buf| lent::find(buf).is_none())
                    .count();
                Kind::Plain(&self.rest[..taken])
            }
        };
        self.rest = &self.rest[taken..];
        let continuation = if self.rest.iter().all(|buf| buf.is_empty()) {
            Continuation::End
        } else {
            Continuation::More
        };
        Some(Run { kind, continuation })
    }
}

#[cfg(test)]
mod tests;
