//! The only unsafe room of this crate: reserving and mapping memory, slices of it, the `SIGBUS`
//! handler, and the calls of system and C library that no safe library offers.
//!
//! Miri cannot run it: file mappings, `MAP_FIXED` and signals are outside what it models. What
//! stands in for it: the bookkeeping around it ([`super::arena`]) is safe code with tests of its
//! own, and the tests beside it run the real kernel against it.

mod guard;
mod syscalls;

use std::os::fd::AsFd;
use std::ptr;
use std::sync::atomic::Ordering;

pub(super) use guard::install_guard;
use rustix::io::Errno;
use rustix::mm::{MapFlags, MremapFlags, ProtFlags};
pub(crate) use syscalls::{SocketOption, set_socket_option, socket_option, trim_heap};
pub(super) use syscalls::{cachestat, mincore};

use super::Mapping;
use super::arena::{Arena, SlotId};
use crate::OpenFile;

/// hugetlbfs, from `include/uapi/linux/magic.h`.
const HUGETLBFS_MAGIC: u64 = 0x958458f6;

/// Reserves `bytes` of addresses, nothing behind them, and returns the first.
pub(super) fn reserve(bytes: usize) -> Result<usize, Errno> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: without MAP_FIXED the kernel picks addresses that nobody uses.
    let base =
        unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::empty(), flags) }?;
    Ok(base.addr())
}

/// Whether the guard can replace a single page of this file's mapping.
pub(super) fn has_ordinary_pages(file: &OpenFile) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|fs| fs.f_type as u64 != HUGETLBFS_MAGIC)
}

/// Why a file could not be mapped, and what has become of the slot.
#[derive(Debug)]
pub(super) enum MapFailure {
    /// The slot is as it was.
    Refused(Errno),
    /// There may be a hole in the arena now, where anybody's memory may appear: the slot must
    /// never be used again.
    SlotLost(Errno),
}

/// Maps the first `len` bytes of `file` at `address`, which is a free slot's.
///
/// First anywhere, then moved: when the filesystem refuses a MAP_FIXED mapping (FUSE with direct
/// I/O does), the kernel has already removed what was there and leaves a gap
/// (`vms_abort_munmap_vmas`, mm/vma.c).
pub(super) fn map_file(address: usize, len: usize, file: &OpenFile) -> Result<(), MapFailure> {
    let flags = MapFlags::SHARED | MapFlags::NORESERVE;
    let fd = file.as_fd();
    // SAFETY: without MAP_FIXED the kernel picks addresses that nobody uses.
    let anywhere = unsafe { rustix::mm::mmap(ptr::null_mut(), len, ProtFlags::READ, flags, fd, 0) }
        .map_err(MapFailure::Refused)?;
    let slot = ptr::with_exposed_provenance_mut(address);
    // SAFETY: replaces [address, address + len). That lies in one slot, since `Arena::take` handed
    // out a slot of at least `len` bytes, and the slot is free: nothing but the PROT_NONE
    // reservation is there and no reference into it exists. Nor is there one to the old place.
    let moved = unsafe { rustix::mm::mremap_fixed(anywhere, len, len, MremapFlags::MAYMOVE, slot) };
    moved.map(drop).map_err(|errno| {
        // SAFETY: the mapping made above, to which no reference was made; it was not moved.
        let unmapped = unsafe { rustix::mm::munmap(anywhere, len) };
        debug_assert_eq!(unmapped, Ok(()));
        match closes_hole(address, len) {
            Ok(true) => MapFailure::Refused(errno),
            // At the limit on areas (`vm.max_map_count`) the kernel refuses before it has removed
            // anything (`mremap_to`, mm/mremap.c). Without memory it may have removed it, and
            // somebody else's may have appeared.
            Ok(false) if errno == Errno::NOMEM && is_reserved(address, len) => {
                MapFailure::Refused(errno)
            }
            _ => MapFailure::SlotLost(errno),
        }
    })
}

/// Whether the range is memory of this process alone that nobody may touch, as slots are.
fn is_reserved(address: usize, len: usize) -> bool {
    let Ok(areas) = std::fs::read_to_string("/proc/self/maps") else {
        return false;
    };
    areas.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (range, access) = (fields.next(), fields.next());
        let number = |text| usize::from_str_radix(text, 16).ok();
        let range = range.and_then(|range| range.split_once('-'));
        let range = range.and_then(|(from, to)| Some((number(from)?, number(to)?)));
        access == Some("---p")
            && range.is_some_and(|(from, to)| from <= address && address + len <= to)
    })
}

/// Reserves a slot's range again if nothing at all is there now; whether that was so. Never takes
/// the place of anything: through a hole, anybody's memory may have appeared there.
fn closes_hole(address: usize, len: usize) -> Result<bool, Errno> {
    let wanted = ptr::with_exposed_provenance_mut(address);
    let flags = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE | MapFlags::NORESERVE;
    // SAFETY: with MAP_FIXED_NOREPLACE the kernel uses only addresses that nobody uses.
    let got = unsafe { rustix::mm::mmap_anonymous(wanted, len, ProtFlags::empty(), flags) };
    match got {
        Ok(got) if got == wanted => Ok(true),
        Ok(elsewhere) => {
            // A kernel older than the flag (4.17) takes the address for a hint.
            // SAFETY: made above; nobody knows of it.
            unsafe { rustix::mm::munmap(elsewhere, len) }?;
            Ok(false)
        }
        Err(Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Replaces a mapping by the reservation again.
pub(super) fn restore_reservation(address: usize, len: usize) -> Result<(), Errno> {
    let address = ptr::with_exposed_provenance_mut(address);
    let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
    // SAFETY: called only by `Mapping::drop`, for the range that mapping owns. Every slice into
    // it is borrowed from a `LentBytes`, which holds an Arc of the mapping, so none is left.
    unsafe { rustix::mm::mmap_anonymous(address, len, ProtFlags::empty(), flags) }?;
    Ok(())
}

/// A slice of a mapping.
pub(super) fn bytes(mapping: &Mapping, offset: usize, len: usize) -> &[u8] {
    assert!(
        offset
            .checked_add(len)
            .is_some_and(|end| end <= mapping.len())
    );
    let start = ptr::with_exposed_provenance(mapping.address() + offset);
    // SAFETY: the assertion keeps it inside the mapped range, which stays mapped readable until
    // `Mapping::drop`, and the borrow of `mapping` outlives the slice. A page the file has lost
    // is replaced by zeros (guard.rs) instead of faulting. That another process may write to the
    // file is the caveat of every file mapping, stated in the module's documentation.
    unsafe { std::slice::from_raw_parts(start, len) }
}

/// The mapping that owns `bytes`, which begin in `slot`.
pub(super) fn mapping_of<'a>(arena: &Arena, slot: SlotId, bytes: &'a [u8]) -> Option<&'a Mapping> {
    assert!(!bytes.is_empty());
    let mapping = arena.mapping(slot).load(Ordering::Acquire);
    // SAFETY: `bytes` is not empty and begins in the slot, where the only readable memory is its
    // mapping: so it was made by `bytes` above from a `LentBytes` that holds an Arc of this
    // mapping and outlives 'a. The pointer was published by `Mapping::new` and is cleared by
    // `Mapping::drop`, which cannot have begun.
    unsafe { mapping.as_ref() }
}

#[cfg(test)]
mod tests;
