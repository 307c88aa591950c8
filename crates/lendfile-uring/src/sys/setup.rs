//! What is asked of the kernel before tokio-uring's ring is made: whether there are rings, whether
//! they know the operations, and that this thread's workers stay within a bound.

use io_uring::{IoUring, Probe, opcode};
use libc::iovec;

use crate::probe::{Ability, Cause, Reason, SETUP, failed, judge};

/// What this thread may do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// Whether buffers can be registered, or why not.
    pub(crate) buffers: Ability,
}

/// Bounds this thread's ring workers and finds out what rings can do for it.
///
/// The bound belongs to the thread, not to a ring (`io_register_iowq_max_workers`,
/// io_uring/register.c, Linux 6.18), and outlives the ring that is made here to set it. Both of the
/// kernel's kinds of workers get it: operations on regular files run on `bounded` ones, splices
/// into pipes and sockets on `unbounded` ones.
///
/// `buffer_bytes` is the size of buffer to try.
pub(crate) fn set_up(workers: u32, buffer_bytes: usize) -> Result<Setup, Reason> {
    let ring = IoUring::new(1).map_err(|error| failed(SETUP, &error))?;
    let mut probe = Probe::new();
    let asked = ring.submitter().register_probe(&mut probe);
    asked.map_err(|error| failed(PROBE, &error))?;
    for (name, code) in [
        ("IORING_OP_SPLICE", opcode::Splice::CODE),
        ("IORING_OP_READ_FIXED", opcode::ReadFixed::CODE),
        ("IORING_OP_WRITE_FIXED", opcode::WriteFixed::CODE),
        ("IORING_OP_FADVISE", opcode::Fadvise::CODE),
        ("IORING_OP_ASYNC_CANCEL", opcode::AsyncCancel::CODE),
        ("IORING_OP_NOP", opcode::Nop::CODE),
    ] {
        if !probe.is_supported(code) {
            return Err(Reason {
                step: name,
                cause: Cause::Missing,
            });
        }
    }
    bound_workers(&ring, workers)?;
    Ok(Setup {
        buffers: judge(try_buffer(&ring, buffer_bytes)),
    })
}

/// The steps that can be refused, as they are named to the reader.
pub(crate) const PROBE: &str = "IORING_REGISTER_PROBE";
pub(crate) const BUFFERS: &str = "IORING_REGISTER_BUFFERS";
pub(crate) const WORKERS: &str = "IORING_REGISTER_IOWQ_MAX_WORKERS";

/// Registers so much memory and takes it back.
pub(super) fn try_buffer(ring: &IoUring, bytes: usize) -> Result<(), Reason> {
    let mut memory = vec![0_u8; bytes];
    let part = iovec {
        iov_base: memory.as_mut_ptr().cast(),
        iov_len: memory.len(),
    };
    // SAFETY: `memory` lives until the registration has been undone below, and nothing is submitted
    // to this ring that could use it.
    let registered = unsafe { ring.submitter().register_buffers(&[part]) };
    registered
        .and_then(|()| ring.submitter().unregister_buffers())
        .map_err(|error| failed(BUFFERS, &error))
}

/// Sets the bounds of this thread's workers; a bound of 0 leaves what is.
pub(super) fn bound_workers(ring: &IoUring, workers: u32) -> Result<(), Reason> {
    ring.submitter()
        .register_iowq_max_workers(&mut [workers, workers])
        .map_err(|error| failed(WORKERS, &error))
}
