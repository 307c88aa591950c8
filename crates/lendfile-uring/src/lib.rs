//! lendfile's io_uring backend: files to sockets by ring splice, under tokio-uring.
//!
//! **What it is today:** the [`probe`], which finds out by doing whether this machine lets a
//! process have a ring and splice through it. There is no transport in this crate yet, and
//! nothing here pretends to be one.
//!
//! **What it will be:** an implementation of lendfile's transport seam on one tokio-uring runtime
//! per thread, for files that are *not* in the page cache: the ring's workers wait for the disk
//! (file → pipe), so that the reactor does not.
//!
//! # Examples
//!
//! ```
//! let probe = lendfile_uring::probe();
//! match probe.splice {
//!     lendfile_uring::Ability::Works => println!("ring splice moved a byte"),
//!     other => println!("no ring splice: {other}"),
//! }
//! ```

#![deny(unsafe_code)]

mod probe;
#[allow(
    unsafe_code,
    reason = "the submission queue takes raw descriptors; all of that is in this one room"
)]
mod sys;
#[cfg(test)]
mod test_support;

pub use probe::{Ability, Cause, Probe, Reason, probe};
