//! The reserved range of addresses, cut into slots, one mapped file each. Pure bookkeeping: which
//! slot is free, which slot an address is in.

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::{fmt, ptr};

use super::{CannotLend, Mapping, sys};

/// Sizes and counts of the slots: (log2 of the slot's bytes, slots). In all 26 TiB of the 128 TiB
/// a process has, which costs one entry in the kernel's list of areas until files are mapped. Each
/// mapped file takes up to two more entries; `vm.max_map_count` is 65,530 by default, so the count
/// of the small ones leaves half of that to the program.
const CLASSES: [(u32, usize); 4] = [(24, 16_384), (30, 2_048), (36, 128), (41, 8)];

/// How far the counts are halved when the whole range is refused (`RLIMIT_AS`, sanitizers).
const SMALLER_TRIES: u32 = 12;

static ARENA: OnceLock<Option<Arena>> = OnceLock::new();
/// How often the guard has put zeros where a page was missing, in this process.
static POISONINGS: AtomicU64 = AtomicU64::new(0);
static OPTIONS: Mutex<Option<ArenaOptions>> = Mutex::new(None);

/// Limits of the arena, set once per process before the first file is lent.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ArenaOptions {
    /// Files mapped at the same time, at most. Default: no limit but the slots (18,568).
    pub max_mappings: usize,
}

impl Default for ArenaOptions {
    fn default() -> Self {
        Self {
            max_mappings: usize::MAX,
        }
    }
}

impl ArenaOptions {
    /// Sets [`max_mappings`](Self::max_mappings).
    #[must_use]
    pub fn max_mappings(mut self, count: usize) -> Self {
        self.max_mappings = count;
        self
    }
}

/// The arena is already in use; its options can no longer be set.
#[derive(Clone, Copy, Debug)]
pub struct AlreadyReserved;

impl fmt::Display for AlreadyReserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a file has been lent already; arena options must be set before")
    }
}

impl std::error::Error for AlreadyReserved {}

/// Sets the process's [`ArenaOptions`].
///
/// # Errors
///
/// [`AlreadyReserved`] if a file has been lent before.
pub fn arena_options(options: ArenaOptions) -> Result<(), AlreadyReserved> {
    let mut slot = OPTIONS.lock().unwrap_or_else(PoisonError::into_inner);
    if ARENA.get().is_some() {
        return Err(AlreadyReserved);
    }
    *slot = Some(options);
    Ok(())
}

/// The process's arena, reserved at the first call; `None` if no range was to be had.
pub(super) fn reserve() -> Option<&'static Arena> {
    let arena = ARENA
        .get_or_init(|| {
            let options = OPTIONS
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .unwrap_or_default();
            let arena = Arena::new(options);
            if arena.is_none() {
                tracing::warn!(
                    "no address range could be reserved: files are sent as owned chunks"
                );
            }
            arena
        })
        .as_ref();
    if arena.is_some() {
        sys::install_guard();
    }
    arena
}

/// How often a lent page was found missing, in this process; only ever grows.
pub fn poisonings() -> u64 {
    POISONINGS.load(Ordering::SeqCst)
}

/// The process's arena if it has one. An atomic load and a compare: safe in a signal handler.
pub(super) fn existing() -> Option<&'static Arena> {
    ARENA.get()?.as_ref()
}

pub(super) struct Arena {
    base: usize,
    bytes: usize,
    classes: [Class; CLASSES.len()],
    slots: Box<[Slot]>,
    max_mappings: usize,
    taken: Mutex<usize>,
}

/// Slots of one size, side by side.
struct Class {
    /// From the arena's start.
    start: usize,
    shift: u32,
    first_slot: usize,
    free: Mutex<FreeSlots>,
    count: usize,
}

struct FreeSlots {
    /// Slots from here on were never used.
    fresh: usize,
    returned: Vec<usize>,
}

struct Slot {
    /// The mapping in this slot while it lives, else null.
    mapping: AtomicPtr<Mapping>,
    poisoned: AtomicBool,
}

/// A slot's number; the arena's own currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotId(usize);

impl Arena {
    fn new(options: ArenaOptions) -> Option<Self> {
        (0..SMALLER_TRIES).find_map(|halvings| {
            let plan = CLASSES.map(|(shift, count)| (shift, count >> halvings));
            let bytes = plan.iter().map(|(shift, count)| count << shift).sum();
            let base = sys::reserve(bytes).ok()?;
            Some(Self::at(base, &plan, options.max_mappings))
        })
    }

    fn at(base: usize, plan: &[(u32, usize); CLASSES.len()], max_mappings: usize) -> Self {
        let mut start = 0;
        let mut first_slot = 0;
        let classes = plan.map(|(shift, count)| {
            let class = Class {
                start,
                shift,
                first_slot,
                free: Mutex::new(FreeSlots {
                    fresh: 0,
                    returned: Vec::new(),
                }),
                count,
            };
            start += count << shift;
            first_slot += count;
            class
        });
        Self {
            base,
            bytes: start,
            classes,
            slots: (0..first_slot)
                .map(|_| Slot {
                    mapping: AtomicPtr::new(ptr::null_mut()),
                    poisoned: AtomicBool::new(false),
                })
                .collect(),
            max_mappings,
            taken: Mutex::new(0),
        }
    }

    /// Takes the smallest free slot of at least `len` bytes; its address comes with it.
    pub(super) fn take(&self, len: u64) -> Result<(SlotId, usize), CannotLend> {
        let mut fits = self
            .classes
            .iter()
            .filter(|class| len <= 1 << class.shift)
            .peekable();
        if fits.peek().is_none() {
            return Err(CannotLend::TooLarge);
        }
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if *taken >= self.max_mappings {
            return Err(CannotLend::NoRoom);
        }
        for class in fits {
            let mut free = class.free.lock().unwrap_or_else(PoisonError::into_inner);
            let index = match free.returned.pop() {
                Some(index) => index,
                None if free.fresh < class.count => {
                    free.fresh += 1;
                    free.fresh - 1
                }
                None => continue,
            };
            *taken += 1;
            let address = self.base + class.start + (index << class.shift);
            return Ok((SlotId(class.first_slot + index), address));
        }
        Err(CannotLend::NoRoom)
    }

    /// Gives a slot back whose reservation has been restored.
    pub(super) fn give_back(&self, SlotId(slot): SlotId) {
        self.slots[slot].poisoned.store(false, Ordering::SeqCst);
        let class = self
            .classes
            .iter()
            .rev()
            .find(|class| slot >= class.first_slot)
            .expect("the first class starts at slot 0");
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        *taken -= 1;
        class
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .returned
            .push(slot - class.first_slot);
    }

    /// The slot that `address` is in. Two compares decide that it is in none.
    pub(super) fn slot_at(&self, address: usize) -> Option<SlotId> {
        let offset = address.wrapping_sub(self.base);
        if offset >= self.bytes {
            return None;
        }
        let class = self.classes.iter().rev().find(|c| offset >= c.start)?;
        Some(SlotId(
            class.first_slot + ((offset - class.start) >> class.shift),
        ))
    }

    /// Where the mapping of a slot is published while it lives.
    pub(super) fn mapping(&self, SlotId(slot): SlotId) -> &AtomicPtr<Mapping> {
        &self.slots[slot].mapping
    }

    /// Notes that a page of the slot's file is missing. Signal-safe.
    pub(super) fn poison(&self, SlotId(slot): SlotId) {
        self.slots[slot].poisoned.store(true, Ordering::SeqCst);
        POISONINGS.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether a page of the slot's file was found missing.
    pub(super) fn is_poisoned(&self, SlotId(slot): SlotId) -> bool {
        self.slots[slot].poisoned.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: [(u32, usize); 4] = [(24, 4), (30, 2), (36, 1), (41, 1)];

    fn arena(max_mappings: usize) -> Arena {
        // Never mapped: only numbers are computed from the base.
        Arena::at(1 << 40, &PLAN, max_mappings)
    }

    #[test]
    fn every_address_of_a_slot_leads_back_to_it_and_none_beside_it() {
        let arena = arena(usize::MAX);
        for len in [1, 1 << 24, (1 << 24) + 1, 1 << 30, 1 << 36, 1 << 41] {
            let (slot, address) = arena.take(len).unwrap();
            let last = address + usize::try_from(len).unwrap() - 1;
            assert_eq!(arena.slot_at(address), Some(slot));
            assert_eq!(arena.slot_at(last), Some(slot));
            assert_ne!(arena.slot_at(address - 1), Some(slot));
        }
        assert_eq!(arena.slot_at((1 << 40) - 1), None);
        assert_eq!(arena.slot_at((1 << 40) + arena.bytes), None);
        assert_eq!(arena.slot_at(0), None);
        assert_eq!(arena.slot_at(usize::MAX), None);
    }

    #[test]
    fn slots_are_distinct_and_a_full_class_borrows_from_the_next() {
        let arena = arena(usize::MAX);
        let mut addresses: Vec<_> = (0..8).map(|_| arena.take(1).unwrap().1).collect();
        addresses.dedup();
        assert_eq!(addresses.len(), 8);
        assert_eq!(arena.take(1).unwrap_err(), CannotLend::NoRoom);
    }

    #[test]
    fn a_slot_given_back_is_used_again_and_is_no_longer_poisoned() {
        let arena = arena(1);
        let (slot, address) = arena.take(10).unwrap();
        arena.poison(slot);
        assert_eq!(arena.take(10).unwrap_err(), CannotLend::NoRoom);
        arena.give_back(slot);
        let (again, same) = arena.take(10).unwrap();
        assert_eq!((again, same), (slot, address));
        assert!(!arena.is_poisoned(again));
    }

    #[test]
    fn a_file_larger_than_the_largest_slot_is_refused_as_too_large() {
        assert_eq!(
            arena(usize::MAX).take((1 << 41) + 1).unwrap_err(),
            CannotLend::TooLarge
        );
    }
}
