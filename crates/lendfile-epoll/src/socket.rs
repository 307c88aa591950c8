//! What the transport needs of a socket, so that TCP and Unix sockets share it.

use std::io;
use std::os::fd::AsFd;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};

pub(crate) mod sealed {
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

    /// Waits for tokio to believe that the socket is readable, or at its end.
    ///
    /// # Errors
    ///
    /// When the runtime is shutting down.
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Runs `operation`; when it would block, the socket counts as not readable until the kernel
    /// says otherwise.
    ///
    /// # Errors
    ///
    /// Those of `operation`.
    fn try_read_io<R>(&self, operation: impl FnMut() -> io::Result<R>) -> io::Result<R>;

    /// Runs `operation`; when it would block, the socket counts as not writable until the kernel
    /// says otherwise.
    ///
    /// # Errors
    ///
    /// Those of `operation`.
    fn try_write_io<R>(&self, operation: impl FnMut() -> io::Result<R>) -> io::Result<R>;

    /// Bytes of a body from which `TCP_CORK` should hold back segments during it; `None` if never.
    fn corked_from(&self) -> Option<u64>;

    /// Whether the kernel can be told to report it readable only from some bytes on
    /// (`SO_RCVLOWAT`).
    fn has_low_water_mark(&self) -> bool;
}

impl Socket for TcpStream {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_read_ready(self, cx)
    }

    fn try_read_io<R>(&self, operation: impl FnMut() -> io::Result<R>) -> io::Result<R> {
        self.try_io(Interest::READABLE, operation)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_write_ready(self, cx)
    }

    fn try_write_io<R>(&self, operation: impl FnMut() -> io::Result<R>) -> io::Result<R> {
        self.try_io(Interest::WRITABLE, operation)
    }

    fn corked_from(&self) -> Option<u64> {
        crate::cork::gains_from(self.as_fd())
    }

    fn has_low_water_mark(&self) -> bool {
        true
    }
}

impl Socket for UnixStream {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_read_ready(self, cx)
    }

    fn try_read_io<R>(&self, operation: impl FnMut() -> io::Result<R>) -> io::Result<R> {
        self.try_io(Interest::READABLE, operation)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_write_ready(self, cx)
    }

    fn try_write_io<R>(&self, operation: impl FnMut() -> io::Result<R>) -> io::Result<R> {
        self.try_io(Interest::WRITABLE, operation)
    }

    fn corked_from(&self) -> Option<u64> {
        None
    }

    /// `unix_poll` does not look at it (net/unix/af_unix.c).
    fn has_low_water_mark(&self) -> bool {
        false
    }
}

/// Errors after which the same is tried again: the readiness was stale, or a signal came.
pub(crate) fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
