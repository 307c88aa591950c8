//! Operations for tokio-uring's ring. Each owns all that the kernel may touch until its completion:
//! also when nobody waits for it any more, since tokio-uring then keeps what it owns
//! (`Lifecycle::Ignored` in its driver).
//!
//! A splice names its descriptors by number, and the kernel looks the numbers up late, on a worker
//! thread (Linux 6.18, `io_splice` in io_uring/splice.c): a number that was closed and given to
//! another file meanwhile would send that one.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use io_uring::types::{CancelBuilder, Fd};
use io_uring::{cqueue, opcode, squeue};
use lendfile_core::OpenFile;
use rustix::pipe::SpliceFlags;
use tokio_uring::{InFlightOneshot, OneshotOutputTransform, UnsubmittedOneshot};

use super::Buffer;

/// Splice's "at the descriptor's own position", the only one that pipes and sockets have.
const NO_OFFSET: i64 = -1;

/// What an operation owns. Dropped while tokio-uring's driver is borrowed if nobody waits any more:
/// nothing in here may call tokio-uring when it is dropped.
struct Owned {
    /// Named by the entry.
    _descriptors: [Option<Descriptor>; 2],
    buffer: Option<Buffer>,
    /// Whatever the one who submits it wants to have back only after the completion.
    _permit: Option<Rc<dyn Permit>>,
    _count: Count,
}

/// Something that is given back when the kernel is done.
pub(crate) trait Permit {}

/// A descriptor that stays open at least as long as this.
enum Descriptor {
    File(Arc<OpenFile>),
    Other(Arc<OwnedFd>),
}

impl Descriptor {
    fn number(&self) -> Fd {
        let fd = match self {
            Self::File(file) => file.as_fd(),
            Self::Other(fd) => fd.as_fd(),
        };
        Fd(fd.as_raw_fd())
    }
}

/// Counts the operations in flight of one thread.
struct Count(Rc<Cell<usize>>);

impl Count {
    fn new(all: &Rc<Cell<usize>>) -> Self {
        all.set(all.get() + 1);
        Self(all.clone())
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// An operation that the ring has not been told of.
pub(crate) struct Operation {
    entry: squeue::Entry,
    descriptors: [Option<Descriptor>; 2],
    buffer: Option<Buffer>,
    permit: Option<Rc<dyn Permit>>,
}

impl Operation {
    /// Up to `len` bytes of `file` from `offset` into a pipe. Completes when there are some, with
    /// their number: 0 at the end of the file.
    pub(crate) fn fill(
        file: &Arc<OpenFile>,
        offset: u64,
        pipe: &Arc<OwnedFd>,
        len: u32,
    ) -> io::Result<Self> {
        let from = Descriptor::File(file.clone());
        let to = Descriptor::Other(pipe.clone());
        let offset = i64::try_from(offset).map_err(io::Error::other)?;
        let entry = opcode::Splice::new(from.number(), offset, to.number(), NO_OFFSET, len).build();
        Ok(Self::new(entry, [Some(from), Some(to)]))
    }

    /// Up to `len` bytes from a pipe into a socket; EAGAIN at once if the socket is full.
    pub(crate) fn drain(
        pipe: &Arc<OwnedFd>,
        socket: &Arc<OwnedFd>,
        len: u32,
        flags: SpliceFlags,
    ) -> Self {
        let from = Descriptor::Other(pipe.clone());
        let to = Descriptor::Other(socket.clone());
        let entry = opcode::Splice::new(from.number(), NO_OFFSET, to.number(), NO_OFFSET, len)
            .flags((flags | SpliceFlags::NONBLOCK).bits())
            .build();
        Self::new(entry, [Some(from), Some(to)])
    }

    /// Up to `len` bytes of `file` from `offset` into a registered buffer, which the completion
    /// gives back.
    pub(crate) fn read_fixed(file: &Source, offset: u64, mut buffer: Buffer, len: u32) -> Self {
        let from = match file {
            Source::Cached(file) => Descriptor::File(file.clone()),
            Source::Direct(fd) => Descriptor::Other(fd.clone()),
        };
        let (memory, index) = buffer.place(0..len as usize);
        let entry = opcode::ReadFixed::new(from.number(), memory, len, index)
            .offset(offset)
            .build();
        Self::new(entry, [Some(from), None]).with(buffer)
    }

    /// The bytes `range` of a registered buffer to `file` at `offset`. The completion tells how many
    /// were written, and gives the buffer back.
    ///
    /// # Errors
    ///
    /// If it is more than one operation can write.
    pub(crate) fn write_fixed(
        file: &Arc<OwnedFd>,
        offset: u64,
        mut buffer: Buffer,
        range: Range<usize>,
    ) -> io::Result<Self> {
        let to = Descriptor::Other(file.clone());
        let len = u32::try_from(range.len()).map_err(io::Error::other)?;
        let (memory, index) = buffer.place(range);
        let entry = opcode::WriteFixed::new(to.number(), memory, len, index)
            .offset(offset)
            .build();
        Ok(Self::new(entry, [Some(to), None]).with(buffer))
    }

    fn with(self, buffer: Buffer) -> Self {
        Self {
            buffer: Some(buffer),
            ..self
        }
    }

    fn new(entry: squeue::Entry, descriptors: [Option<Descriptor>; 2]) -> Self {
        Self {
            entry,
            descriptors,
            buffer: None,
            permit: None,
        }
    }

    /// Adds what is to be given back after the completion.
    pub(crate) fn holding(mut self, permit: Rc<dyn Permit>) -> Self {
        self.permit = Some(permit);
        self
    }

    /// Gives it to the kernel at once, and counts it in `count` until its completion.
    ///
    /// # Panics
    ///
    /// Outside of tokio-uring's `block_on`.
    pub(crate) fn submit(self, count: &Rc<Cell<usize>>) -> InFlight {
        let owned = Owned {
            _descriptors: self.descriptors,
            buffer: self.buffer,
            _permit: self.permit,
            _count: Count::new(count),
        };
        let in_flight = UnsubmittedOneshot::new(owned, Complete, self.entry).submit();
        flush();
        InFlight(in_flight)
    }
}

/// Where a registered buffer is filled from.
#[derive(Clone)]
pub(crate) enum Source {
    /// The page cache.
    Cached(Arc<OpenFile>),
    /// The disk: a descriptor opened with `O_DIRECT`.
    Direct(Arc<OwnedFd>),
}

/// An operation that the kernel has. Dropping it leaves the kernel what it needs.
pub(crate) struct InFlight(InFlightOneshot<Owned, Complete>);

impl Future for InFlight {
    type Output = Completion;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Completion> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// What the kernel said, and what it does not need any more.
pub(crate) struct Completion {
    pub(crate) result: io::Result<usize>,
    pub(crate) buffer: Option<Buffer>,
}

struct Complete;

impl OneshotOutputTransform for Complete {
    type Output = Completion;
    type StoredData = Owned;

    fn transform_oneshot_output(self, owned: Owned, entry: cqueue::Entry) -> Completion {
        let result = entry.result();
        Completion {
            result: usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result)),
            buffer: owned.buffer,
        }
    }
}

/// Hands what is in the submission queue to the kernel now.
///
/// tokio-uring does that when the thread parks, which a run queue that never empties does not let
/// it do, and when the queue is full, which is all that can be done from outside: the queue has one
/// entry ([`QUEUE_ENTRIES`]), and this puts a no-op into it. The no-op goes along with the next
/// operation or when the thread parks.
pub(crate) fn flush() {
    submit_bare(opcode::Nop::new().build());
}

/// Asks the kernel to give up all operations in flight; they complete all the same.
pub(crate) fn cancel_all() {
    submit_bare(opcode::AsyncCancel2::new(CancelBuilder::any()).build());
    flush();
}

/// Entries of tokio-uring's submission queue; see [`flush`].
pub(crate) const QUEUE_ENTRIES: u32 = 1;

/// Submits what names no memory and no descriptor, and forgets it.
fn submit_bare(entry: squeue::Entry) {
    drop(UnsubmittedOneshot::new((), Ignore, entry).submit());
}

struct Ignore;

impl OneshotOutputTransform for Ignore {
    type Output = ();
    type StoredData = ();

    fn transform_oneshot_output(self, (): (), _entry: cqueue::Entry) {}
}
