//! What a reception has between socket and file: two buffers in turn, the next filled while the ring
//! writes the one before.
//!
//! All of it is in the socket, too, until it is in the file: it is only peeked at. So it can be let go
//! of at any time, and nothing is lost.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::budget::Share;
use crate::flow::ENTERS;
use crate::ring::Ring;
use crate::sys::{Buffer, InFlight, Operation};
use crate::target::Target;

/// One reception's.
#[derive(Default)]
pub(crate) struct Intake {
    /// Being written.
    writing: Option<Writing>,
    /// To be written next.
    pub(crate) next: Option<Portion>,
    /// How often in a row writing was interrupted.
    pub(crate) interruptions: u32,
    /// Whether it waits for a share.
    pub(crate) waits: bool,
    /// System calls that were not booked yet.
    pub(crate) syscalls: u32,
}

/// Bytes that were peeked at.
pub(crate) struct Portion {
    pub(crate) buffer: Buffer,
    pub(crate) used: Range<usize>,
    share: Rc<Share>,
}

/// Bytes on their way to the file.
struct Writing {
    operation: InFlight,
    used: Range<usize>,
    share: Rc<Share>,
}

impl Portion {
    pub(crate) fn new(buffer: Buffer, share: Rc<Share>) -> Self {
        Self {
            buffer,
            used: 0..0,
            share,
        }
    }

    /// Bytes that still fit behind those in it.
    pub(crate) fn room(&self) -> usize {
        self.buffer.capacity() - self.used.end
    }
}

impl Intake {
    pub(crate) fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// Bytes in both buffers.
    pub(crate) fn held(&self) -> usize {
        let writing = self
            .writing
            .as_ref()
            .map_or(0, |writing| writing.used.len());
        writing + self.next.as_ref().map_or(0, |next| next.used.len())
    }

    /// Has `portion` written at `offset`.
    pub(crate) fn write(
        &mut self,
        ring: &Ring,
        target: &Target,
        offset: u64,
        portion: Portion,
    ) -> io::Result<()> {
        let Portion {
            buffer,
            used,
            share,
        } = portion;
        let file = target.descriptor(offset, &used);
        let operation = Operation::write_fixed(file, offset, buffer, used.clone())?;
        self.syscalls += ENTERS;
        self.writing = Some(Writing {
            operation: ring.submit(operation.holding(share.clone())),
            used,
            share,
        });
        Ok(())
    }

    /// Waits for the end of the write: how many bytes of the portion are in the file, and the
    /// portion. `None` if nothing is being written.
    pub(crate) fn poll_written(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(io::Result<usize>, Portion)>> {
        let Some(writing) = &mut self.writing else {
            return Poll::Ready(None);
        };
        let completion = ready!(Pin::new(&mut writing.operation).poll(cx));
        let ended = self.writing.take().zip(completion.buffer);
        Poll::Ready(ended.map(|(writing, buffer)| {
            let portion = Portion {
                buffer,
                used: writing.used,
                share: writing.share,
            };
            (completion.result, portion)
        }))
    }
}
