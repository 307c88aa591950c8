//! Joining two sockets, as a plain future.

mod direction;

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lendfile_core::{Failure, Outcome, Progress, Transfer};

use self::direction::Direction;
use crate::{Socket, TransferOptions};

/// Sends on to `b` what arrives from `a`, and to `a` what arrives from `b`, until both have ended:
/// a zero-copy [`tokio::io::copy_bidirectional`]. Resolves when both directions are done.
///
/// When one peer ends its stream, and all that it sent was accepted by the other's socket, the
/// other's sending half is shut down; the opposite direction goes on (half-close).
///
/// By [`Method::Splice`](lendfile_core::Method::Splice), the choice of `Auto`, bytes go from socket
/// to pipe to socket by reference; no copy is made. A direction holds a pipe only while bytes are
/// on their way: an idle relay has none, one whose receiver has stalled keeps one. Where none is to
/// be had, bytes are copied, 64 KiB at a time.
///
/// Nothing else may read from or write to the two sockets meanwhile.
///
/// # Errors
///
/// The first error of either socket ends the relay, in a [`Failure`] whose report has the exact
/// counts of both directions; the other direction's bytes may be in flight then.
///
/// # Cancel safety
///
/// Poll it by `&mut relay` and it can be polled again, with nothing lost. A relay that is dropped
/// loses bytes that have left one socket and not reached the other; to keep them, end it with
/// [`Relay::into_undelivered`].
///
/// # Panics
///
/// When polled outside of a tokio runtime with timers.
///
/// # Examples
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use lendfile_epoll::{TransferOptions, relay};
/// use tokio::net::{TcpListener, TcpStream};
///
/// let (client, _) = TcpListener::bind("127.0.0.1:7000").await?.accept().await?;
/// let server = TcpStream::connect("192.0.2.1:80").await?;
/// let relayed = relay(&client, &server, TransferOptions::new()).await?;
/// println!("{} bytes up, {} down", relayed.a_to_b.len, relayed.b_to_a.len);
/// # Ok(())
/// # }
/// ```
pub fn relay<'a, A: Socket, B: Socket>(
    a: &'a A,
    b: &'a B,
    options: TransferOptions,
) -> Relay<'a, A, B> {
    Relay {
        a_to_b: Direction::new(a, b, options),
        b_to_a: Direction::new(b, a, options),
        ended: false,
    }
}

/// Two sockets being joined. Made by [`relay`].
#[must_use = "futures do nothing unless polled"]
pub struct Relay<'a, A: Socket, B: Socket> {
    a_to_b: Direction<'a, A, B>,
    b_to_a: Direction<'a, B, A>,
    ended: bool,
}

/// The reports of a relay's two directions. Their lengths are what was received from the one
/// socket, their bytes sent what the other accepted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Relayed {
    /// From the first socket to the second.
    pub a_to_b: Transfer,
    /// From the second to the first.
    pub b_to_a: Transfer,
}

/// Bytes that had left one socket and not reached the other when a relay was given up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Undelivered {
    /// Received from the first socket, to be sent to the second before anything else.
    pub a_to_b: Vec<u8>,
    /// Received from the second, to be sent to the first.
    pub b_to_a: Vec<u8>,
}

impl<A: Socket, B: Socket> Relay<'_, A, B> {
    /// What the second socket has accepted, to be watched while the future runs elsewhere.
    pub fn progress_a_to_b(&self) -> Progress {
        self.a_to_b.progress()
    }

    /// What the first socket has accepted.
    pub fn progress_b_to_a(&self) -> Progress {
        self.b_to_a.progress()
    }

    /// Gives the relay up, without losing what is on its way: at most a pipe's worth, 1 MiB, for
    /// each direction.
    ///
    /// # Errors
    ///
    /// Those of reading from a pipe.
    pub fn into_undelivered(mut self) -> io::Result<Undelivered> {
        Ok(Undelivered {
            a_to_b: self.a_to_b.take_undelivered()?,
            b_to_a: self.b_to_a.take_undelivered()?,
        })
    }

    fn poll_both(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let a_to_b = self.a_to_b.poll_all(cx)?;
        let b_to_a = self.b_to_a.poll_all(cx)?;
        match (a_to_b, b_to_a) {
            (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    }

    fn end(&mut self) -> Relayed {
        self.ended = true;
        Relayed {
            a_to_b: self.a_to_b.end(),
            b_to_a: self.b_to_a.end(),
        }
    }
}

impl<A: Socket, B: Socket> Future for Relay<'_, A, B> {
    type Output = Result<Relayed, Failure<Relayed>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(self.poll_both(cx));
        let report = self.end();
        Poll::Ready(match result {
            Ok(()) => Ok(report),
            Err(error) => Err(Failure::new(report, error)),
        })
    }
}

impl<A: Socket, B: Socket> Drop for Relay<'_, A, B> {
    fn drop(&mut self) {
        if !self.ended && self.progress_a_to_b().bytes() + self.progress_b_to_a().bytes() > 0 {
            self.end();
        }
    }
}

impl Relayed {
    /// Whether both peers ended their streams and all that they sent was accepted.
    pub fn is_complete(&self) -> bool {
        let outcomes = [self.a_to_b.outcome, self.b_to_a.outcome];
        outcomes == [Outcome::Complete; 2]
    }
}

impl<A: Socket, B: Socket> fmt::Debug for Relay<'_, A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("a_to_b", &self.progress_a_to_b())
            .field("b_to_a", &self.progress_b_to_a())
            .finish_non_exhaustive()
    }
}
