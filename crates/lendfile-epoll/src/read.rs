//! Reading a file without waiting for the disk.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use lendfile_core::{FileRegion, statistics};
use rustix::io::{Errno, ReadWriteFlags};
use tokio::time::Sleep;

use crate::cold;
use crate::fetch::{Fetch, Purpose};

/// Time between two looks at a page that is on its way; tokio's timers tick at 1 ms.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Time after which the read waits for the disk in the call after all: no probe can promise that
/// the page ever stays long enough to be seen.
const PATIENCE: Duration = Duration::from_millis(1500);

/// The most bytes that are read in a call that may wait for the disk.
const BLOCKING_BYTES: usize = 64 << 10;

/// Reads of one file, one after the other, each without blocking the thread.
///
/// `preadv2(RWF_NOWAIT)` reads what is in the page cache; when nothing is, it has started the
/// kernel's readahead, and the task sleeps until the pages are there. Where the filesystem does not
/// support that call (overlayfs, tmpfs, FUSE), what `mincore` finds in the page cache is read at
/// once and all else by a helper thread. Only a page that does not come for a second and a half is
/// read, 64 KiB at a time, in a call that may wait for the disk.
#[derive(Debug, Default)]
pub struct FileReader {
    sleep: Option<Pin<Box<Sleep>>>,
    since: Option<Instant>,
    /// Rarely there, and large.
    fetch: Option<Box<Fetch>>,
    cold_waits: u32,
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
        let mut patient = true;
        loop {
            if let Some(sleep) = &mut self.sleep {
                ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            if region.file().refuses_nowait() {
                return self.poll_opaque(cx, region, &mut buf[..len]);
            }
            let (flags, bound) = match patient {
                true => (ReadWriteFlags::NOWAIT, len),
                false => (ReadWriteFlags::empty(), len.min(BLOCKING_BYTES)),
            };
            let bufs = &mut [io::IoSliceMut::new(&mut buf[..bound])];
            match rustix::io::preadv2(region.file(), bufs, region.offset(), flags) {
                // Linux 5.9 and 5.10 may say 0 for "not now" (preadv2(2), BUGS).
                Ok(0) if patient => patient = false,
                Ok(0) => return Poll::Ready(Err(region.ended_early().into())),
                Ok(n) => {
                    self.since = None;
                    return Poll::Ready(Ok(n));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if patient => {
                    let since = *self.since.get_or_insert_with(Instant::now);
                    if since.elapsed() > PATIENCE {
                        statistics::STALLS.increment();
                        patient = false;
                    } else {
                        self.wait();
                        self.sleep = Some(Box::pin(tokio::time::sleep(LOOK_AGAIN)));
                    }
                }
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) if patient => {
                    region.file().refuse_nowait();
                }
                Err(errno) => return Poll::Ready(Err(region.unreadable(errno.into()).into())),
            }
        }
    }

    /// How often it had to wait for the disk since this was last asked.
    pub fn take_cold_waits(&mut self) -> u32 {
        std::mem::take(&mut self.cold_waits)
    }

    fn wait(&mut self) {
        self.cold_waits += 1;
        statistics::COLD_WAITS.increment();
    }

    /// Reads a file that has no reads that do not wait: at once if it is known to be in the page
    /// cache, else by a helper thread.
    fn poll_opaque(
        &mut self,
        cx: &mut Context<'_>,
        region: &FileRegion,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let (file, offset) = (region.file(), region.offset());
        self.fetch.take_if(|fetch| !fetch.is_at(file, offset));
        if self.fetch.is_none() {
            let resident = match file.known_warm(offset) {
                0 => {
                    let found = cold::opaque_resident(file, offset, buf.len() as u64);
                    if found > 0 {
                        file.note_warm(offset, found);
                    }
                    found
                }
                known => known,
            };
            let resident = usize::try_from(resident).unwrap_or(usize::MAX);
            if resident > 0 {
                let bound = buf.len().min(resident);
                return Poll::Ready(read_at_once(region, &mut buf[..bound]));
            }
            let mut rest = region.clone();
            match Fetch::start(rest.split_to(buf.len() as u64), Purpose::Bytes) {
                Ok(fetch) => self.fetch = Some(Box::new(fetch)),
                // No thread to be had: a little of it may wait.
                Err(_) => {
                    let bound = buf.len().min(BLOCKING_BYTES);
                    return Poll::Ready(read_at_once(region, &mut buf[..bound]));
                }
            }
            self.wait();
        }
        let Some(fetch) = &mut self.fetch else {
            return Poll::Pending;
        };
        let read = ready!(fetch.poll(cx));
        self.fetch = None;
        let (n, bytes) = read?;
        if n == 0 {
            return Poll::Ready(Err(region.ended_early().into()));
        }
        // A caller may come back with less room.
        let n = n.min(buf.len());
        if let Some(bytes) = bytes {
            buf[..n].copy_from_slice(&bytes.as_ref()[..n]);
        }
        Poll::Ready(Ok(n))
    }
}

/// A read that is not expected to wait.
fn read_at_once(region: &FileRegion, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::io::pread(region.file(), &mut *buf, region.offset()) {
            Ok(0) => return Err(region.ended_early().into()),
            Ok(n) => return Ok(n),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(region.unreadable(errno.into()).into()),
        }
    }
}
