//! What neither std nor rustix offers: `cachestat(2)`, `mincore(2)`, the option `SO_RCVLOWAT`, and
//! `malloc_trim(3)`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

/// `struct cachestat_range`, include/uapi/linux/mman.h.
#[repr(C)]
struct CachestatRange {
    offset: u64,
    len: u64,
}

/// `struct cachestat`, include/uapi/linux/mman.h.
#[repr(C)]
#[derive(Default)]
struct Cachestat {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// The same number on every architecture.
const SYS_CACHESTAT: libc::c_long = 451;

#[allow(clippy::cast_possible_truncation, reason = "4 fits everywhere")]
const INT_LEN: libc::socklen_t = size_of::<libc::c_int>() as libc::socklen_t;

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// Pages of the range that are in the page cache.
pub(in crate::lent) fn cachestat(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<u64, Errno> {
    let mut range = CachestatRange { offset, len };
    let mut stat = Cachestat::default();
    let flags: libc::c_uint = 0;
    // SAFETY: both structures have the kernel's layout and live across the call, which reads one
    // and writes the other.
    let result = unsafe {
        libc::syscall(
            SYS_CACHESTAT,
            fd.as_raw_fd(),
            &raw mut range,
            &raw mut stat,
            flags,
        )
    };
    if result == 0 {
        Ok(stat.cached)
    } else {
        Err(last_errno())
    }
}

/// Pages of the range that are in the page cache; `offset` is a multiple of the page size.
pub(in crate::lent) fn mincore(fd: BorrowedFd<'_>, offset: u64, len: usize) -> Result<u64, Errno> {
    let page = rustix::param::page_size();
    let mut resident = vec![0_u8; len.div_ceil(page)];
    // SAFETY: a new mapping at an address of the kernel's choice; unmapped below, never read.
    let address = unsafe {
        rustix::mm::mmap(
            ptr::null_mut(),
            len,
            ProtFlags::READ,
            MapFlags::SHARED,
            fd.as_fd(),
            offset,
        )
    }?;
    // SAFETY: the range is mapped, and the vector holds a byte for each of its pages.
    let result = unsafe { libc::mincore(address, len, resident.as_mut_ptr()) };
    let outcome = if result == 0 {
        Ok(())
    } else {
        Err(last_errno())
    };
    // SAFETY: the mapping made above, to which no reference was made.
    unsafe { rustix::mm::munmap(address, len) }?;
    outcome?;
    Ok(resident.iter().map(|page| u64::from(page & 1)).sum())
}

/// A socket's settings that rustix has no call for; all are ints.
#[derive(Clone, Copy)]
pub(crate) enum SocketOption {
    /// `SO_PEEK_OFF`.
    PeekOffset,
    /// `SO_RCVLOWAT`.
    ReceiveLowWater,
}

impl SocketOption {
    fn number(self) -> libc::c_int {
        match self {
            Self::PeekOffset => libc::SO_PEEK_OFF,
            Self::ReceiveLowWater => libc::SO_RCVLOWAT,
        }
    }
}

/// What is set.
pub(crate) fn socket_option(socket: BorrowedFd<'_>, option: SocketOption) -> Result<i32, Errno> {
    let mut value: libc::c_int = 0;
    let mut len = INT_LEN;
    // SAFETY: the kernel writes at most `len` bytes to `value`, and its length to `len`; both live
    // across the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option.number(),
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    if result == 0 {
        Ok(value)
    } else {
        Err(last_errno())
    }
}

/// Sets it.
pub(crate) fn set_socket_option(
    socket: BorrowedFd<'_>,
    option: SocketOption,
    value: i32,
) -> Result<(), Errno> {
    // SAFETY: the kernel reads an int from `value`, which lives across the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option.number(),
            (&raw const value).cast(),
            INT_LEN,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(last_errno())
    }
}

/// Gives the C library's free memory back to the system; whether there was any.
#[cfg(target_env = "gnu")]
pub(crate) fn trim_heap() -> bool {
    // SAFETY: glibc marks it MT-Safe: it takes each heap's lock, and gives back only pages that belong to
    // no allocation.
    unsafe { libc::malloc_trim(0) == 1 }
}

/// Other C libraries have no such call.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn trim_heap() -> bool {
    false
}
