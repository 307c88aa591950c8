//! Reading a file without waiting for the disk.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use lendfile_core::FileRegion;
use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};
use tokio::time::Sleep;

/// Readahead asked for when a page is missing. `posix_fadvise(WILLNEED)` takes 0.4–1.3 ms per MiB
/// at worst (measured), so it is not made larger.
const READAHEAD_BYTES: u64 = 1 << 20;

/// Time between two looks at a page that is on its way; tokio's timers tick at 1 ms.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Looks before the read waits for the disk in the call after all: a second and a half covers a
/// disk that is busy, and no probe can promise that the page ever stays long enough to be seen.
const LOOKS: u32 = 1500;

/// The most bytes that are read in a call that may wait for the disk.
const BLOCKING_BYTES: usize = 64 << 10;

/// Reads of one file, one after the other, each without blocking the thread.
///
/// `preadv2(RWF_NOWAIT)` reads what is in the page cache; when nothing is, readahead is started
/// and the task sleeps until it is there. Where the filesystem does not support that call
/// (overlayfs, FUSE) or the page does not come, up to 64 KiB are read in a call that may wait for
/// the disk: that is the bound by which one read can delay its thread.
#[derive(Debug, Default)]
pub struct FileReader {
    sleep: Option<Pin<Box<Sleep>>>,
    looks: u32,
}

impl FileReader {
    /// A reader at rest.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads from the region's start into `buf`, at most the region. Resolves with the count,
    /// which is more than 0 unless the region or `buf` is empty.
    ///
    /// # Errors
    ///
    /// [`FileChanged`](lendfile_core::ErrorKind::FileChanged) if the file has ended before the region, and
    /// [`FileUnreadable`](lendfile_core::ErrorKind::FileUnreadable) with the errno if reading failed.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with timers, when the file is not in the page cache.
    ///
    /// # Cancel safety
    ///
    /// Nothing is held by the kernel between polls; a dropped read can be asked for again.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        region: &FileRegion,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let len = usize::try_from(region.len()).map_or(buf.len(), |len| len.min(buf.len()));
        if len == 0 {
            return Poll::Ready(Ok(0));
        }
        let mut flags = match region.file().refuses_nowait() {
            true => ReadWriteFlags::empty(),
            false => ReadWriteFlags::NOWAIT,
        };
        loop {
            if let Some(sleep) = &mut self.sleep {
                ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            let bound = match flags.contains(ReadWriteFlags::NOWAIT) {
                true => len,
                false => len.min(BLOCKING_BYTES),
            };
            let bufs = &mut [io::IoSliceMut::new(&mut buf[..bound])];
            let file = region.file();
            match rustix::io::preadv2(file, bufs, region.offset(), flags) {
                // Linux 5.9 and 5.10 may say 0 for "not now" (preadv2(2), BUGS).
                Ok(0) if flags.contains(ReadWriteFlags::NOWAIT) => {
                    flags = ReadWriteFlags::empty();
                }
                Ok(0) => return Poll::Ready(Err(region.ended_early().into())),
                Ok(n) => {
                    self.looks = 0;
                    return Poll::Ready(Ok(n));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if flags.contains(ReadWriteFlags::NOWAIT) => {
                    if self.looks == 0 {
                        let window = std::num::NonZeroU64::new(region.len().min(READAHEAD_BYTES));
                        // Only advice: without it the read below waits instead.
                        _ = rustix::fs::fadvise(file, region.offset(), window, Advice::WillNeed);
                    }
                    self.looks += 1;
                    if self.looks > LOOKS {
                        flags = ReadWriteFlags::empty();
                    } else {
                        self.sleep = Some(Box::pin(tokio::time::sleep(LOOK_AGAIN)));
                    }
                }
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL)
                    if flags.contains(ReadWriteFlags::NOWAIT) =>
                {
                    file.refuse_nowait();
                    flags = ReadWriteFlags::empty();
                }
                Err(errno) => return Poll::Ready(Err(region.unreadable(errno.into()).into())),
            }
        }
    }
}
