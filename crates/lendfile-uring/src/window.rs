//! A window: a stretch of a file that a ring operation brings near, into a pipe or a registered
//! buffer, so that sending it waits for nothing but the socket.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use lendfile_epoll::Pipe;

use crate::budget::Share;
use crate::ring::Ring;
use crate::sys::{Buffer, InFlight, Operation, Source};

/// A page; a pipe's slots hold at most one each.
const PAGE_BYTES: u64 = 4096;

/// What windows are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Registered buffers.
    Buffers,
    /// Pipes.
    Pipes,
}

/// A stretch of a file, filled or being filled.
pub(crate) struct Window {
    /// Of the first byte in it.
    offset: u64,
    /// Up to where it was asked to be filled.
    end: u64,
    store: Store,
    fill: Option<InFlight>,
    share: Rc<Share>,
}

enum Store {
    Buffer {
        /// `None` while the kernel has it.
        buffer: Option<Buffer>,
        used: Range<usize>,
    },
    Pipe(Pipe),
}

/// Where a window is filled from.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) source: Source,
    /// What offsets and lengths must be multiples of.
    pub(crate) alignment: u64,
}

impl Window {
    /// An empty one.
    ///
    /// # Errors
    ///
    /// That no pipe, or no buffer, is to be had now.
    pub(crate) fn new(ring: &Ring, kind: Kind, share: Rc<Share>) -> io::Result<Self> {
        let store = match kind {
            Kind::Buffers => Store::Buffer {
                buffer: Some(ring.buffer().ok_or(io::ErrorKind::OutOfMemory)?),
                used: 0..0,
            },
            Kind::Pipes => Store::Pipe(Pipe::take()?),
        };
        Ok(Self {
            offset: 0,
            end: 0,
            store,
            fill: None,
            share,
        })
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.store {
            Store::Buffer { .. } => Kind::Buffers,
            Store::Pipe(_) => Kind::Pipes,
        }
    }

    /// Has an empty window filled from `offset`, at most up to `end`.
    pub(crate) fn fill(
        &mut self,
        ring: &Ring,
        origin: &Origin,
        offset: u64,
        end: u64,
    ) -> io::Result<()> {
        debug_assert!(self.fill.is_none() && self.held() == 0);
        let skipped = offset % origin.alignment;
        let (operation, end) = match (&mut self.store, &origin.source) {
            (Store::Buffer { buffer, used }, source) => {
                let taken = buffer.take().ok_or(io::ErrorKind::OutOfMemory)?;
                let end = end.min(offset - skipped + taken.capacity() as u64);
                // Beyond the end of the region, so that the length is aligned, too.
                let asked = (end - (offset - skipped)).next_multiple_of(origin.alignment);
                let asked = asked.min(taken.capacity() as u64);
                let start = usize::try_from(skipped).map_err(io::Error::other)?;
                let stop = usize::try_from(end - (offset - skipped)).map_err(io::Error::other)?;
                *used = start..stop;
                let len = u32::try_from(asked).map_err(io::Error::other)?;
                let operation = Operation::read_fixed(source, offset - skipped, taken, len);
                (operation, end)
            }
            (Store::Pipe(pipe), Source::Cached(file)) => {
                // A page that is not taken whole needs a slot all the same.
                let room = pipe.capacity() as u64 - offset % PAGE_BYTES;
                let end = end.min(offset + room);
                let len = u32::try_from(end - offset).map_err(io::Error::other)?;
                (Operation::fill(file, offset, pipe.writer(), len)?, end)
            }
            (Store::Pipe(_), Source::Direct(_)) => return Err(io::ErrorKind::Unsupported.into()),
        };
        self.offset = offset;
        self.end = end;
        self.fill = Some(ring.submit(operation.holding(self.share.clone())));
        Ok(())
    }

    /// Waits until it has been filled; the bytes in it, which are none where the file has ended.
    pub(crate) fn poll_filled(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Some(fill) = &mut self.fill {
            let completion = ready!(Pin::new(fill).poll(cx));
            self.fill = None;
            let got = *completion.result.as_ref().unwrap_or(&0);
            match &mut self.store {
                Store::Buffer { buffer, used } => {
                    *buffer = completion.buffer;
                    used.end = used.end.min(got);
                    used.start = used.start.min(used.end);
                }
                Store::Pipe(pipe) => pipe.filled(got),
            }
            completion.result?;
        }
        Poll::Ready(Ok(self.held()))
    }

    /// Of the first byte in it, or of the first byte that will be.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Behind the last byte that it was asked to be filled with.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Bytes in it.
    pub(crate) fn held(&self) -> usize {
        match &self.store {
            Store::Buffer {
                buffer: Some(_),
                used,
            } => used.len(),
            Store::Buffer { buffer: None, .. } => 0,
            Store::Pipe(pipe) => pipe.held(),
        }
    }

    /// The pipe that it is.
    pub(crate) fn pipe(&self) -> Option<&Pipe> {
        match &self.store {
            Store::Buffer { .. } => None,
            Store::Pipe(pipe) => Some(pipe),
        }
    }

    /// What it holds, if that is in memory.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match &self.store {
            Store::Buffer {
                buffer: Some(buffer),
                used,
            } => Some(buffer.slice(used.clone())),
            Store::Buffer { buffer: None, .. } | Store::Pipe(_) => None,
        }
    }

    /// Notes that the first `n` bytes were sent.
    pub(crate) fn sent(&mut self, n: usize) {
        self.offset += n as u64;
        match &mut self.store {
            Store::Buffer { used, .. } => used.start += n,
            Store::Pipe(pipe) => pipe.drained(n),
        }
    }

    /// Lets go of what it holds, so that its pipe can be used again.
    pub(crate) fn discard(mut self) {
        if let Store::Pipe(pipe) = &mut self.store {
            match self.fill {
                // Nobody knows what the kernel will put into it.
                Some(_) => pipe.spoil(),
                None => pipe.discard(),
            }
        }
    }

    /// Notes that the kernel may still take bytes out of its pipe.
    pub(crate) fn spoil(&mut self) {
        if let Store::Pipe(pipe) = &mut self.store {
            pipe.spoil();
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // A pipe that is being filled has ends elsewhere, so it would not be pooled anyway.
        if self.fill.is_some() {
            self.spoil();
        }
    }
}
