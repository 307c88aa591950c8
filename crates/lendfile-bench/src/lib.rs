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
//! It measures one machine under one client. It does not model many slow peers, packet loss or cold
//! files, and it does not judge: no figure here is a pass or a failure.

#![forbid(unsafe_code)]

pub mod client;
pub mod contest;
mod error;
pub mod files;
pub mod netns;
pub mod network;
pub mod pin;
pub mod place;
pub mod process;
pub mod report;
pub mod rounds;
pub mod server;

pub use error::{Error, Kind, Result};
