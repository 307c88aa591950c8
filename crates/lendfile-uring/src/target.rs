//! The file that a ring writes to, by descriptors that its operations can own.

use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;

use crate::direct::{self, ALIGNMENT};

/// A file, through the page cache and perhaps past it.
pub(crate) struct Target {
    cached: Arc<OwnedFd>,
    direct: Option<Arc<OwnedFd>>,
}

impl Target {
    /// `file` by descriptors of its own. What is whole blocks of a file that is open with `O_DIRECT`
    /// goes past the page cache, and with `direct_io` of every file.
    pub(crate) fn open(file: BorrowedFd<'_>, direct_io: bool) -> Result<Self, Errno> {
        let duplicate = || rustix::io::fcntl_dupfd_cloexec(file, 0).map(Arc::new);
        if fcntl_getfl(file)?.contains(OFlags::DIRECT) {
            return Ok(Self {
                cached: direct::reopen(file, OFlags::WRONLY)?,
                direct: Some(duplicate()?),
            });
        }
        let open = || direct::open(file, OFlags::WRONLY);
        Ok(Self {
            cached: duplicate()?,
            direct: direct_io.then(open).flatten().map(|(direct, _)| direct),
        })
    }

    /// The descriptor to write a part of a buffer by: of [`ALIGNMENT`] all disks' blocks are parts.
    pub(crate) fn descriptor(&self, offset: u64, part: &Range<usize>) -> &Arc<OwnedFd> {
        let ends = [offset, part.start as u64, part.end as u64];
        match &self.direct {
            Some(direct) if ends.iter().all(|end| end % ALIGNMENT == 0) => direct,
            _ => &self.cached,
        }
    }

    /// Whether whole blocks go past the page cache.
    pub(crate) fn is_direct(&self) -> bool {
        self.direct.is_some()
    }

    /// Has everything go through the page cache from now on; false if it does so already.
    pub(crate) fn give_up_direct(&mut self) -> bool {
        self.direct.take().is_some()
    }
}
