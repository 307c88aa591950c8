//! Memory that the program has freed and the C library keeps: `malloc_trim(3)`, which no safe library
//! offers.

use crate::lent;

/// Gives free memory back to the system; whether there was any to give. Always `false` with another C
/// library than glibc, and of no effect on other allocators.
///
/// glibc gives back by itself only what is free at a heap's very end. It holds each heap's lock while it
/// looks for the rest, so threads that allocate may wait for a moment.
pub fn trim() -> bool {
    lent::trim_heap()
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
