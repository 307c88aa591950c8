//! lendfile's io_uring backend: a ring's workers wait for the disk, so that the thread that serves
//! does not.
//!
//! [`Runtime`] is tokio's runtime with a ring (tokio-uring's); [`Uring`] makes the transports of a
//! server's connections in it. Sockets stay tokio's: hyper, axum and all else work as ever, and the
//! ring carries the file's side of a transfer (with [`Method::RingSplice`], the socket's, too).
//!
//! [`recv_file`] receives from a socket into a file, written by the ring.
//!
//! [`probe`] finds out by doing whether this machine lets a process have a ring; `Runtime::new`
//! does as well and says what could be done about it.
//!
//! [`Method::RingSplice`]: lendfile_core::Method::RingSplice
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

mod backend;
mod budget;
mod direct;
mod drain;
mod flow;
mod intake;
mod options;
mod probe;
mod receive;
mod recv_file;
mod refusal;
mod ring;
mod runtime;
#[allow(
    unsafe_code,
    reason = "the submission queue takes raw descriptors and addresses; all of that is in this room"
)]
mod sys;
mod target;
#[cfg(test)]
mod test_support;
mod transport;
mod window;

pub use backend::Uring;
pub use options::Options;
pub use probe::{Ability, Cause, Probe, Reason, probe};
pub use recv_file::{RecvFile, recv_file};
pub use runtime::Runtime;
pub use transport::UringTransport;
