//! Waiting, without blocking, until the pages that are sent next are in the page cache.
//!
//! `sendfile`, `splice` and a mapping all wait for the disk inside the call if a page is missing.
//! So before each send the file is asked, and what is missing is awaited:
//!
//! 1. What somebody found in the page cache a moment ago is believed to be there still
//!    ([`OpenFile::known_warm`]): a hot file costs no system call but ten times a second, each stretch.
//! 2. Filesystems with reads that do not wait (ext4, xfs, btrfs): `cachestat` says whether every
//!    page is there, a one-byte read of the last whether it has arrived. If the file is not ours,
//!    `cachestat` refuses, and a read that does not wait says how far it got. That same read starts
//!    the kernel's readahead, which then goes on by itself as the pages are sent. The task sleeps
//!    for a millisecond and asks again.
//! 3. Others (overlayfs, tmpfs, FUSE): `mincore` tells the truth if the file is ours. What is
//!    missing, or cannot be asked, is read by a [helper thread](crate::fetch), which wakes the task.
//!
//! Measured, 1 GiB cold on ext4 (Linux 6.18): the kernel's own readahead takes 18–33 ms of CPU for
//! it and 0.5–1.6 ms in its longest call, in large folios; `posix_fadvise(WILLNEED)` 400 ms, since it
//! allocates single pages. So that is used only where the kernel's window is too small to cover a
//! timer's tick.

use std::future::Future;
use std::io;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use lendfile_core::lent::residency;
use lendfile_core::{FileRegion, OpenFile, statistics};
use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};
use tokio::time::Sleep;

use crate::copy;
use crate::fetch::{Fetch, Purpose};
use crate::turn::{self, ColdTurn};

/// Bytes asked about at a time, at most: as many as one call sends.
const LOOK_BYTES: u64 = 1 << 20;

/// Bytes asked about ahead of a sequence of small regions (HTTP/2 sends 16 KiB at a time).
const AHEAD_BYTES: u64 = 256 << 10;

/// The smallest stretch that is worth a call of its own, unless it ends the region.
const LEAST_BYTES: u64 = 64 << 10;

/// Time between two looks; tokio's timers tick at 1 ms.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Time after which a page is no longer awaited and the call may wait for it: no probe can promise
/// that it ever stays long enough to be seen.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Bytes that are sent in a call that may wait.
const BLOCKING_BYTES: u64 = 64 << 10;

/// Bytes for which a transfer counts as cold after it had to wait.
const COLD_FOR_BYTES: u64 = 16 << 20;

/// How far ahead of the positions is read where the kernel reads less, in all cold files of a thread:
/// 4 GB/s times a tick that may last 2 ms. It grows with each wait, as a reader turns out to be fast.
const DISTANCE_BYTES: u64 = 8 << 20;

/// One advice: 0.1 ms at the median, 0.5 ms at the 99th percentile.
const ADVICE_BYTES: u64 = 256 << 10;

/// Bytes that a helper thread reads at a time.
const FETCH_BYTES: std::ops::RangeInclusive<u64> = 128 << 10..=1 << 20;

/// Why pages cannot be awaited.
#[derive(Debug)]
pub(crate) enum NotWarm {
    Io(io::Error),
    /// The filesystem keeps no pages of it, so that each send would read it again.
    KeepsNone,
}

/// One sender's waiting.
#[derive(Debug, Default)]
pub(crate) struct Cold {
    sleep: Option<Pin<Box<Sleep>>>,
    /// Since when it waits for the same place.
    since: Option<Instant>,
    /// Where the next send begins if it follows the last.
    next: u64,
    /// Bytes that count as cold still.
    cold_left: u64,
    turn: ColdTurn,
    /// How far ahead is read by advice, and up to where it was given.
    distance: u64,
    advised: u64,
    fetch: Option<Fetch>,
    fetch_bytes: u64,
}

/// What a look has found.
enum Look {
    Coming,
    /// The file has no reads that do not wait.
    Opaque,
    Warm(u64),
}

impl Cold {
    /// Waits until the region's start can be sent without waiting for the disk; resolves with the
    /// number of bytes. Adds to `waits` when the disk has to be waited for.
    pub(crate) fn poll_warm(
        &mut self,
        cx: &mut Context<'_>,
        region: &FileRegion,
        waits: &mut u32,
    ) -> Poll<Result<u64, NotWarm>> {
        let file = region.file();
        if self.cold_left > 0 {
            ready!(self.turn.poll(cx));
        }
        loop {
            if let Some(sleep) = &mut self.sleep {
                ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            let known = file.known_warm(region.offset());
            let least = region.len().min(LEAST_BYTES);
            // What a thread has read is sent to its end, since its next read begins there.
            if known >= least || known > 0 && file.refuses_nowait() {
                return self.ready(region, known);
            }
            let look = match file.refuses_nowait() {
                true => Ok(Look::Opaque),
                false => self.look(region),
            };
            match look.map_err(|errno| NotWarm::Io(region.unreadable(errno.into()).into()))? {
                // Little may be all there ever is (a page that cannot be read, the file's new end), so
                // it is sent: after a tick, in which the rest may come.
                Look::Warm(len) if len >= least || self.since.is_some() => {
                    file.note_warm(region.offset(), len);
                    return self.ready(region, len);
                }
                Look::Opaque => match ready!(self.poll_opaque(cx, region, waits))? {
                    0 => {}
                    len => {
                        file.note_warm(region.offset(), len);
                        return self.ready(region, len);
                    }
                },
                Look::Coming | Look::Warm(_) => {
                    let since = *self.since.get_or_insert_with(Instant::now);
                    if since.elapsed() > PATIENCE {
                        self.since = None;
                        statistics::STALLS.increment();
                        return Poll::Ready(Ok(region.len().min(BLOCKING_BYTES)));
                    }
                    self.wait(waits);
                    self.read_further(region);
                    self.sleep = Some(Box::pin(tokio::time::sleep(LOOK_AGAIN)));
                }
            }
        }
    }

    /// Ends the wait: `len` bytes from the region's start are there.
    fn ready(&mut self, region: &FileRegion, len: u64) -> Poll<Result<u64, NotWarm>> {
        let len = len.min(region.len());
        self.since = None;
        if self.fetch_bytes > 0 {
            self.fetch_next(region, len);
        }
        Poll::Ready(Ok(self.in_turn(len)))
    }

    /// Notes that a send from `offset` was accepted and took `bytes` of the turn.
    pub(crate) fn sent(&mut self, offset: u64, bytes: u64) {
        self.next = offset + bytes;
        self.cold_left = self.cold_left.saturating_sub(bytes);
        self.turn.spend(bytes);
    }

    fn wait(&mut self, waits: &mut u32) {
        *waits += 1;
        statistics::COLD_WAITS.increment();
        self.cold_left = COLD_FOR_BYTES;
        self.turn.begin();
    }

    fn in_turn(&self, len: u64) -> u64 {
        match self.cold_left {
            0 => len,
            _ => len.min(self.turn.bytes()),
        }
    }

    /// Asks the kernel, without waiting, how much from the region's start is there, and has what
    /// is not read.
    fn look(&mut self, region: &FileRegion) -> Result<Look, Errno> {
        let (file, offset) = (region.file(), region.offset());
        let least = match self.next == offset {
            true => AHEAD_BYTES,
            false => LEAST_BYTES,
        };
        let mut len = region
            .len()
            .clamp(least, LOOK_BYTES)
            .min(file.len() - offset);
        if self.advised > offset {
            self.advise(region);
        }
        while !file.hides_residency() {
            let Ok(pages) = residency::cachestat(file, offset, len) else {
                file.hide_residency();
                break;
            };
            if pages >= pages_of(offset, len) {
                // Pages whose read is under way count, too; they arrive in order.
                match read_without_waiting(file, offset + len - 1, &mut [0]) {
                    Ok(_) => return Ok(Look::Warm(len)),
                    Err(Errno::AGAIN) if len <= LEAST_BYTES => return Ok(Look::Coming),
                    Err(Errno::AGAIN) => {}
                    Err(errno) => return opaque_or(file, errno),
                }
            } else if pages == 0 || len <= LEAST_BYTES {
                break;
            }
            len = (len / 2).max(LEAST_BYTES);
        }
        // It copies what is there, which is little: some pages of a stretch, or the first look at
        // somebody else's file.
        let want = usize::try_from(len).unwrap_or(usize::MAX);
        copy::with_buffer(|buffer| {
            let want = want.min(buffer.len());
            match read_without_waiting(file, offset, &mut buffer[..want]) {
                // The end, which the send will find; or a kernel that says 0 for "not now" (5.9
                // and 5.10; preadv2(2), BUGS).
                Ok(0) => Ok(Look::Warm(region.len())),
                Ok(n) => Ok(Look::Warm(n as u64)),
                Err(Errno::AGAIN) => Ok(Look::Coming),
                Err(errno) => opaque_or(file, errno),
            }
        })
    }

    /// After a wait: if the kernel reads less far ahead than is sent in a tick, sees to it.
    fn read_further(&mut self, region: &FileRegion) {
        let farthest = turn::divided(DISTANCE_BYTES).max(AHEAD_BYTES);
        self.distance = (self.distance * 2).clamp(AHEAD_BYTES, farthest);
        let (file, offset) = (region.file(), region.offset());
        let want = region.len().min(self.distance);
        if want < 2 * LOOK_BYTES || file.hides_residency() {
            return;
        }
        let page = rustix::param::page_size() as u64;
        let there = residency::cachestat(file, offset, want).map_or(want, |pages| pages * page);
        if there < want / 2 {
            self.advised = self.advised.max(offset + there);
            self.advise(region);
        }
    }

    /// Has up to two windows more of the region read, if that is not too far ahead.
    fn advise(&mut self, region: &FileRegion) {
        let end = (region.offset() + self.distance).min(region.offset() + region.len());
        for _ in 0..2 {
            let window = NonZeroU64::new(end.saturating_sub(self.advised).min(ADVICE_BYTES));
            let Some(window) = window else { return };
            // Only advice: what is not read ahead is awaited.
            _ = rustix::fs::fadvise(region.file(), self.advised, Some(window), Advice::WillNeed);
            self.advised += window.get();
        }
    }

    /// Waits until pages of a file that has no reads that do not wait are there; resolves with
    /// their bytes, 0 when a thread has been set to read them.
    fn poll_opaque(
        &mut self,
        cx: &mut Context<'_>,
        region: &FileRegion,
        waits: &mut u32,
    ) -> Poll<Result<u64, NotWarm>> {
        let (file, offset) = (region.file(), region.offset());
        self.fetch.take_if(|fetch| !fetch.is_at(file, offset));
        if let Some(fetch) = &mut self.fetch {
            let Poll::Ready(read) = fetch.poll(cx) else {
                if self.since.is_none() {
                    self.since = Some(Instant::now());
                    self.wait(waits);
                }
                return Poll::Pending;
            };
            self.fetch = None;
            let (n, _) = read.map_err(NotWarm::Io)?;
            if n == 0 {
                return Poll::Ready(Err(NotWarm::Io(region.ended_early().into())));
            }
            if !file.hides_residency() && resident(file, offset, n as u64) == 0 {
                return Poll::Ready(Err(NotWarm::KeepsNone));
            }
            return Poll::Ready(Ok(n as u64));
        }
        let len = region
            .len()
            .clamp(LEAST_BYTES, AHEAD_BYTES)
            .min(file.len() - offset);
        Poll::Ready(Ok(match opaque_resident(file, offset, len) {
            0 => {
                self.fetch_bytes =
                    (self.fetch_bytes * 2).clamp(*FETCH_BYTES.start(), *FETCH_BYTES.end());
                let mut rest = region.clone();
                match Fetch::start(rest.split_to(self.fetch_bytes), Purpose::Warm) {
                    Ok(fetch) => {
                        self.fetch = Some(fetch);
                        0
                    }
                    // No thread to be had: a little of it may wait.
                    Err(_) => region.len().min(BLOCKING_BYTES),
                }
            }
            n => n,
        }))
    }

    /// While `known` bytes are sent, has those behind them read.
    fn fetch_next(&mut self, region: &FileRegion, known: u64) {
        let mut rest = region.clone();
        rest.advance(known);
        if self.fetch.is_some() || known >= self.fetch_bytes || rest.is_empty() {
            return;
        }
        if file_is_warm(region.file(), rest.offset()) {
            return;
        }
        // Without one, it is asked for when it is needed.
        self.fetch = Fetch::start(rest.split_to(self.fetch_bytes), Purpose::Warm).ok();
    }
}

/// Bytes from the region's start that can be sent without waiting for the disk; 0 if there are none
/// or nobody can say. Does not wait for the answer; what is missing may begin to be read by it, unless
/// nothing is there.
pub fn warm_bytes(region: &FileRegion) -> u64 {
    let (file, offset) = (region.file(), region.offset());
    let known = file.known_warm(offset).min(region.len());
    if known >= region.len().min(LEAST_BYTES) {
        return known;
    }
    // Nothing has to be read for that answer. A read that does not wait takes 0.3 ms to set off the
    // kernel's readahead.
    let least = region.len().min(LEAST_BYTES);
    if !file.hides_residency() && matches!(residency::cachestat(file, offset, least), Ok(0)) {
        return 0;
    }
    let warm = match file.refuses_nowait() {
        true => opaque_resident(file, offset, region.len().min(AHEAD_BYTES)),
        false => match Cold::default().look(region) {
            Ok(Look::Warm(len)) => len,
            _ => 0,
        },
    };
    if warm > 0 {
        file.note_warm(offset, warm);
    }
    warm
}

fn file_is_warm(file: &OpenFile, offset: u64) -> bool {
    file.known_warm(offset) > 0
}

/// Bytes from `offset` on, up to `len`, that are there for certain, of a file that has no reads
/// that do not wait; 0 if it cannot be asked.
pub(crate) fn opaque_resident(file: &Arc<OpenFile>, offset: u64, len: u64) -> u64 {
    if !file.hides_residency() && residency::cachestat(file, offset, 1).is_err() {
        file.hide_residency();
    }
    match file.hides_residency() {
        true => 0,
        false => resident(file, offset, len),
    }
}

/// The same by `mincore`, which sees only pages that have arrived.
fn resident(file: &OpenFile, offset: u64, mut len: u64) -> u64 {
    let page = rustix::param::page_size() as u64;
    let start = offset / page * page;
    loop {
        let bytes = usize::try_from(offset + len - start).unwrap_or(usize::MAX);
        match residency::mincore(file, start, bytes) {
            Ok(pages) if pages >= pages_of(offset, len) => return len,
            Ok(pages) if pages > 0 && len > LEAST_BYTES => len = (len / 2).max(LEAST_BYTES),
            _ => return 0,
        }
    }
}

fn pages_of(offset: u64, len: u64) -> u64 {
    let page = rustix::param::page_size() as u64;
    (offset + len - 1) / page - offset / page + 1
}

fn opaque_or(file: &OpenFile, errno: Errno) -> Result<Look, Errno> {
    match errno {
        Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL => {
            file.refuse_nowait();
            Ok(Look::Opaque)
        }
        errno => Err(errno),
    }
}

fn read_without_waiting(file: &OpenFile, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
    let mut bufs = [io::IoSliceMut::new(buf)];
    loop {
        match rustix::io::preadv2(file, &mut bufs, offset, ReadWriteFlags::NOWAIT) {
            Err(Errno::INTR) => {}
            read => return read,
        }
    }
}

#[cfg(test)]
mod tests;
