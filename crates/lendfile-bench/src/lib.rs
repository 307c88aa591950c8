//! lendfile's measuring engine: it starts file servers, drains them over TCP and says what each
//! byte cost, so that two ways of sending can be compared fairly on one machine.
//!
//! A figure is only worth something with its conditions, so the engine sets them up and names them:
//!
//! - the [`client`] never sleeps and copies nothing, because a client that sleeps makes the server
//!   pay for waking it;
//! - server and client each have a core of their own ([`pin`]) and a network namespace of their own
//!   ([`netns`]), because the congestion control and the segment size decide rankings;
//! - contestants run in turn, round by round ([`contest`]), and are compared within each round
//!   ([`rounds`]), because a shared machine drifts by more than the differences of interest;
//! - a contestant that answers with a wrong status, length or content is disqualified.
//!
//! Pieces that stand alone, for benchmarks of other things than HTTP: [`place`] and [`pin`] put a
//! thread or a child where it belongs, [`process`] reads what a process has used, [`rounds`] does
//! the arithmetic of a comparison, [`ticker`] finds out how long a runtime's thread was blocked,
//! [`cache`] makes files cold.
//!
//! Not a comparison but what one server bears, many clients and hostile ones: [`crowd`].
//!
//! It measures one machine. It does not model packet loss, and it does not judge: no figure here is
//! a pass or a failure.

#![forbid(unsafe_code)]

pub mod cache;
pub mod client;
pub mod contest;
pub mod crowd;
pub mod dissection;
mod error;
pub mod files;
pub mod interrupt;
pub mod netns;
pub mod network;
pub mod pin;
pub mod place;
pub mod process;
pub mod report;
pub mod rounds;
pub mod server;
pub mod ticker;

pub use error::{Error, Kind, Result};

/// Says that a test is passed over, and why; fails if `LENDFILE_REQUIRE` names `what`.
#[cfg(test)]
#[expect(clippy::print_stderr, reason = "a skip says why")]
pub(crate) fn skip(what: &str, reason: &str) {
    let required = std::env::var("LENDFILE_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name == what), "{reason}");
    eprintln!("SKIPPED ({what}): {reason}");
}
