//! Memory given back to the system when it was in use for a while.

#![cfg(target_env = "gnu")]

use lendfile_core::heap;
use lendfile_tests::process::{assert_passed, child_role, in_child, resident_bytes};

/// What a thread keeps of freed blocks is let go of, wherever they lie.
#[test]
fn blocks_kept_for_a_thread_hold_no_pages_once_its_cache_is_renewed() {
    const NAME: &str = "blocks_kept_for_a_thread_hold_no_pages_once_its_cache_is_renewed";
    // In a process of its own: others allocate, too.
    if child_role().is_none() {
        return assert_passed(&in_child(NAME, "alone"));
    }
    // 448 blocks, as many as are kept, each among three pages of others.
    let mut kept = Vec::with_capacity(448);
    let mut others = Vec::with_capacity(448 * 4);
    for _ in 0..7 {
        for length in (24..=1032).step_by(16) {
            kept.push(vec![1_u8; length]);
            others.extend((0..4).map(|_| vec![1_u8; 3000]));
        }
    }
    let pin = vec![1_u8; 3000];
    drop(kept);
    drop(others);
    heap::trim();
    let scattered = resident_bytes();
    heap::renew_thread_cache();
    heap::trim();
    let renewed = resident_bytes();
    assert_eq!(pin[2999], 1);
    assert!(
        renewed + (1 << 20) < scattered,
        "{scattered} bytes, then {renewed}"
    );
}
