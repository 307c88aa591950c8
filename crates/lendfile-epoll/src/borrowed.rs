//! A socket that belongs to somebody else, so that a future can send over it for a while.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags, Shutdown};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{Socket, copy, socket};

/// tokio's sockets read and write by unique reference only; this one does by shared.
#[derive(Debug)]
pub(crate) struct Borrowed<'a, S>(pub(crate) &'a S);

impl<S: AsFd> AsFd for Borrowed<'_, S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl<S: Socket> AsyncRead for Borrowed<'_, S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            let unfilled = buf.initialize_unfilled();
            match self.0.try_read_io(|| receive(self.0, unfilled)) {
                Err(error) if socket::is_transient(&error) => {}
                received => {
                    buf.advance(received?);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl<S: Socket> AsyncWrite for Borrowed<'_, S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            let bufs = [IoSlice::new(buf)];
            let sent = self
                .0
                .try_write_io(|| copy::send(self.0, &bufs, SendFlags::empty()));
            match sent {
                Err(error) if socket::is_transient(&error) => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown_write(self.0))
    }
}

impl<S: Socket> socket::sealed::Sealed for Borrowed<'_, S> {}

impl<S: Socket> Socket for Borrowed<'_, S> {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read_ready(cx)
    }

    fn try_read_io<R>(&self, operation: impl FnMut() -> io::Result<R>) -> io::Result<R> {
        self.0.try_read_io(operation)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_write_ready(cx)
    }

    fn try_write_io<R>(&self, operation: impl FnMut() -> io::Result<R>) -> io::Result<R> {
        self.0.try_write_io(operation)
    }

    fn corked_from(&self) -> Option<u64> {
        self.0.corked_from()
    }

    fn has_low_water_mark(&self) -> bool {
        self.0.has_low_water_mark()
    }
}

/// `recv(2)` without waiting.
pub(crate) fn receive(socket: impl AsFd, buf: &mut [u8]) -> io::Result<usize> {
    let (received, _) = rustix::net::recv(socket, buf, RecvFlags::DONTWAIT)?;
    Ok(received)
}

/// Closes the sending half. A peer that is gone already has no use for the news.
pub(crate) fn shutdown_write(socket: impl AsFd) -> io::Result<()> {
    match rustix::net::shutdown(socket, Shutdown::Write) {
        Err(rustix::io::Errno::NOTCONN) => Ok(()),
        done => Ok(done?),
    }
}
