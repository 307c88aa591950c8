//! The transport over one socket of tokio's.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use lendfile_core::capabilities;
use lendfile_core::{
    Capabilities, Continuation, Error, FileRegion, Method, MethodSet, Sent, Transport,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Socket;
use crate::sender::{CAPABILITIES, FileSender};
use crate::turn;

/// A [`Transport`] over a socket registered with tokio.
pub struct EpollTransport<S> {
    socket: S,
    sender: FileSender,
}

impl<S: Socket> EpollTransport<S> {
    /// A transport that chooses the method itself.
    pub fn new(socket: S) -> Self {
        Self {
            sender: FileSender::new(),
            socket,
        }
    }

    /// Asks for a method by name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`](lendfile_core::ErrorKind::Unavailable) if it is not one of this
    /// backend's.
    pub fn with_method(mut self, method: Method) -> Result<Self, Error> {
        capabilities::choose(method, &CAPABILITIES, MethodSet::EMPTY)?;
        self.sender.ask_for(method);
        Ok(self)
    }

    /// Refuses fallback: a file that cannot be sent by the method is an error of kind
    /// [`Unavailable`](lendfile_core::ErrorKind::Unavailable), and none of it is sent.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.sender.refuse_fallback();
        self
    }

    /// What every transport of this backend can do.
    pub fn backend_capabilities() -> &'static Capabilities {
        &CAPABILITIES
    }

    /// Asks for another method from now on; one that this backend does not have is an error of the
    /// next send.
    pub fn ask_for(&mut self, method: Method) {
        self.sender.ask_for(method);
    }

    /// Has the socket hold back partial segments if a body of `len` bytes gains by it, for whoever
    /// sends it some other way.
    pub fn hold_back(&mut self, len: u64, continuation: Continuation) {
        self.sender.hold_back(&self.socket, len, continuation);
    }

    /// Lets go of what is held back, perhaps for bytes that now do not come.
    pub fn let_go(&mut self) {
        self.sender.release(&self.socket);
    }

    /// The socket.
    pub fn socket(&self) -> &S {
        &self.socket
    }
}

impl<S: Socket> Transport for EpollTransport<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.socket), cx, buf)
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        plain: &[IoSlice<'_>],
        continuation: Continuation,
    ) -> Poll<io::Result<usize>> {
        self.sender
            .poll_send_plain(cx, &self.socket, plain, continuation)
    }

    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        region: &FileRegion,
        continuation: Continuation,
    ) -> Poll<io::Result<Sent>> {
        self.sender
            .poll_send(cx, &self.socket, region, continuation)
    }

    fn waits_for_file(&self) -> bool {
        self.sender.waits_for_file()
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.let_go();
        AsyncWrite::poll_shutdown(Pin::new(&mut self.socket), cx)
    }

    fn reset_on_close(&mut self) {
        // Without it the socket is closed all the same, and the kernel gives its data up later.
        _ = rustix::net::sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
    }

    /// Wakes the task after the runtime has looked for events.
    fn yield_turn(&mut self, cx: &mut Context<'_>) {
        _ = turn::yield_turn::<()>(cx);
    }

    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    fn method(&self) -> Method {
        self.sender.method()
    }
}

impl<S: fmt::Debug> fmt::Debug for EpollTransport<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpollTransport")
            .field("socket", &self.socket)
            .field("sender", &self.sender)
            .finish()
    }
}
