//! What the unit tests share: a ring, or a skip that says why.

use crate::probe::{Ability, SETUP, failed, judge};
use crate::sys::Ring;

/// A ring, or `None` with the reason printed where io_uring is not to be had.
///
/// Fails instead if it is to be had and did not work, or if `LENDFILE_REQUIRE`, a list separated
/// by commas, contains `uring`.
#[allow(
    clippy::print_stderr,
    reason = "a skipped test has to say so, and libtest has no other channel"
)]
pub(crate) fn ring_or_skip() -> Option<Ring> {
    let error = match Ring::new() {
        Ok(ring) => return Some(ring),
        Err(error) => error,
    };
    let ability = judge(Err(failed(SETUP, &error)));
    assert!(matches!(ability, Ability::Unavailable(_)), "{ability}");
    let required = std::env::var("LENDFILE_REQUIRE")
        .is_ok_and(|list| list.split(',').any(|word| word.trim() == "uring"));
    assert!(!required, "LENDFILE_REQUIRE asks for uring: {ability}");
    eprintln!("skipped: io_uring {ability}");
    None
}
