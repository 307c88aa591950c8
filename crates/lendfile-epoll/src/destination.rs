//! The file that is received into: what it must be, and how bytes get there.

use std::io::{self, ErrorKind as IoErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

use lendfile_core::{Error, ErrorKind};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::pipe::SpliceFlags;

use crate::Pipe;

/// An open regular file, and where in it the next byte goes.
#[derive(Debug)]
pub(crate) struct Destination<'a> {
    file: BorrowedFd<'a>,
    offset: u64,
}

impl<'a> Destination<'a> {
    /// Misuse is found before a byte is taken from the socket.
    pub(crate) fn new(file: BorrowedFd<'a>, offset: u64) -> io::Result<Self> {
        let misuse = |message: &'static str| Err(Error::new(ErrorKind::Misuse, message).into());
        let stat = rustix::fs::fstat(file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return misuse("not a regular file");
        }
        let flags = rustix::fs::fcntl_getfl(file)?;
        if flags.contains(OFlags::APPEND) {
            // splice refuses it, and pwrite ignores its offset (pwrite(2), BUGS).
            return misuse("a file opened for appending has no place to write at");
        }
        match flags & OFlags::RWMODE {
            OFlags::RDWR | OFlags::WRONLY => Ok(Self { file, offset }),
            _ => misuse("the file is not open for writing"),
        }
    }

    /// The file.
    pub(crate) fn file(&self) -> BorrowedFd<'a> {
        self.file
    }

    /// Notes that so many bytes are in the file.
    pub(crate) fn advance(&mut self, bytes: u64) {
        self.offset += bytes;
    }

    /// Where the next byte goes.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Splices what is in `pipe` to its place in the file, some of it or all.
    pub(crate) fn take_from(&self, pipe: &mut Pipe) -> io::Result<usize> {
        loop {
            let mut offset = self.offset;
            let spliced = rustix::pipe::splice(
                pipe.reader(),
                None,
                self.file,
                Some(&mut offset),
                pipe.held(),
                SpliceFlags::empty(),
            );
            match spliced {
                Ok(0) => return Err(IoErrorKind::WriteZero.into()),
                Ok(n) => {
                    pipe.drained(n);
                    return Ok(n);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Writes some of `bytes` to their place, or all.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::pwrite(self.file, bytes, self.offset) {
                Ok(0) => return Err(IoErrorKind::WriteZero.into()),
                Ok(n) => return Ok(n),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Reads all that is in `pipe` into memory. A pipe gives what it holds without waiting.
pub(crate) fn read_out(pipe: &mut Pipe) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; pipe.held()];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::io::read(pipe.reader().as_fd(), &mut bytes[filled..]) {
            Ok(0) => break,
            Ok(n) => {
                pipe.drained(n);
                filled += n;
            }
            Err(Errno::INTR) => {}
            Err(errno) => {
                pipe.spoil();
                return Err(errno.into());
            }
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
