//! What the transport needs of a socket, so that TCP and Unix sockets share it.

use std::io;
use std::os::fd::AsFd;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};

mod sealed {
    pub trait Sealed {}
    impl Sealed for tokio::net::TcpStream {}
    impl Sealed for tokio::net::UnixStream {}
}

/// A stream socket of tokio's. Sealed: `TcpStream` and `UnixStream` are all there are.
pub trait Socket: AsFd + AsyncRead + AsyncWrite + Unpin + sealed::Sealed {
    /// Waits for tokio to believe that the socket is writable.
    ///
    /// # Errors
    ///
    /// When the runtime is shutting down.
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Runs `operation`; when it would block, the socket counts as not writable until the kernel
    /// says otherwise.
    ///
    /// # Errors
    ///
    /// Those of `operation`.
    fn try_write_io<R>(&self, operation: impl FnMut() -> io::Result<R>) -> io::Result<R>;

    /// Whether `TCP_CORK` should hold back segments during a large body.
    fn gains_by_cork(&self) -> bool;
}

impl Socket for TcpStream {
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_write_ready(self, cx)
    }

    fn try_write_io<R>(&self, operation: impl FnMut() -> io::Result<R>) -> io::Result<R> {
        self.try_io(Interest::WRITABLE, operation)
    }

    fn gains_by_cork(&self) -> bool {
        crate::cork::gains(self.as_fd())
    }
}

impl Socket for UnixStream {
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_write_ready(self, cx)
    }

    fn try_write_io<R>(&self, operation: impl FnMut() -> io::Result<R>) -> io::Result<R> {
        self.try_io(Interest::WRITABLE, operation)
    }

    fn gains_by_cork(&self) -> bool {
        false
    }
}
