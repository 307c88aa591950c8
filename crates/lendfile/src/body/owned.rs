//! The owned way: the file read in chunks, without blocking the thread.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use lendfile_core::{FileRegion, log_file_failure};
use lendfile_epoll::{FileReader, PageBuffer};

/// Bytes in a chunk. Read + write on one core: 2.8–3.1 GB/s at 64 KiB (what tower-http and
/// actix-files read), 4.0–5.0 at 256 KiB; Linux 6.18, loopback.
const CHUNK_BYTES: usize = 256 << 10;

/// Chunks that are kept for the next reader, in all 8 MiB. A new one must be zeroed and its pages
/// faulted in, which took as long as copying the file into it.
const POOLED_CHUNKS: usize = 32;

static POOL: Mutex<Vec<PageBuffer>> = Mutex::new(Vec::new());

pub(super) struct Owned {
    rest: FileRegion,
    reader: FileReader,
}

impl Owned {
    pub(super) fn new(region: FileRegion) -> Self {
        Self {
            rest: region,
            reader: FileReader::new(),
        }
    }

    /// Bytes not yet read.
    pub(super) fn len(&self) -> u64 {
        self.rest.len()
    }

    /// The next chunk; empty at the end. No buffer is held while it waits.
    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let want = usize::try_from(self.rest.len()).map_or(CHUNK_BYTES, |n| n.min(CHUNK_BYTES));
        let mut chunk = Chunk::of(want);
        let buffer = chunk.buffer_mut();
        let read = ready!(self.reader.poll_read(cx, &self.rest, buffer));
        chunk.len = read.inspect_err(log_file_failure)?;
        self.rest.advance(chunk.len as u64);
        // A page that happened to be in the cache must not hold a whole chunk's memory.
        if chunk.len < want / 4 {
            return Poll::Ready(Ok(Bytes::copy_from_slice(chunk.as_ref())));
        }
        Poll::Ready(Ok(Bytes::from_owner(chunk)))
    }
}

/// A buffer that returns to the pool if it is as long as they are there.
struct Chunk {
    /// `None` only in `drop`.
    buffer: Option<PageBuffer>,
    len: usize,
}

impl Chunk {
    fn of(len: usize) -> Self {
        let pooled = match len {
            CHUNK_BYTES => pool().pop(),
            _ => None,
        };
        Self {
            buffer: Some(pooled.unwrap_or_else(|| PageBuffer::zeroed(len))),
            len: 0,
        }
    }

    fn buffer_mut(&mut self) -> &mut [u8] {
        self.buffer.as_mut().map_or(&mut [], PageBuffer::as_mut)
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        let buffer = self.buffer.as_ref().map_or(&[][..], PageBuffer::as_ref);
        &buffer[..self.len]
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let Some(buffer) = self.buffer.take() else {
            return;
        };
        let mut pool = pool();
        if buffer.as_ref().len() == CHUNK_BYTES && pool.len() < POOLED_CHUNKS {
            pool.push(buffer);
        }
    }
}

fn pool() -> std::sync::MutexGuard<'static, Vec<PageBuffer>> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}
