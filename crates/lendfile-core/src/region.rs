//! What to send: an open file and a part of it.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use crate::lent::Mapping;
use crate::warm::{self, Warm};
use crate::{Error, ErrorKind, Method, MethodSet};

/// An open regular file and what was true of it when it was opened.
///
/// Length and times come from `fstat` of the very descriptor that is sent; the name is never
/// looked up again.
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    metadata: Metadata,
    refused: AtomicU16,
    refuses_nowait: AtomicBool,
    hides_residency: AtomicBool,
    warm: Warm,
    ended_early: AtomicBool,
    /// Shared by the transfers under way, so that they use one mapping. Weak: a mapping keeps a
    /// deleted file's blocks, so it goes with its last user.
    pub(crate) mapping: Mutex<Weak<Mapping>>,
}

impl OpenFile {
    /// Takes an open file.
    ///
    /// # Errors
    ///
    /// That of `fstat`, or [`ErrorKind::Misuse`] if it is not a regular file.
    pub fn new(file: File) -> io::Result<Arc<Self>> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(Error::new(ErrorKind::Misuse, "not a regular file").into());
        }
        Ok(Arc::new(Self {
            file,
            metadata,
            refused: AtomicU16::new(0),
            refuses_nowait: AtomicBool::new(false),
            hides_residency: AtomicBool::new(false),
            warm: Warm::default(),
            ended_early: AtomicBool::new(false),
            mapping: Mutex::new(Weak::new()),
        }))
    }

    /// Opens a file by name, for reading. Blocks as `open(2)` does; never on a FIFO.
    ///
    /// # Errors
    ///
    /// That of `open(2)`, and those of [`OpenFile::new`].
    pub fn open(path: impl AsRef<Path>) -> io::Result<Arc<Self>> {
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = rustix::fs::open(path.as_ref(), flags, Mode::empty())?;
        Self::new(File::from(fd))
    }

    /// The length in bytes when it was opened.
    pub fn len(&self) -> u64 {
        self.metadata.len()
    }

    /// Whether it was empty when it was opened.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What `fstat` said when it was opened.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Whether a transfer has found the file shorter than it was when it was opened.
    pub fn has_ended_early(&self) -> bool {
        self.ended_early.load(Ordering::Relaxed)
    }

    /// The methods that this file's filesystem has refused.
    pub fn refused(&self) -> MethodSet {
        MethodSet::from_bits(self.refused.load(Ordering::Relaxed))
    }

    /// Notes that the filesystem refused `method`, for as long as the file is open, and returns
    /// whether this was the first time.
    pub(crate) fn refuse(&self, method: Method) -> bool {
        let bit = MethodSet::EMPTY.with(method).bits();
        self.refused.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    /// Whether `preadv2(RWF_NOWAIT)` has been refused for it (overlayfs, tmpfs, FUSE).
    pub fn refuses_nowait(&self) -> bool {
        self.refuses_nowait.load(Ordering::Relaxed)
    }

    /// Notes that it was, for as long as the file is open.
    pub fn refuse_nowait(&self) {
        if !self.refuses_nowait.swap(true, Ordering::Relaxed) {
            tracing::debug!("the file's filesystem has no reads that do not wait");
        }
    }

    /// Whether `cachestat` and `mincore` tell nothing of it: it is somebody else's, or the kernel
    /// is older than 6.5.
    pub fn hides_residency(&self) -> bool {
        self.hides_residency.load(Ordering::Relaxed)
    }

    /// Notes that they do not.
    pub fn hide_residency(&self) {
        self.hides_residency.store(true, Ordering::Relaxed);
    }

    /// Bytes from `offset` on that are believed to be in the page cache, since somebody found them
    /// there at most 100 ms ago (2 s, if only a read can tell).
    pub fn known_warm(&self, offset: u64) -> u64 {
        self.warm.known(offset, self.belief_lasts())
    }

    /// Notes that `len` bytes from `offset` on were found in the page cache.
    pub fn note_warm(&self, offset: u64, len: u64) {
        self.warm.note(offset, len, self.belief_lasts());
    }

    fn belief_lasts(&self) -> Duration {
        match self.hides_residency() {
            true => warm::LASTS_UNASKED,
            false => warm::LASTS,
        }
    }

    /// Notes that a send of pages believed to be there had to wait for them.
    pub fn forget_warm(&self) {
        self.warm.forget();
    }
}

impl AsFd for OpenFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A part of an open file. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FileRegion {
    file: Arc<OpenFile>,
    offset: u64,
    len: u64,
}

impl FileRegion {
    /// `len` bytes of `file` from `offset`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Misuse`] if it does not lie within the file as it was when opened.
    pub fn new(file: Arc<OpenFile>, offset: u64, len: u64) -> Result<Self, Error> {
        match offset.checked_add(len) {
            Some(end) if end <= file.len() => Ok(Self { file, offset, len }),
            _ => Err(Error::new(
                ErrorKind::Misuse,
                format!(
                    "region of {len} bytes at {offset} is beyond the file's {} bytes",
                    file.len()
                ),
            )),
        }
    }

    /// All of the file.
    pub fn whole(file: Arc<OpenFile>) -> Self {
        let len = file.len();
        Self {
            file,
            offset: 0,
            len,
        }
    }

    /// For callers that know that it lies within a mapping of the file.
    pub(crate) fn within(file: Arc<OpenFile>, offset: u64, len: u64) -> Self {
        Self { file, offset, len }
    }

    /// The file.
    pub fn file(&self) -> &Arc<OpenFile> {
        &self.file
    }

    /// Bytes from the file's start.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes in the region.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Drops the first `n` bytes, or all if there are fewer.
    pub fn advance(&mut self, n: u64) {
        let n = n.min(self.len);
        self.offset += n;
        self.len -= n;
    }

    /// The first `n` bytes, or all if there are fewer; `self` keeps the rest.
    #[must_use]
    pub fn split_to(&mut self, n: u64) -> Self {
        let first = Self {
            file: self.file.clone(),
            offset: self.offset,
            len: n.min(self.len),
        };
        self.advance(n);
        first
    }

    /// The error for a read of this region that failed.
    pub fn unreadable(&self, source: io::Error) -> Error {
        let message = format!("reading {} bytes at {}", self.len, self.offset);
        Error::new(ErrorKind::FileUnreadable, message).with_source(source)
    }

    /// Notes that the file ended at or before this region's start, and makes the error for it.
    pub fn ended_early(&self) -> Error {
        self.file.ended_early.store(true, Ordering::Relaxed);
        Error::new(
            ErrorKind::FileChanged,
            format!(
                "file ended early: {} bytes at {} are gone",
                self.len, self.offset
            ),
        )
    }
}
