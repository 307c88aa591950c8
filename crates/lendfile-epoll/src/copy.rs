//! The copy path: read into a buffer, send from it. It is what every other method falls back to,
//! and what the tests compare them with.

use std::cell::RefCell;
use std::io::{self, IoSlice};

use crate::PageBuffer;
use rustix::net::{SendAncillaryBuffer, SendFlags};

/// Bytes read at a time. 256 KiB was the fastest of 64 KiB to 1 MiB for read + write on one core
/// (4.0–5.0 GB/s against 2.8–3.1 at 64 KiB; Linux 6.18, loopback).
pub(crate) const COPY_BYTES: usize = 256 << 10;

thread_local! {
    /// One per thread: what was read but not accepted is read again, so nothing is kept in it
    /// between polls and a stalled connection holds no buffer.
    static BUFFER: RefCell<PageBuffer> = RefCell::new(PageBuffer::zeroed(COPY_BYTES));
}

/// Lends the thread's buffer of [`COPY_BYTES`].
pub(crate) fn with_buffer<R>(f: impl FnOnce(&mut [u8]) -> R) -> R {
    BUFFER.with_borrow_mut(|buffer| f(buffer.as_mut()))
}

/// `MSG_MORE` if `more` follows.
pub(crate) fn more_flag(more: bool) -> SendFlags {
    match more {
        true => SendFlags::MORE,
        false => SendFlags::empty(),
    }
}

/// `sendmsg(2)` without SIGPIPE and without waiting.
pub(crate) fn send(
    socket: impl std::os::fd::AsFd,
    bufs: &[IoSlice<'_>],
    more: SendFlags,
) -> io::Result<usize> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT | more;
    Ok(rustix::net::sendmsg(
        socket,
        bufs,
        &mut SendAncillaryBuffer::default(),
        flags,
    )?)
}
