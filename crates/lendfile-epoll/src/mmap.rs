//! `send(2)` from a mapping of the file.

use std::io::{self, IoSlice};

use lendfile_core::lent::{CannotLend, Mapping};
use lendfile_core::{Continuation, Error, ErrorKind, FileRegion, Method};
use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::{Socket, copy};

/// Bytes per call; each touches the page tables of as many.
const SEND_BYTES: u64 = 1 << 20;

/// Pages end at multiples of this everywhere; where they are larger, more is read than need be.
const PAGE_BYTES: u64 = 4096;

/// Why a region was not sent from its mapping.
pub(crate) enum Failure {
    CannotMap(CannotLend),
    Io(io::Error),
}

impl<E: Into<io::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Io(error.into())
    }
}

/// Sends the start of the region's first `warm` bytes; 0 if the file has ended.
///
/// The last page of the region goes by `pread`: behind the end of a file that has become shorter
/// its mapped page reads as zeros, and a response must not be completed with those. Before it, the
/// file's length is asked for each time; what is cut off between that and the copying inside
/// `send`, microseconds later, may be sent as zeros, and is found out before the last page.
pub(crate) fn send<S: Socket>(
    socket: &S,
    region: &FileRegion,
    warm: u64,
    continuation: Continuation,
    syscalls: &mut u32,
) -> Result<(usize, Method), Failure> {
    let end = region.offset() + region.len();
    let last_page = (end - 1) / PAGE_BYTES * PAGE_BYTES;
    if region.offset() >= last_page {
        let region = &region.clone().split_to(warm);
        return Ok((
            send_last_page(socket, region, continuation, syscalls)?,
            Method::Copy,
        ));
    }
    let mapping = region.map().map_err(Failure::CannotMap)?;
    let size = u64::try_from(rustix::fs::fstat(region.file())?.st_size).unwrap_or(0);
    let mut part = region.clone();
    let part = part.split_to(
        last_page
            .min(size)
            .saturating_sub(region.offset())
            .min(SEND_BYTES)
            .min(warm),
    );
    if part.is_empty() {
        return Ok((0, Method::Mmap));
    }
    *syscalls += 2;
    let bytes = mapping.lend(&part, ());
    let sent = socket.try_write_io(|| copy::send(socket, &[IoSlice::new(&bytes)], SendFlags::MORE));
    match sent {
        Ok(n) => checked(&mapping, region, n),
        // A page that cannot be had: gone, or unreadable.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::FAULT) => {
            mapping.check()?;
            let message = format!("reading mapped bytes at {}", region.offset());
            Err(Error::new(ErrorKind::FileUnreadable, message).into())
        }
        Err(error) => Err(error.into()),
    }
}

/// After `n` bytes have been sent: another reader of the mapping may have found a page missing
/// meanwhile, for which zeros are in it since, and may be among them.
fn checked(mapping: &Mapping, region: &FileRegion, n: usize) -> Result<(usize, Method), Failure> {
    match mapping.is_poisoned() {
        true => Err(region.ended_early().into()),
        false => Ok((n, Method::Mmap)),
    }
}

/// Of at most a page, which was found in the page cache with the pages before it.
fn send_last_page<S: Socket>(
    socket: &S,
    region: &FileRegion,
    continuation: Continuation,
    syscalls: &mut u32,
) -> io::Result<usize> {
    let mut page = [0; 4096];
    let len = usize::try_from(region.len()).map_or(page.len(), |n| n.min(page.len()));
    *syscalls += 2;
    let n = rustix::io::pread(region.file(), &mut page[..len], region.offset())?;
    if n == 0 {
        return Ok(0);
    }
    let more = copy::more_flag(n as u64 != region.len() || continuation == Continuation::More);
    socket.try_write_io(|| copy::send(socket, &[IoSlice::new(&page[..n])], more))
}

#[cfg(test)]
mod tests {
    use lendfile_core::OpenFile;

    use super::*;

    #[test]
    fn what_was_sent_from_a_mapping_poisoned_meanwhile_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4 * PAGE_BYTES).unwrap();
        let region = FileRegion::whole(OpenFile::new(file.try_clone().unwrap()).unwrap());
        let mapping = region.map().unwrap();
        assert!(checked(&mapping, &region, 1).is_ok());
        // The file is as long as ever when its length is asked for.
        file.set_len(PAGE_BYTES).unwrap();
        assert_eq!(mapping.lend(&region, ())[8192], 0);
        file.set_len(4 * PAGE_BYTES).unwrap();
        let Err(Failure::Io(error)) = checked(&mapping, &region, 1) else {
            panic!("zeros would be passed off as the file's")
        };
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
