//! How much of a file is in the page cache, asked without reading it.
//!
//! Neither call tells the truth everywhere: both need the caller to own the file or be able to
//! write it (`cachestat` fails with EPERM otherwise, `mincore` claims that all is resident), and
//! `cachestat` sees nothing cached on overlayfs. `preadv2(RWF_NOWAIT)` needs no permission but is
//! not supported on overlayfs. Measured on Linux 6.18.

use std::io;
use std::os::fd::AsFd;

use super::sys;

/// Pages of the range in the page cache, by `cachestat(2)` (Linux 6.5).
///
/// # Errors
///
/// ENOSYS on older kernels, EPERM on a file that the caller neither owns nor may write.
pub fn cachestat(file: impl AsFd, offset: u64, len: u64) -> io::Result<u64> {
    Ok(sys::cachestat(file.as_fd(), offset, len)?)
}

/// Pages of the range in the page cache, by `mincore(2)` on a mapping made for the call.
///
/// # Errors
///
/// EINVAL if `offset` is not a multiple of the page size or `len` is 0, and those of `mmap(2)`.
pub fn mincore(file: impl AsFd, offset: u64, len: usize) -> io::Result<u64> {
    Ok(sys::mincore(file.as_fd(), offset, len)?)
}
