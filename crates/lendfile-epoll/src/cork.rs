//! When to hold back partial segments during a large body, and letting them go afterwards.
//!
//! sendfile feeds the socket 64 KiB at a time; each batch ends in a partial segment, which is sent
//! as it is unless the socket is corked. Loss-based congestion controls gain by the cork (cubic,
//! 1 MiB: +15 % over veth, +40 % over loopback). BBR, which paces, loses 20 % at 1 MiB and gains 12 to
//! 46 % from 2 MiB on, with a quarter less CPU. Measured on Linux 6.18 in two namespaces;
//! benches/record/2026-11-26-cork-bbr.md.

use std::os::fd::{AsFd, BorrowedFd};

use lendfile_core::Continuation;
use rustix::net::sockopt;

use crate::socket::Socket;

/// Bodies below this many bytes are never corked: at 64 KiB, MSG_MORE on the head alone was faster
/// under cubic and under BBR (facts measured with two namespaces, veth, MTU 1500), and two more
/// system calls weigh more.
const CORK_FROM_BYTES: u64 = 128 << 10;

/// The same under BBR.
const CORK_FROM_BYTES_BBR: u64 = 2 << 20;

/// Bytes from which a body gains by the cork under this socket's congestion control.
pub(crate) fn gains_from(socket: BorrowedFd<'_>) -> Option<u64> {
    let name = sockopt::tcp_congestion(socket).ok()?;
    Some(match name.starts_with("bbr") {
        true => CORK_FROM_BYTES_BBR,
        false => CORK_FROM_BYTES,
    })
}

/// The cork of one connection.
#[derive(Debug, Default)]
pub(crate) struct Cork {
    /// The shortest body that gains by it; none does after a refusal. Asked for with the first body
    /// that may gain, which most connections never have.
    from: Option<Option<u64>>,
    set: bool,
}

impl Cork {
    /// Before `len` bytes of a file are sent. What follows at once (the next HTTP/2 frame, the end
    /// of a chunk) is to share their last segment, which sendfile cannot be told by a flag; under
    /// BBR only if they are many.
    pub(crate) fn hold<S: Socket>(&mut self, socket: &S, len: u64, continuation: Continuation) {
        let more = continuation == Continuation::More;
        if self.set || len < CORK_FROM_BYTES && !more {
            return;
        }
        let Some(from) = *self.from.get_or_insert_with(|| socket.corked_from()) else {
            return;
        };
        let shares = more && from <= CORK_FROM_BYTES;
        if len >= from || shares {
            self.set = sockopt::set_tcp_cork(socket, true).is_ok();
            if !self.set {
                // A refusal costs nothing but segments; not asked again.
                self.from = Some(None);
            }
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
