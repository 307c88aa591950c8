//! Files opened once more with `O_DIRECT`: between the disk and a registered buffer, past the page
//! cache. For files that will not be asked for again soon, or are larger than memory: they do not
//! push out what others need.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lendfile_core::OpenFile;
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use crate::sys::Source;
use crate::window::Origin;

/// What offsets and lengths are multiples of where the kernel does not say (before 6.1): no disk
/// in use has larger blocks.
pub(crate) const ALIGNMENT: u64 = 4096;

/// One connection's.
pub(crate) struct DirectFile(Option<Origin>);

impl DirectFile {
    /// Opens `file` once more, by its descriptor: it is the same file whatever its name says now.
    /// Where its filesystem has no direct I/O, it is read through the page cache.
    pub(crate) fn open(file: &Arc<OpenFile>) -> Self {
        let opened = open(file.as_fd(), OFlags::RDONLY);
        Self(opened.map(|(direct, alignment)| Origin {
            source: Source::Direct(direct),
            alignment,
        }))
    }

    /// Has it read through the page cache from now on; false if it is so already.
    pub(crate) fn give_up(&mut self) -> bool {
        self.0.take().is_some()
    }

    /// Where to read from, if directly.
    pub(crate) fn origin(&self) -> Option<Origin> {
        self.0.clone()
    }
}

/// `file` once more, with direct I/O, and what offsets and lengths must be multiples of. `None`, and
/// the first time in this process the log says why, where that is not to be had.
pub(crate) fn open(file: BorrowedFd<'_>, access: OFlags) -> Option<(Arc<OwnedFd>, u64)> {
    try_open(file, access)
        .inspect_err(|errno| {
            static SAID: AtomicBool = AtomicBool::new(false);
            if !SAID.swap(true, Ordering::Relaxed) {
                tracing::warn!(%errno, "no direct I/O on this file; it goes through the page cache");
            }
        })
        .ok()
}

/// `file` once more, by its descriptor.
pub(crate) fn reopen(file: BorrowedFd<'_>, flags: OFlags) -> Result<Arc<OwnedFd>, Errno> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).map(Arc::new)
}

fn try_open(file: BorrowedFd<'_>, access: OFlags) -> Result<(Arc<OwnedFd>, u64), Errno> {
    let direct = reopen(file, access | OFlags::DIRECT)?;
    let status = rustix::fs::statx(&direct, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN);
    let alignment = match status {
        Ok(status) if status.stx_mask & StatxFlags::DIOALIGN.bits() != 0 => {
            u64::from(status.stx_dio_offset_align)
        }
        _ => ALIGNMENT,
    };
    // statx says 0 for files without direct I/O, even where open lets it pass.
    if alignment == 0 || alignment > ALIGNMENT {
        return Err(Errno::OPNOTSUPP);
    }
    Ok((direct, alignment))
}
