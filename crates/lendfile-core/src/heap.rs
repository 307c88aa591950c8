//! Memory that the program has freed and the C library keeps: `malloc_trim(3)`, which no safe library
//! offers, and what stands in its way.

use crate::lent;

/// Gives free memory back to the system; whether there was any to give. Always `false` with another C
/// library than glibc, and of no effect on other allocators.
///
/// glibc gives back by itself only what is free at a heap's very end. It holds each heap's lock while it
/// looks for the rest, so threads that allocate may wait for a moment.
pub fn trim() -> bool {
    lent::trim_heap()
}

/// Lengths of blocks that glibc keeps for a thread when it frees them: 24, 40, … 1032 bytes
/// (`TCACHE_SMALL_BINS` in malloc/malloc.c).
const KEPT_LENGTHS: usize = 64;

/// At least as many as it keeps of each length: 7, from glibc 2.43 on 16 (`TCACHE_FILL_COUNT`).
const KEPT_EACH: usize = 16;

/// Has glibc keep other free blocks for the calling thread: some that lie together, where there is room.
///
/// Those that it kept while a crowd's memory was freed lie scattered among it, and each holds its page
/// against [`trim`]: 1 MiB for each thread. Takes 0.1 ms, and frees what it allocates.
pub fn renew_thread_cache() {
    for index in 0..KEPT_LENGTHS {
        let block = |_| std::hint::black_box(Vec::<u8>::with_capacity(24 + 16 * index));
        let kept: [_; KEPT_EACH] = std::array::from_fn(block);
        let fresh: [_; KEPT_EACH] = std::array::from_fn(block);
        // The first to be freed are kept.
        drop(fresh);
        drop(kept);
    }
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_free_beneath_some_that_is_not_is_given_back() {
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("Anonymous:"));
            let kib = line.unwrap().trim().trim_end_matches(" kB");
            kib.parse::<u64>().unwrap()
        };
        // Short enough to come from a heap and not from a mapping of its own.
        let blocks: Vec<_> = (0..8000).map(|_| vec![1_u8; 8000]).collect();
        let pin = vec![1_u8; 8000];
        let full = resident();
        drop(blocks);
        trim();
        let empty = resident();
        assert_eq!(pin[7999], 1);
        assert!(empty + (48 << 10) < full, "{full} KiB, then {empty}");
    }
}
