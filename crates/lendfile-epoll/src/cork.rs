//! When to hold back partial segments during a large body, and letting them go afterwards.
//!
//! sendfile feeds the socket 64 KiB at a time; each batch ends in a partial segment, which is sent
//! as it is unless the socket is corked. Loss-based congestion controls gain by the cork (cubic,
//! 1 MiB: +15 % over veth, +40 % over loopback); BBR paces by delivery rate and loses by it
//! (−10…−20 %). Measured on Linux 6.18; see benches/record.

use std::os::fd::{AsFd, BorrowedFd};

use lendfile_core::Continuation;
use rustix::net::sockopt;

/// Bodies below this many bytes are not corked: at 64 KiB, MSG_MORE on the head alone was faster
/// under cubic and under BBR (facts measured with two namespaces, veth, MTU 1500), and two more
/// system calls weigh more.
const CORK_FROM_BYTES: u64 = 128 << 10;

/// Whether this socket's congestion control gains by the cork.
pub(crate) fn gains(socket: BorrowedFd<'_>) -> bool {
    sockopt::tcp_congestion(socket).is_ok_and(|name| !name.starts_with("bbr"))
}

/// The cork of one connection.
#[derive(Debug)]
pub(crate) struct Cork {
    allowed: bool,
    set: bool,
}

impl Cork {
    pub(crate) fn new(allowed: bool) -> Self {
        Self {
            allowed,
            set: false,
        }
    }

    /// Before `len` bytes of a file are sent. What follows at once (the next HTTP/2 frame, the end
    /// of a chunk) is to share their last segment, which sendfile cannot be told by a flag.
    pub(crate) fn hold(&mut self, socket: impl AsFd, len: u64, continuation: Continuation) {
        let gains = len >= CORK_FROM_BYTES || continuation == Continuation::More;
        if self.allowed && !self.set && gains {
            // A refusal costs nothing but segments; not asked again.
            self.set = sockopt::set_tcp_cork(socket, true).is_ok();
            self.allowed = self.set;
        }
    }

    /// When nothing follows: lets the held-back rest go.
    pub(crate) fn release(&mut self, socket: impl AsFd) {
        if self.set {
            self.set = false;
            if let Err(errno) = sockopt::set_tcp_cork(socket, false) {
                tracing::debug!(%errno, "TCP_CORK could not be taken off");
            }
        }
    }
}
