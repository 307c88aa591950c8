//! The seam: what a backend must be able to do.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

use crate::{Capabilities, Error, FileRegion, Method};

/// Makes the transports of a server's connections out of sockets `S`. What a server is generic
/// over.
pub trait Backend<S>: Clone + Send + Sync + 'static {
    /// What it makes.
    type Transport: Transport + Send + Unpin + 'static;

    /// What every transport of it can do.
    fn capabilities(&self) -> &Capabilities;

    /// The transport over a connected, non-blocking socket, asked for `method`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the backend does not have the
    /// method.
    fn transport(&self, socket: S, method: Method) -> Result<Self::Transport, Error>;
}

/// A connected socket that can send bytes from memory and regions of files.
///
/// Poll-based, so that it fits under hyper's I/O traits as well as under plain futures. Only one
/// task may poll the sending half at a time.
pub trait Transport {
    /// Reads what has arrived; fills nothing at the end of the stream.
    ///
    /// # Errors
    ///
    /// Those of `recv(2)`.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>>;

    /// Sends from memory. Resolves when the socket's buffer has accepted at least one byte (or
    /// all slices are empty), with their number.
    ///
    /// With [`Continuation::More`] the last segment may be held back until the next send.
    ///
    /// # Errors
    ///
    /// Those of `sendmsg(2)`; nothing of this call was sent then.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        plain: &[IoSlice<'_>],
        continuation: Continuation,
    ) -> Poll<io::Result<usize>>;

    /// Sends from a file. Resolves when the socket's buffer has accepted at least one byte; a
    /// short count is normal. `region` is not empty.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::FileChanged`](crate::ErrorKind::FileChanged) when the file has ended before
    /// the region did, else the system's error. Nothing of this call was sent then.
    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        region: &FileRegion,
        continuation: Continuation,
    ) -> Poll<io::Result<Sent>>;

    /// Whether the last [`poll_send_file`](Transport::poll_send_file) that was pending waits for the
    /// file's bytes, so that the peer is not to blame for it. The default says it waits for the
    /// socket.
    fn waits_for_file(&self) -> bool {
        false
    }

    /// Closes the sending half.
    ///
    /// # Errors
    ///
    /// Those of `shutdown(2)`.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Has the connection end by a reset when it is closed, so that what the socket's buffer holds
    /// is thrown away instead of being kept for a peer that does not take it. The default changes
    /// nothing.
    fn reset_on_close(&mut self) {}

    /// Has the task polled again after the others that are ready, and after the runtime has looked
    /// for events; called before `Pending` is returned at the end of a turn.
    ///
    /// The default wakes the task at once, which some runtimes take as leave to poll it again
    /// before they look for events (tokio: 60 times in a row, 18 ms of others' waiting).
    fn yield_turn(&mut self, cx: &mut Context<'_>) {
        cx.waker().wake_by_ref();
    }

    /// What this transport can do.
    fn capabilities(&self) -> &Capabilities;

    /// The method asked for.
    fn method(&self) -> Method {
        Method::Auto
    }
}

/// Whether more bytes follow at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuation {
    /// Nothing follows: what is held back must go out.
    End,
    /// More follows in the same call: the last segment need not be pushed yet.
    More,
}

/// What one [`Transport::poll_send_file`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Bytes accepted by the socket's buffer; more than 0.
    pub bytes: usize,
    /// The way they went; never `Auto`.
    pub method: Method,
    /// System calls it took, those without progress included.
    pub syscalls: u32,
    /// How often it waited for the disk since the last progress.
    pub cold_waits: u32,
}
