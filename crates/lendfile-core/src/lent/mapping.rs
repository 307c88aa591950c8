//! One file's mapping in its slot, the bytes lent from it, and the way back.

use std::fmt;
use std::ptr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use super::CannotLend;
use super::arena::{self, Arena, SlotId};
use super::sys::{self, MapFailure};
use crate::{Error, ErrorKind, FileRegion, OpenFile};

/// A read-only mapping of a whole file, unmapped when the last [`Arc`] and the last lent `Bytes`
/// are gone.
///
/// Keep one no longer than the file is being sent or cached: it holds a deleted file's blocks.
pub struct Mapping {
    arena: &'static Arena,
    slot: SlotId,
    address: usize,
    len: usize,
    file: Arc<OpenFile>,
}

impl FileRegion {
    /// Maps the region's file, or shares the mapping that another transfer has. Costs about 9 µs
    /// when it is not mapped yet; touches no page.
    ///
    /// # Errors
    ///
    /// [`CannotLend`]: send owned chunks instead.
    pub fn map(&self) -> Result<Arc<Mapping>, CannotLend> {
        let mut shared = self
            .file()
            .mapping
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(mapping) = shared.upgrade() {
            if mapping.is_poisoned() {
                return Err(CannotLend::Poisoned);
            }
            return Ok(mapping);
        }
        let mapping = Mapping::new(self.file().clone())?;
        *shared = Arc::downgrade(&mapping);
        Ok(mapping)
    }
}

impl Mapping {
    fn new(file: Arc<OpenFile>) -> Result<Arc<Self>, CannotLend> {
        if file.is_empty() {
            return Err(CannotLend::Empty);
        }
        let arena = arena::reserve().ok_or(CannotLend::NotReserved)?;
        if !sys::has_ordinary_pages(&file) {
            return Err(CannotLend::UnsupportedFilesystem);
        }
        let (slot, address) = arena.take(file.len())?;
        // A slot was found for it, so the length fits into an address.
        let len = usize::try_from(file.len()).map_err(|_| CannotLend::TooLarge)?;
        match sys::map_file(address, len, &file) {
            Ok(()) => {}
            Err(MapFailure::Refused(errno)) => {
                arena.give_back(slot);
                return Err(CannotLend::MapRefused(errno));
            }
            Err(MapFailure::SlotLost(errno)) => {
                tracing::error!(%errno, bytes = len, "a mapping could not be moved; its slot is lost");
                return Err(CannotLend::MapRefused(errno));
            }
        }
        let mapping = Arc::new(Self {
            arena,
            slot,
            address,
            len,
            file,
        });
        let published = Arc::as_ptr(&mapping).cast_mut();
        arena.mapping(slot).store(published, Ordering::Release);
        Ok(mapping)
    }

    /// Lends `region` as bytes: no page is touched, no byte copied. `guard` is dropped with the
    /// last clone of the bytes; a [`TransferToken`](crate::TransferToken) is meant for it.
    ///
    /// # Panics
    ///
    /// If `region` is of another file.
    pub fn lend<G>(self: &Arc<Self>, region: &FileRegion, guard: G) -> Bytes
    where
        G: Send + 'static,
    {
        assert!(
            Arc::ptr_eq(&self.file, region.file()),
            "the region is of another file"
        );
        if region.is_empty() {
            return Bytes::new();
        }
        let to_memory =
            |n: u64| usize::try_from(n).expect("a region lies within its file's mapping");
        Bytes::from_owner(LentBytes {
            offset: to_memory(region.offset()),
            len: to_memory(region.len()),
            mapping: self.clone(),
            _guard: guard,
        })
    }

    /// Whether somebody read a page that the file no longer had, and was given zeros. The bytes
    /// lent from it must not be passed off as the file's.
    pub fn is_poisoned(&self) -> bool {
        self.arena.is_poisoned(self.slot)
    }

    /// The mapped file.
    pub fn file(&self) -> &Arc<OpenFile> {
        &self.file
    }

    pub(super) fn address(&self) -> usize {
        self.address
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether the file still has all that is mapped, as far as it can be known: nobody was given
    /// zeros for a page, and the file is as long as it was. Bytes cut off within a page that
    /// remains read as zeros without a fault, so its length is asked for.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::FileChanged`](crate::ErrorKind::FileChanged) if it has not: what was read of
    /// the bytes lent from it must not be passed off as the file's.
    pub fn check(&self) -> Result<(), Error> {
        let has_all = rustix::fs::fstat(&self.file)
            .is_ok_and(|now| u64::try_from(now.st_size).is_ok_and(|len| len >= self.file.len()));
        if has_all && !self.is_poisoned() {
            return Ok(());
        }
        let message = "file ended early: lent bytes were read after they were gone";
        Err(Error::new(ErrorKind::FileChanged, message))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let published = self.arena.mapping(self.slot);
        published.store(ptr::null_mut(), Ordering::Release);
        match sys::restore_reservation(self.address, self.len) {
            Ok(()) => self.arena.give_back(self.slot),
            // The slot is not used again: unmapping instead would open a hole in the arena where
            // anybody's memory could appear and be taken for lent.
            Err(errno) => {
                tracing::error!(%errno, bytes = self.len, "a mapping could not be removed; its slot is lost");
            }
        }
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping")
            .field("slot", &self.slot)
            .field("len", &self.len)
            .field("poisoned", &self.is_poisoned())
            .finish_non_exhaustive()
    }
}

/// What a lent `Bytes` owns.
struct LentBytes<G> {
    mapping: Arc<Mapping>,
    offset: usize,
    len: usize,
    _guard: G,
}

impl<G> AsRef<[u8]> for LentBytes<G> {
    fn as_ref(&self) -> &[u8] {
        sys::bytes(&self.mapping, self.offset, self.len)
    }
}

/// A lent slice, recognised: which part of which file it is.
#[derive(Clone, Copy, Debug)]
pub struct Lent<'a> {
    file: &'a Arc<OpenFile>,
    offset: u64,
    len: u64,
}

impl Lent<'_> {
    /// Bytes in it; more than 0.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// It as a region, to send.
    pub fn region(&self) -> FileRegion {
        FileRegion::within(self.file.clone(), self.offset, self.len)
    }

    /// It and `next` as one, if `next` goes on in the same file where it ends.
    #[must_use]
    pub fn joined_with(&self, next: &Lent<'_>) -> Option<Self> {
        (Arc::ptr_eq(self.file, next.file) && self.offset + self.len == next.offset).then_some(
            Self {
                len: self.len + next.len,
                ..*self
            },
        )
    }
}

/// Recognises lent bytes by their address, without reading them and without a lock: two compares
/// for any other slice, a table look-up for a lent one.
pub fn find(bytes: &[u8]) -> Option<Lent<'_>> {
    let arena = arena::existing()?;
    let slot = arena.slot_at(bytes.as_ptr().addr())?;
    if bytes.is_empty() {
        return None;
    }
    let mapping = sys::mapping_of(arena, slot, bytes)?;
    let offset = bytes.as_ptr().addr() - mapping.address;
    Some(Lent {
        file: &mapping.file,
        offset: offset as u64,
        len: bytes.len() as u64,
    })
}
