//! Reading ahead by threads of our own: the last rung, for files that cannot be asked whether a
//! page is in the page cache and have no read that does not wait (overlayfs, FUSE, NFS).
//!
//! The threads are few, live only while there is something to read, and never touch a socket. One
//! file keeps at most [`PER_FILE`] of them, however often it is open, and one filesystem
//! [`PER_FILESYSTEM`], so that one that hangs does not take the others' with it. This is not
//! `spawn_blocking`: its pool belongs to the application, is 512 threads deep, and a hanging file
//! would fill it.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use lendfile_core::{FileRegion, OpenFile, statistics};
use rustix::io::Errno;

use crate::PageBuffer;

/// Threads in all, as many as nginx's default pool has half of.
const THREADS: usize = 16;

/// Threads that one file can keep.
const PER_FILE: usize = 2;

/// Threads that the files of one filesystem can keep.
const PER_FILESYSTEM: usize = THREADS / 2;

/// How long a thread waits for the next read before it ends.
const IDLE: Duration = Duration::from_secs(10);

/// Their stacks hold a few frames.
const STACK_BYTES: usize = 128 << 10;

/// Bytes per read: what the kernel's readahead asks a FUSE server for at most by default.
const READ_BYTES: usize = 128 << 10;

/// What a read is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To have the pages in the page cache.
    Warm,
    /// To have the bytes.
    Bytes,
}

/// A read under way in a thread, or waiting for one. Dropped, it ends with the call it is in, if it
/// has begun.
#[derive(Debug)]
pub(crate) struct Fetch {
    region: FileRegion,
    shared: Arc<Mutex<State>>,
}

#[derive(Debug)]
enum State {
    Running(Option<Waker>),
    Done(io::Result<(usize, Option<PageBuffer>)>),
    Taken,
}

impl Fetch {
    /// Starts reading the region from its start.
    ///
    /// # Errors
    ///
    /// If there is no thread and none can be made.
    pub(crate) fn start(region: FileRegion, purpose: Purpose) -> io::Result<Self> {
        let shared = Arc::new(Mutex::new(State::Running(None)));
        let job = Job {
            region: region.clone(),
            purpose,
            shared: shared.clone(),
        };
        POOL.submit(job)?;
        statistics::PAGES_FETCHED.increment();
        Ok(Self { region, shared })
    }

    /// Whether it reads `file` from `offset` on.
    pub(crate) fn is_at(&self, file: &Arc<OpenFile>, offset: u64) -> bool {
        Arc::ptr_eq(self.region.file(), file) && self.region.offset() == offset
    }

    /// Resolves with the bytes read, and themselves if they were asked for; 0 at the file's end.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(usize, Option<PageBuffer>)>> {
        let mut state = lock(&self.shared);
        if let State::Running(waker) = &mut *state {
            *waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        match std::mem::replace(&mut *state, State::Taken) {
            State::Done(result) => Poll::Ready(result),
            _ => Poll::Ready(Err(io::Error::other("polled after its end"))),
        }
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        let is_running = matches!(*lock(&self.shared), State::Running(_));
        if is_running {
            // Its file may be closed by this, which may take the time of a call: after the lock.
            drop(POOL.withdraw(&self.shared));
        }
    }
}

struct Job {
    region: FileRegion,
    purpose: Purpose,
    shared: Arc<Mutex<State>>,
}

/// A file, however often it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    filesystem: u64,
    inode: u64,
}

impl Job {
    /// Reads, and tells. A panic ends neither the thread, which is counted on, nor the wait.
    fn run(&self, scratch: &mut PageBuffer) {
        let result = panic::catch_unwind(AssertUnwindSafe(|| self.result(scratch)))
            .unwrap_or_else(|_| Err(io::Error::other("reading panicked")));
        let state = std::mem::replace(&mut *lock(&self.shared), State::Done(result));
        if let State::Running(Some(waker)) = state
            // A waker is somebody else's code.
            && panic::catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err()
        {
            tracing::error!("what a helper thread woke panicked");
        }
    }

    fn result(&self, scratch: &mut PageBuffer) -> io::Result<(usize, Option<PageBuffer>)> {
        let want = usize::try_from(self.region.len()).unwrap_or(usize::MAX);
        match self.purpose {
            Purpose::Warm => self.read(want, scratch).map(|n| (n, None)),
            Purpose::Bytes => {
                let mut bytes = PageBuffer::zeroed(want);
                let read = self.read(want, &mut bytes);
                read.map(|n| (n, Some(bytes)))
            }
        }
    }

    /// Reads up to `want` bytes into `buffer`; an error only if there was none before it.
    fn read(&self, want: usize, buffer: &mut PageBuffer) -> io::Result<usize> {
        let mut done = 0;
        while done < want && self.is_awaited() {
            let len = READ_BYTES.min(want - done);
            let at = match self.purpose {
                Purpose::Bytes => done,
                Purpose::Warm => 0,
            };
            let into = &mut buffer.as_mut()[at..at + len];
            match rustix::io::pread(self.region.file(), into, self.region.offset() + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(_) if done > 0 => break,
                Err(errno) => return Err(self.region.unreadable(errno.into()).into()),
            }
        }
        Ok(done)
    }

    /// Whether the [`Fetch`] is still there.
    fn is_awaited(&self) -> bool {
        Arc::strong_count(&self.shared) > 1
    }

    fn identity(&self) -> Identity {
        let metadata = self.region.file().metadata();
        Identity {
            filesystem: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

static POOL: Pool = Pool {
    queue: Mutex::new(Queue {
        waiting: VecDeque::new(),
        busy: Vec::new(),
        threads: 0,
        idle: 0,
    }),
    more: Condvar::new(),
};

struct Pool {
    queue: Mutex<Queue>,
    more: Condvar,
}

struct Queue {
    waiting: VecDeque<Job>,
    /// The file that each busy thread is reading.
    busy: Vec<Identity>,
    threads: usize,
    idle: usize,
}

impl Queue {
    /// The first job whose file and filesystem may have another thread.
    fn next(&mut self) -> Option<Job> {
        let busy = &self.busy;
        let may_run = |job: &Job| {
            let its = job.identity();
            let on_its = busy.iter().filter(|one| one.filesystem == its.filesystem);
            on_its.clone().count() < PER_FILESYSTEM
                && on_its.filter(|one| one.inode == its.inode).count() < PER_FILE
        };
        let at = self.waiting.iter().position(may_run)?;
        let job = self.waiting.remove(at)?;
        self.busy.push(job.identity());
        Some(job)
    }
}

impl Pool {
    fn submit(&'static self, job: Job) -> io::Result<()> {
        let mut queue = lock(&self.queue);
        // Each job that waits may be about to take one of the idle threads.
        if queue.idle <= queue.waiting.len() && queue.threads < THREADS {
            let thread = thread::Builder::new()
                .name("lendfile-fetch".to_owned())
                .stack_size(STACK_BYTES)
                .spawn(|| self.work());
            match thread {
                Ok(_) => queue.threads += 1,
                Err(error) if queue.threads == 0 => return Err(error),
                Err(_) => {}
            }
        }
        queue.waiting.push_back(job);
        drop(queue);
        self.more.notify_one();
        Ok(())
    }

    /// Takes a job back that has not begun.
    fn withdraw(&self, shared: &Arc<Mutex<State>>) -> Option<Job> {
        let mut queue = lock(&self.queue);
        let is_its = |job: &Job| Arc::ptr_eq(&job.shared, shared);
        let at = queue.waiting.iter().position(is_its)?;
        queue.waiting.remove(at)
    }

    fn work(&self) {
        let mut scratch = PageBuffer::zeroed(READ_BYTES);
        let mut queue = lock(&self.queue);
        loop {
            if let Some(job) = queue.next() {
                drop(queue);
                job.run(&mut scratch);
                let its = job.identity();
                // Closing it may wait, too.
                drop(job);
                queue = lock(&self.queue);
                if let Some(at) = queue.busy.iter().position(|busy| *busy == its) {
                    queue.busy.swap_remove(at);
                }
                // A job of this file may have been passed over.
                continue;
            }
            queue.idle += 1;
            let (woken, timeout) = self
                .more
                .wait_timeout(queue, IDLE)
                .unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            queue.idle -= 1;
            if timeout.timed_out() && queue.waiting.is_empty() {
                queue.threads -= 1;
                return;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
