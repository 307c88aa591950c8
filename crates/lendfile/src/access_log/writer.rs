//! How lines reach their file: records are gathered in memory by the threads that serve, made into
//! lines and written by a thread of its own.
//!
//! Not `tracing-appender`: it takes an allocation and a channel's wake-up for each line, counts
//! what it drops in messages, and cannot open its file again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, mem};

use super::line::Formatter;
use super::record::{Begun, Ended, Records};

/// Bytes gathered by one shard, or of lines, that are worth a write: some 600 records.
const BATCH_BYTES: usize = 64 << 10;

/// Bytes that a shard gathers at most while the target does not take them.
const SHARD_BYTES: usize = 4 << 20;

/// The longest that a record waits for others.
const INTERVAL: Duration = Duration::from_millis(250);

/// Takes lines from any thread.
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// `None` only in `drop`.
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// One for each thread that is likely to serve, so that none waits for another.
    shards: Box<[Mutex<Records>]>,
    dropped: AtomicU64,
    reopen: AtomicBool,
    stop: AtomicBool,
    /// Whether the thread sleeps until it is woken.
    asleep: AtomicBool,
    /// Flushes asked for.
    flushes: AtomicU64,
    /// Flushes done.
    flushed: Mutex<u64>,
    progress: Condvar,
}

impl Writer {
    pub(super) fn start(target: Target, formatter: Formatter) -> io::Result<Self> {
        let shards = thread::available_parallelism().map_or(1, usize::from);
        let shared = Arc::new(Shared {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            dropped: AtomicU64::new(0),
            reopen: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            flushes: AtomicU64::new(0),
            flushed: Mutex::new(0),
            progress: Condvar::new(),
        });
        let for_thread = shared.clone();
        let thread = thread::Builder::new()
            .name("access-log".into())
            .spawn(move || for_thread.run(target, formatter))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Adds a record. Waits for nothing but another being added.
    pub(super) fn push(&self, begun: &Begun, ended: Ended) {
        let shared = &*self.shared;
        let mut shard = lock(&shared.shards[shard_index() % shared.shards.len()]);
        let before = shard.size();
        if before >= SHARD_BYTES {
            shared.dropped.fetch_add(1, Relaxed);
            return;
        }
        shard.push(begun, ended);
        let filled = before < BATCH_BYTES && shard.size() >= BATCH_BYTES;
        drop(shard);
        // The thread says that it sleeps before it looks at the shards a last time, so either it
        // has seen this record or it is seen sleeping.
        if filled || shared.asleep.load(SeqCst) && shared.asleep.swap(false, SeqCst) {
            self.wake();
        }
    }

    pub(super) fn reopen(&self) {
        self.shared.reopen.store(true, SeqCst);
        self.wake();
    }

    pub(super) fn flush(&self) {
        let ticket = self.shared.flushes.fetch_add(1, SeqCst) + 1;
        self.wake();
        let done = lock(&self.shared.flushed);
        let done = self.shared.progress.wait_while(done, |done| *done < ticket);
        drop(done);
    }

    pub(super) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Relaxed)
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // If it panicked, there is nobody left to write the lines.
            _ = thread.join();
        }
    }
}

/// The shard of this thread, before it is wrapped to their number.
fn shard_index() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static INDEX: usize = NEXT.fetch_add(1, Relaxed);
    }
    INDEX.with(|index| *index)
}

impl Shared {
    fn run(&self, mut target: Target, mut formatter: Formatter) {
        let _over = Over(self);
        let mut records = Records::default();
        let mut lines = Lines::default();
        loop {
            // Read before the shards are emptied: what was asked for before is then done.
            let stop = self.stop.load(SeqCst);
            let flushes = self.flushes.load(SeqCst);
            if self.reopen.swap(false, SeqCst) {
                target.reopen();
            }
            let mut wrote = false;
            for shard in &self.shards {
                mem::swap(&mut *lock(shard), &mut records);
                for (request, ended) in records.iter() {
                    formatter.append(&mut lines.text, &request, ended);
                    lines.count += 1;
                    if lines.text.len() >= BATCH_BYTES {
                        self.write(&mut lines, &mut target);
                    }
                }
                wrote |= !records.is_empty();
                records.clear();
                self.write(&mut lines, &mut target);
            }
            *lock(&self.flushed) = flushes;
            self.progress.notify_all();
            if stop {
                return;
            }
            match wrote {
                true => thread::park_timeout(INTERVAL),
                false => self.sleep(flushes),
            }
        }
    }

    fn write(&self, lines: &mut Lines, target: &mut Target) {
        if lines.count == 0 {
            return;
        }
        let written = target.write(&lines.text);
        self.dropped.fetch_add(written.lost(lines.count), Relaxed);
        lines.text.clear();
        lines.count = 0;
    }

    /// Until there is something to do, other than the flushes that have been done. May return without.
    fn sleep(&self, flushes: u64) {
        self.asleep.store(true, SeqCst);
        let has_records = |shard: &Mutex<Records>| !lock(shard).is_empty();
        // What else wakes the thread does so after saying what it wants. Unparking lasts, but whoever
        // was told of an error on this thread may have parked meanwhile.
        let is_wanted = self.stop.load(SeqCst)
            || self.reopen.load(SeqCst)
            || self.flushes.load(SeqCst) != flushes;
        if !is_wanted && !self.shards.iter().any(has_records) {
            thread::park();
        }
        self.asleep.store(false, SeqCst);
    }
}

/// Nobody waits for a thread that is no more, should a foreign `Write` have panicked.
struct Over<'a>(&'a Shared);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        *lock(&self.0.flushed) = u64::MAX;
        self.0.progress.notify_all();
    }
}

/// Lines to be written.
#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    count: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the lines go.
pub(super) struct Target {
    to: To,
    failing: bool,
    /// What failed may have left half a line.
    may_end_within_line: bool,
}

enum To {
    File(File, PathBuf),
    Writer(Box<dyn Write + Send>),
}

/// Whether a batch was written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    Yes,
    No,
}

impl Written {
    fn lost(self, count: u64) -> u64 {
        match self {
            Self::Yes => 0,
            Self::No => count,
        }
    }
}

impl Target {
    pub(super) fn file(file: File, path: PathBuf) -> Self {
        Self {
            to: To::File(file, path),
            failing: false,
            may_end_within_line: false,
        }
    }

    pub(super) fn writer(writer: impl Write + Send + 'static) -> Self {
        Self {
            to: To::Writer(Box::new(writer)),
            failing: false,
            may_end_within_line: false,
        }
    }

    fn reopen(&mut self) {
        let To::File(file, path) = &mut self.to else {
            return;
        };
        match open(path) {
            Ok(new) => {
                *file = new;
                self.may_end_within_line = false;
            }
            Err(error) => {
                let path = path.display();
                tracing::error!(%path, %error, "cannot reopen the access log; writing to the old file");
            }
        }
    }

    fn write(&mut self, lines: &[u8]) -> Written {
        let to: &mut dyn Write = match &mut self.to {
            To::File(file, _) => file,
            To::Writer(writer) => writer,
        };
        let ended = match self.may_end_within_line {
            true => to.write_all(b"\n"),
            false => Ok(()),
        };
        let written = ended.and_then(|()| to.write_all(lines));
        let written = written.and_then(|()| to.flush());
        self.may_end_within_line = written.is_err();
        let was_failing = mem::replace(&mut self.failing, written.is_err());
        match written {
            Ok(()) if was_failing => tracing::warn!("the access log is being written again"),
            Ok(()) => {}
            // Said once, not for every batch.
            Err(error) if !was_failing => {
                tracing::error!(%error, "cannot write the access log; its lines are lost");
            }
            Err(_) => {}
        }
        match self.failing {
            true => Written::No,
            false => Written::Yes,
        }
    }
}

pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}
