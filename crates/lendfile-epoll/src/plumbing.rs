//! Joining a pipe to a socket, either way.

use std::io;
use std::os::fd::AsFd;

use rustix::pipe::SpliceFlags;

use crate::Pipe;

/// Splices up to `max` bytes from the socket into an empty pipe; 0 at the end of the stream.
/// WouldBlock says that the socket is empty, since the pipe is not full.
pub(crate) fn fill(pipe: &mut Pipe, socket: impl AsFd, max: usize) -> io::Result<usize> {
    debug_assert_eq!(pipe.held(), 0, "EAGAIN would be ambiguous");
    let flags = SpliceFlags::NONBLOCK;
    let n = rustix::pipe::splice(socket, None, pipe.writer(), None, max, flags)?;
    pipe.filled(n);
    Ok(n)
}

/// Splices from a pipe that holds something into the socket. WouldBlock says that the socket is
/// full, since the pipe is not empty.
pub(crate) fn drain(pipe: &mut Pipe, socket: impl AsFd) -> io::Result<usize> {
    let flags = SpliceFlags::NONBLOCK;
    let n = rustix::pipe::splice(pipe.reader(), None, socket, None, pipe.held(), flags)?;
    pipe.drained(n);
    Ok(n)
}
