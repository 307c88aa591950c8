//! Responses made a moment ago, with their open files, so that a hot one costs no decoding of its
//! path, no `openat2`, `fstat` and `mmap`, and no formatting of dates and tags (together more than
//! a tenth of a 1 MiB response).
//!
//! At each use the open file is asked whether it has changed or lost its name (`fstat`), so a file
//! that was written to, replaced or removed is noticed at once. That the path leads elsewhere
//! although the file is as it was (a symbolic link, a directory above it) is noticed after the
//! staleness time: then the path is opened again. An entry that is replaced
//! or evicted is closed when its last transfer ends. Paths that lead to no file are not kept.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use lendfile_core::FileRegion;
use lendfile_core::lent::Mapping;
use quick_cache::sync::Cache as QuickCache;
use rustix::fs::Stat;

use super::FileResponse;

/// Open files kept at most. The usual limit of descriptors is 1,024 and connections need theirs.
const ENTRIES: usize = 256;

/// Time that an unused entry is kept. It is noticed at the next request only: a server without
/// requests keeps its last files open.
const UNUSED: Duration = Duration::from_secs(10);

/// By the path of the request's target as it was sent: another spelling of it is another entry.
#[derive(Debug)]
pub(super) struct Cache {
    entries: QuickCache<String, Arc<Entry>>,
    epoch: Instant,
    staleness: Duration,
    /// When unused entries were last looked for.
    swept: Milliseconds,
}

/// Since the cache's epoch.
type Milliseconds = AtomicU64;

/// A response made of an open file.
#[derive(Debug)]
pub(super) struct Entry {
    response: FileResponse,
    /// Held while the entry is, so that a hot file is mapped once. The `OpenFile` itself holds it
    /// weakly, for the transfers that share it.
    mapping: OnceLock<Arc<Mapping>>,
    checked: Milliseconds,
    used: Milliseconds,
}

impl Entry {
    pub(super) fn response(&self) -> &FileResponse {
        &self.response
    }

    /// Whether the open file is the version that the response was made of, and has a name.
    fn is_unchanged(&self) -> bool {
        let file = self.response.file();
        let unchanged = |now: Stat| now.st_nlink > 0 && same_version(&now, file.metadata());
        rustix::fs::fstat(file).is_ok_and(unchanged) && !file.has_ended_early()
    }

    /// Whether it is still right when `now` would be the response. A tag that was weak because the
    /// file had just changed may have become strong.
    fn is_still(&self, now: &FileResponse) -> bool {
        let file = self.response.file();
        let poisoned = self
            .mapping
            .get()
            .is_some_and(|mapping| mapping.is_poisoned());
        rustix::fs::fstat(now.file()).is_ok_and(|now| same_version(&now, file.metadata()))
            && self.response.is_settled() == now.is_settled()
            && !file.has_ended_early()
            && !poisoned
    }

    /// Keeps the file's mapping for as long as the entry.
    pub(super) fn keep_mapping(&self) {
        if self.mapping.get().is_none()
            && let Ok(mapping) = FileRegion::whole(self.response.file().clone()).map()
        {
            // Another request may have been faster; its mapping is the same.
            _ = self.mapping.set(mapping);
        }
    }
}

impl Cache {
    pub(super) fn new(staleness: Duration) -> Self {
        Self {
            entries: QuickCache::new(ENTRIES),
            epoch: Instant::now(),
            staleness,
            swept: AtomicU64::new(0),
        }
    }

    /// What `path` led to within the staleness time.
    pub(super) fn fresh(&self, path: &str) -> Option<Arc<Entry>> {
        if self.staleness.is_zero() {
            return None;
        }
        let now = self.now();
        self.sweep(now);
        let entry = self.entries.get(path)?;
        let age = now.saturating_sub(entry.checked.load(Ordering::Relaxed));
        let stale = u128::from(age) >= self.staleness.as_millis();
        if stale || !entry.is_unchanged() {
            return None;
        }
        entry.used.store(now, Ordering::Relaxed);
        Some(entry)
    }

    /// Notes what `path` led to when it was looked at, at `asked`, and returns what to use: the
    /// entry there was if its file is the same, or if it was looked at later.
    pub(super) fn refresh(&self, path: &str, asked: u64, response: FileResponse) -> Arc<Entry> {
        let now = self.now();
        if let Some(entry) = self.entries.get(path) {
            let newer = entry.checked.load(Ordering::Relaxed) > asked;
            if newer || entry.is_still(&response) {
                entry.checked.fetch_max(asked, Ordering::Relaxed);
                entry.used.store(now, Ordering::Relaxed);
                return entry;
            }
        }
        let entry = Arc::new(Entry {
            response,
            mapping: OnceLock::new(),
            checked: AtomicU64::new(asked),
            used: AtomicU64::new(now),
        });
        if !self.staleness.is_zero() {
            self.entries.insert(path.to_owned(), entry.clone());
        }
        entry
    }

    /// Forgets `path`, which led nowhere when it was looked at, at `asked`.
    pub(super) fn forget(&self, path: &str, asked: u64) {
        let older = |entry: &Arc<Entry>| entry.checked.load(Ordering::Relaxed) <= asked;
        if self.entries.get(path).as_ref().is_some_and(older) {
            self.entries.remove(path);
        }
    }

    fn sweep(&self, now: u64) {
        let unused = u64::try_from(UNUSED.as_millis()).unwrap_or(u64::MAX);
        let swept = self.swept.load(Ordering::Relaxed);
        let due = now.saturating_sub(swept) >= unused;
        let swap = |to| {
            let relaxed = Ordering::Relaxed;
            self.swept.compare_exchange(swept, to, relaxed, relaxed)
        };
        if due && swap(now).is_ok() {
            self.entries
                .retain(|_, entry| now.saturating_sub(entry.used.load(Ordering::Relaxed)) < unused);
        }
    }

    /// Milliseconds since the cache was made.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Whether `now` is of the same version of the same file as `then`. Nobody can set ctime back.
/// (`Stat`, since std's `Metadata` would take a `File`.)
fn same_version(now: &Stat, then: &Metadata) -> bool {
    let times = |s: &Stat| (s.st_mtime, s.st_mtime_nsec, s.st_ctime, s.st_ctime_nsec);
    let (mtime, mtime_nsec, ctime, ctime_nsec) = times(now);
    let seconds = (mtime, ctime) == (then.mtime(), then.ctime());
    let nanoseconds = i128::from(mtime_nsec) == i128::from(then.mtime_nsec())
        && i128::from(ctime_nsec) == i128::from(then.ctime_nsec());
    let len = u64::try_from(now.st_size).is_ok_and(|len| len == then.len());
    let file = (now.st_dev, now.st_ino) == (then.dev(), then.ino());
    file && seconds && nanoseconds && len
}
