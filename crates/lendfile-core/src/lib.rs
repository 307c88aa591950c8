//! The parts of [lendfile] that no runtime and no HTTP library is needed for: what to send
//! ([`FileRegion`]), how its memory is lent to others without being read ([`lent`]), what a way of
//! sending is ([`Transport`], [`Method`]), and the stream that joins them ([`LendStream`]).
//!
//! # The idea
//!
//! A [`FileRegion`] is lent as [`bytes::Bytes`] whose memory is a mapping of the file that nobody
//! has touched. A library such as hyper passes those bytes on, by pointer, to the connection's
//! [`LendStream`], which recognises the address and sends that part of the *file* instead. Whoever
//! reads the bytes rather than passing them on reads the file's content: zero-copy can be lost,
//! correctness cannot.
//!
//! This crate does not open sockets, spawn tasks or know what a request is.
//!
//! [lendfile]: https://docs.rs/lendfile
#![deny(unsafe_code)]

pub mod capabilities;
mod error;
mod failure;
pub mod heap;
pub mod lent;
pub mod low_water;
mod method;
pub mod peek_offset;
mod progress;
mod rate;
mod region;
pub mod statistics;
mod stream;
mod transfer;
mod transport;
mod warm;

pub use capabilities::Capabilities;
pub use error::{Error, ErrorKind, log_file_failure};
pub use failure::Failure;
pub use method::{Method, MethodSet};
pub use progress::Progress;
pub use rate::{RateLimit, TokenBucket};
pub use region::{FileRegion, OpenFile};
pub use statistics::{Statistics, statistics};
pub use stream::LendStream;
pub use transfer::{Ledger, Outcome, Transfer, TransferObserver, TransferToken};
pub use transport::{Backend, Continuation, Sent, Transport};
