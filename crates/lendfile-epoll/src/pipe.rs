//! Pipes for `splice(2)`, which moves pages only into or out of one.
//!
//! Each thread keeps a few; a transfer takes one while bytes move and lets go of it before it
//! waits, so that a thousand stalled peers hold none. What is not known to be empty is closed and
//! never pooled: bytes of one file must not appear in another's.
//!
//! This module does not decide what to do without a pipe: [`Pipe::take`] says so, and the caller
//! goes one rung down.

use std::cell::RefCell;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lendfile_core::statistics;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags};

/// Bytes a pipe should hold: `/proc/sys/fs/pipe-max-size`'s default, and the fastest measured
/// (6.9–7.1 GB/s; 3.0 GB/s with 64 KiB, both by ring; Linux 6.18, loopback).
const FULL_BYTES: usize = 1 << 20;

/// Below this, sendfile is faster than two system calls for every so many bytes. It is also what
/// a pipe has without being asked, unless its user has too many already: then it has two pages.
const USEFUL_BYTES: usize = 64 << 10;

/// Pipes that a thread keeps. The kernel charges 1 MiB for each to its user, who has 64 MiB
/// (`/proc/sys/fs/pipe-user-pages-soft`).
const POOLED: usize = 4;

/// Time for which none is asked for after none could be had, nor a larger one than there was.
const PAUSE: Duration = Duration::from_secs(1);

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool::new()) };
}

/// A pipe with both ends non-blocking, and the count of what is in it.
///
/// Dropped, it goes back to the pool of the thread that drops it if it is empty and nobody else
/// has one of its ends; otherwise it is closed.
pub struct Pipe {
    /// `None` only in `drop`.
    ends: Option<Ends>,
    held: usize,
    spoilt: bool,
}

impl Pipe {
    /// Takes one from the thread's pool, or makes one of up to 1 MiB, and at least 64 KiB.
    ///
    /// # Errors
    ///
    /// EMFILE or ENFILE without descriptors; EPERM if this user's pipes are so many that a new one
    /// would be too small to be of use. The reason is kept for a second, in which no pipe is
    /// asked for. Counted in `pipes_refused`.
    pub fn take() -> io::Result<Self> {
        let taken = POOL
            .try_with(|pool| pool.borrow_mut().take())
            .unwrap_or_else(|_| Ends::new());
        let ends = taken.inspect_err(|errno| {
            statistics::PIPES_REFUSED.increment();
            tracing::debug!(%errno, "no pipe to be had");
        })?;
        Ok(Self {
            ends: Some(ends),
            held: 0,
            spoilt: false,
        })
    }

    /// Bytes it can hold, if each of its pages is full.
    pub fn capacity(&self) -> usize {
        self.ends().capacity
    }

    /// Bytes in it.
    pub fn held(&self) -> usize {
        self.held
    }

    /// The end to splice out of.
    pub fn reader(&self) -> &Arc<OwnedFd> {
        &self.ends().reader
    }

    /// The end to splice into.
    pub fn writer(&self) -> &Arc<OwnedFd> {
        &self.ends().writer
    }

    /// Notes that `n` bytes were put into it.
    pub fn filled(&mut self, n: usize) {
        self.held += n;
    }

    /// Notes that `n` bytes were taken out of it.
    ///
    /// # Panics
    ///
    /// If there were fewer.
    pub fn drained(&mut self, n: usize) {
        self.held = self.held.checked_sub(n).expect("no more than is in it");
    }

    /// Notes that nobody knows what is in it: it will be closed.
    pub fn spoil(&mut self) {
        self.spoilt = true;
    }

    /// Throws away what is in it, so that it can be used again; one splice into `/dev/null`, which
    /// copies nothing. If that is not to be had, the pipe is spoilt.
    pub fn discard(&mut self) {
        while self.held > 0 && !self.spoilt {
            match splice_to_null(self.reader(), self.held) {
                Ok(n) if n > 0 => self.drained(n),
                Err(Errno::INTR) => {}
                _ => self.spoil(),
            }
        }
    }

    fn ends(&self) -> &Ends {
        self.ends.as_ref().expect("taken only in drop")
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let Some(mut ends) = self.ends.take() else {
            return;
        };
        // Ends that a ring operation still holds may yet be filled.
        let alone =
            Arc::get_mut(&mut ends.reader).is_some() && Arc::get_mut(&mut ends.writer).is_some();
        if self.held == 0 && !self.spoilt && alone {
            // While the thread ends there is no pool, and the pipe is closed.
            _ = POOL.try_with(|pool| pool.borrow_mut().put(ends));
        }
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe")
            .field("capacity", &self.capacity())
            .field("held", &self.held)
            .field("spoilt", &self.spoilt)
            .finish()
    }
}

/// The two descriptors; counted while they exist.
struct Ends {
    reader: Arc<OwnedFd>,
    writer: Arc<OwnedFd>,
    capacity: usize,
}

impl Ends {
    fn new() -> Result<Self, Errno> {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        statistics::PIPES_OPEN.increment();
        let mut ends = Self {
            capacity: rustix::pipe::fcntl_getpipe_size(&reader).unwrap_or(0),
            reader: Arc::new(reader),
            writer: Arc::new(writer),
        };
        let refused = ends.grow();
        if ends.capacity < USEFUL_BYTES {
            return Err(refused.unwrap_or(Errno::NOBUFS));
        }
        Ok(ends)
    }

    /// Makes it as large as is allowed; why not larger.
    fn grow(&mut self) -> Option<Errno> {
        let mut refused = None;
        let mut want = FULL_BYTES;
        while want > self.capacity {
            match rustix::pipe::fcntl_setpipe_size(&self.writer, want) {
                Ok(size) => self.capacity = size,
                Err(errno) => refused = Some(errno),
            }
            want /= 2;
        }
        refused
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        statistics::PIPES_OPEN.decrement();
    }
}

/// A thread's empty pipes.
struct Pool {
    empty: Vec<Ends>,
    /// Why none could be had, and when to ask again.
    refused: Option<(Errno, Instant)>,
    /// When to ask again for a larger one than those that are there.
    grow_from: Option<Instant>,
}

impl Pool {
    const fn new() -> Self {
        Self {
            empty: Vec::new(),
            refused: None,
            grow_from: None,
        }
    }

    fn take(&mut self) -> Result<Ends, Errno> {
        if let Some(mut ends) = self.empty.pop() {
            statistics::PIPES_POOLED.decrement();
            if ends.capacity < FULL_BYTES && self.grow_from.is_none_or(has_come) {
                ends.grow();
                self.grow_from = Some(Instant::now() + PAUSE);
            }
            return Ok(ends);
        }
        if let Some((errno, until)) = self.refused
            && !has_come(until)
        {
            return Err(errno);
        }
        let ends = Ends::new();
        let errno = ends.as_ref().err();
        self.refused = errno.map(|errno| (*errno, Instant::now() + PAUSE));
        ends
    }

    fn put(&mut self, ends: Ends) {
        if self.empty.len() < POOLED {
            statistics::PIPES_POOLED.increment();
            self.empty.push(ends);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for _ in &self.empty {
            statistics::PIPES_POOLED.decrement();
        }
    }
}

fn has_come(instant: Instant) -> bool {
    Instant::now() >= instant
}

fn splice_to_null(reader: &OwnedFd, len: usize) -> Result<usize, Errno> {
    thread_local! {
        static NULL: Option<File> = OpenOptions::new().write(true).open("/dev/null").ok();
    }
    NULL.try_with(|null| match null {
        Some(null) => rustix::pipe::splice(reader, None, null, None, len, SpliceFlags::NONBLOCK),
        None => Err(Errno::NOENT),
    })
    .unwrap_or(Err(Errno::NOENT))
}

#[cfg(test)]
mod tests;
