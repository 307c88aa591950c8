//! The one room of this crate where the kernel is given numbers and addresses: what it may touch
//! until an operation has completed is owned by that operation, and by nobody who might let go of
//! it earlier.

mod buffers;
mod operation;
mod ring;
mod setup;

pub(crate) use buffers::{Buffer, Buffers};
pub(crate) use operation::{InFlight, Operation, Permit, QUEUE_ENTRIES, Source, cancel_all};
pub(crate) use ring::Ring;
pub(crate) use setup::{BUFFERS, PROBE, Setup, WORKERS, set_up};
