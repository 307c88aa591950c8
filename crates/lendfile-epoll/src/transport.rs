//! The transport over one socket: which method, tried how often, waiting for what.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use lendfile_core::capabilities::{self, Refusal};
use lendfile_core::{
    Capabilities, Continuation, Error, ErrorKind, FileRegion, Method, MethodSet, Sent, Transport,
};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::SendFlags;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::cork::Cork;
use crate::options::Fallback;
use crate::socket::is_transient;
use crate::{FileReader, Socket, copy};

/// The most that one sendfile is asked for: the fastest size measured (6.8–8.5 GB/s against
/// 5.2–5.5 at 64 KiB; Linux 6.18, loopback), and 0.15 ms of a thread's time.
const SENDFILE_BYTES: usize = 1 << 20;

/// How often sendfile may say EAGAIN of a writable socket before the file is held to be the cause.
const EAGAIN_TRIES: u32 = 4;

const CAPABILITIES: Capabilities = Capabilities::new(MethodSet::EMPTY.with(Method::Sendfile));

/// A [`Transport`] over a socket registered with tokio.
pub struct EpollTransport<S> {
    socket: S,
    method: Method,
    fallback: Fallback,
    cork: Cork,
    reader: FileReader,
}

impl<S: Socket> EpollTransport<S> {
    /// A transport that chooses the method itself.
    pub fn new(socket: S) -> Self {
        Self {
            cork: Cork::new(socket.gains_by_cork()),
            socket,
            method: Method::Auto,
            fallback: Fallback::Allowed,
            reader: FileReader::new(),
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
        self.method = method;
        Ok(self)
    }

    /// Refuses fallback: a file that cannot be sent by the method is an error of kind
    /// [`Unavailable`](lendfile_core::ErrorKind::Unavailable), and none of it is sent.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.fallback = Fallback::Refused;
        self
    }

    /// Lets go of what may have been held back for bytes that now do not come.
    pub(crate) fn release(&mut self) {
        self.cork.release(&self.socket);
    }

    /// What every transport of this backend can do.
    pub fn backend_capabilities() -> &'static Capabilities {
        &CAPABILITIES
    }

    /// Asks for another method from now on; one that this backend does not have is an error of the
    /// next send.
    pub fn ask_for(&mut self, method: Method) {
        self.method = method;
    }

    /// Has the socket hold back partial segments if a body of `len` bytes gains by it, for whoever
    /// sends it some other way.
    pub fn hold_back(&mut self, len: u64, continuation: Continuation) {
        self.cork.hold(&self.socket, len, continuation);
    }

    /// Lets go what was held back.
    pub fn let_go(&mut self) {
        self.cork.release(&self.socket);
    }

    /// The socket.
    pub fn socket(&self) -> &S {
        &self.socket
    }

    fn poll_sendfile(
        &mut self,
        cx: &mut Context<'_>,
        region: &FileRegion,
    ) -> Poll<io::Result<Sent>> {
        // Never more than the region, which lies within the file: past its end the kernel would
        // keep MSG_MORE on and the tail would wait 200 ms (golang/go#41513).
        let count = usize::try_from(region.len()).map_or(SENDFILE_BYTES, |n| n.min(SENDFILE_BYTES));
        let mut syscalls = 0;
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            let sent = self
                .socket
                .try_write_io(|| sendfile(&self.socket, region, count, &mut syscalls));
            match sent {
                Ok(bytes) => {
                    return Poll::Ready(Ok(Sent {
                        bytes,
                        method: Method::Sendfile,
                        syscalls,
                        cold_waits: 0,
                    }));
                }
                Err(error) if is_transient(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_copy(
        &mut self,
        cx: &mut Context<'_>,
        region: &FileRegion,
        more: SendFlags,
    ) -> Poll<io::Result<Sent>> {
        let mut syscalls = 0;
        loop {
            // First the socket: what is read for a full one would be read again.
            ready!(self.socket.poll_write_ready(cx))?;
            let (reader, socket) = (&mut self.reader, &self.socket);
            let sent = copy::with_buffer(|buffer| {
                let n = ready!(reader.poll_read(cx, region, buffer))?;
                // Whether more of the region follows is known only now.
                let more = match n as u64 == region.len() {
                    true => more,
                    false => SendFlags::MORE,
                };
                syscalls += 2;
                let bufs = [IoSlice::new(&buffer[..n])];
                Poll::Ready(socket.try_write_io(|| copy::send(socket, &bufs, more)))
            });
            match ready!(sent) {
                Ok(bytes) => {
                    return Poll::Ready(Ok(Sent {
                        bytes,
                        method: Method::Copy,
                        syscalls,
                        cold_waits: 0,
                    }));
                }
                Err(error) if is_transient(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_method(
        &mut self,
        cx: &mut Context<'_>,
        region: &FileRegion,
        continuation: Continuation,
    ) -> Poll<io::Result<Sent>> {
        loop {
            let choose = match self.fallback {
                Fallback::Allowed => capabilities::choose,
                Fallback::Refused => capabilities::insist,
            };
            let refused = region.file().refused();
            let method = choose(self.method, &CAPABILITIES, refused).map_err(io::Error::from)?;
            if method != Method::Sendfile {
                return self.poll_copy(cx, region, more_flag(continuation));
            }
            match ready!(self.poll_sendfile(cx, region)) {
                Ok(sent) if sent.bytes == 0 => {
                    return Poll::Ready(Err(region.ended_early().into()));
                }
                Ok(sent) => return Poll::Ready(Ok(sent)),
                Err(error) => match capabilities::refusal(&error) {
                    Refusal::Unsupported if self.fallback == Fallback::Refused => {
                        let message = format!("method {method} cannot be had for this file");
                        let unavailable = Error::new(ErrorKind::Unavailable, message);
                        return Poll::Ready(Err(unavailable.with_source(error).into()));
                    }
                    Refusal::Unsupported => {
                        capabilities::downgrade(region.file(), method, &CAPABILITIES, &error);
                    }
                    Refusal::Error => return Poll::Ready(Err(error)),
                },
            }
        }
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
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            let more = more_flag(continuation);
            let sent = self
                .socket
                .try_write_io(|| copy::send(&self.socket, plain, more));
            match sent {
                Err(error) if is_transient(&error) => {}
                sent => {
                    if continuation == Continuation::End {
                        self.cork.release(&self.socket);
                    }
                    return Poll::Ready(sent);
                }
            }
        }
    }

    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        region: &FileRegion,
        continuation: Continuation,
    ) -> Poll<io::Result<Sent>> {
        self.cork.hold(&self.socket, region.len(), continuation);
        let sent = ready!(self.poll_method(cx, region, continuation));
        let ended = match &sent {
            Ok(sent) => continuation == Continuation::End && sent.bytes as u64 == region.len(),
            Err(_) => true,
        };
        if ended {
            self.cork.release(&self.socket);
        }
        Poll::Ready(sent)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.cork.release(&self.socket);
        AsyncWrite::poll_shutdown(Pin::new(&mut self.socket), cx)
    }

    /// Wakes the task after the runtime has looked for events.
    fn yield_turn(&mut self, cx: &mut Context<'_>) {
        // Deferred by the scheduler until the others have run and the driver was polled; the
        // future may be dropped then.
        _ = pin!(tokio::task::yield_now()).poll(cx);
    }

    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    fn method(&self) -> Method {
        self.method
    }
}

impl<S: fmt::Debug> fmt::Debug for EpollTransport<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpollTransport")
            .field("socket", &self.socket)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

fn more_flag(continuation: Continuation) -> SendFlags {
    match continuation {
        Continuation::End => SendFlags::empty(),
        Continuation::More => SendFlags::MORE,
    }
}

/// `sendfile(2)`; WouldBlock only if the socket is its cause.
///
/// A FUSE server may answer a read with EAGAIN, for which no readiness would ever come, so EAGAIN
/// is believed only when the socket is not writable (0.3 µs, and only when a buffer has been
/// filled). The socket may have been drained between the two calls; not several times in a row.
fn sendfile<S: Socket>(
    socket: &S,
    region: &FileRegion,
    count: usize,
    syscalls: &mut u32,
) -> io::Result<usize> {
    for _ in 0..EAGAIN_TRIES {
        *syscalls += 1;
        let mut offset = region.offset();
        match rustix::fs::sendfile(socket, region.file(), Some(&mut offset), count) {
            Err(Errno::AGAIN) if is_writable(socket) => {}
            sent => return Ok(sent?),
        }
    }
    // Either the file, which can be asked, or the kernel has no memory for the socket now, and
    // will say when it has.
    match rustix::io::pread(region.file(), &mut [0_u8; 1], region.offset()) {
        Err(Errno::AGAIN) => {
            let message = "the file's filesystem answers EAGAIN";
            Err(Error::new(ErrorKind::FileUnreadable, message).into())
        }
        _ => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// Whether the socket takes bytes now, asked of the kernel.
pub fn is_writable(socket: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&socket, PollFlags::OUT)];
    let polled = rustix::event::poll(&mut fds, Some(&Timespec::default()));
    polled == Ok(1) && fds[0].revents().contains(PollFlags::OUT)
}
