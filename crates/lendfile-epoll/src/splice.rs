//! `splice(2)`: from the file into a pipe, from the pipe into the socket.

use std::io;

use lendfile_core::{Continuation, Error, ErrorKind, FileRegion};
use rustix::io::Errno;
use rustix::pipe::SpliceFlags;

use crate::{Pipe, Socket};

/// Sends the region's start by way of `pipe`; 0 if the file has ended. WouldBlock only if the
/// socket is full and has taken nothing of it.
///
/// The pipe is empty again afterwards, or spoilt: what the socket did not take is thrown away and
/// read again from the page cache, so that no stalled peer holds a pipe.
pub(crate) fn send<S: Socket>(
    socket: &S,
    region: &FileRegion,
    continuation: Continuation,
    pipe: &mut Pipe,
    syscalls: &mut u32,
) -> io::Result<usize> {
    fill(pipe, region, syscalls)?;
    let filled = pipe.held();
    // Not past the file's end: the tail would wait for more. What was read bounds it.
    let more = filled as u64 != region.len() || continuation == Continuation::More;
    let flags = match more {
        true => SpliceFlags::NONBLOCK | SpliceFlags::MORE,
        false => SpliceFlags::NONBLOCK,
    };
    while pipe.held() > 0 {
        // The pipe holds something, so it is the socket that would block.
        let moved = socket.try_write_io(|| {
            *syscalls += 1;
            let moved = rustix::pipe::splice(pipe.reader(), None, socket, None, pipe.held(), flags);
            Ok(moved?)
        });
        match moved {
            Ok(0) => break,
            Ok(n) => pipe.drained(n),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && filled > pipe.held() => {
                break;
            }
            Err(error) => {
                pipe.discard();
                return Err(error);
            }
        }
    }
    let sent = filled - pipe.held();
    if pipe.held() > 0 {
        *syscalls += 1;
        pipe.discard();
    }
    Ok(sent)
}

/// Fills the empty pipe from the region's start.
fn fill(pipe: &mut Pipe, region: &FileRegion, syscalls: &mut u32) -> io::Result<()> {
    let want = usize::try_from(region.len()).map_or(pipe.capacity(), |n| n.min(pipe.capacity()));
    loop {
        *syscalls += 1;
        let mut offset = region.offset();
        let file = region.file();
        let flags = SpliceFlags::NONBLOCK;
        match rustix::pipe::splice(file, Some(&mut offset), pipe.writer(), None, want, flags) {
            Ok(n) => {
                pipe.filled(n);
                return Ok(());
            }
            Err(Errno::INTR) => {}
            // The pipe has room, so it is the file.
            Err(Errno::AGAIN) => {
                let message = "the file's filesystem answers EAGAIN";
                return Err(Error::new(ErrorKind::FileUnreadable, message).into());
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}
