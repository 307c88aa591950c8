//! Open files that were asked for a moment ago, so that a hot one costs no `openat2`, `fstat` and
//! `mmap` per request (together a tenth of a 1 MiB response).
//!
//! An entry is used without looking for the staleness time; then the path is opened again, and the
//! entry goes on only if that led to the same version of the same file. An entry that is replaced
//! or evicted is closed when its last transfer ends. Names that lead nowhere are not kept.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use lendfile_core::lent::Mapping;
use lendfile_core::{FileRegion, OpenFile};
use quick_cache::sync::Cache as QuickCache;

use super::open::Opened;

/// Open files kept at most. The usual limit of descriptors is 1,024 and connections need theirs.
const ENTRIES: usize = 256;

/// Time that an unused entry is kept. It is noticed at the next request only, so an idle server
/// may hold a deleted file a little longer.
const UNUSED: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Cache {
    entries: QuickCache<PathBuf, Arc<Entry>>,
    epoch: Instant,
    staleness: Duration,
    /// When unused entries were last looked for.
    swept: Milliseconds,
}

/// Since the cache's epoch.
type Milliseconds = AtomicU64;

#[derive(Debug)]
struct Entry {
    opened: Opened,
    /// Held while the entry is, so that a hot file is mapped once. The `OpenFile` itself holds it
    /// weakly, for the transfers that share it.
    mapping: OnceLock<Arc<Mapping>>,
    checked: Milliseconds,
    used: Milliseconds,
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
    pub(super) fn fresh(&self, path: &Path) -> Option<Opened> {
        if self.staleness.is_zero() {
            return None;
        }
        let now = self.now();
        self.sweep(now);
        let entry = self.entries.get(path)?;
        let age = now.saturating_sub(entry.checked.load(Ordering::Relaxed));
        let ended_early = match &entry.opened {
            Opened::Directory => false,
            Opened::File(file) => file.has_ended_early(),
        };
        if ended_early || u128::from(age) >= self.staleness.as_millis() {
            return None;
        }
        entry.used.store(now, Ordering::Relaxed);
        Some(entry.opened.clone())
    }

    /// Notes what `path` leads to now, and returns what to use: the file that was open already if
    /// it is the same.
    pub(super) fn refresh(&self, path: &Path, opened: Opened) -> Opened {
        if self.staleness.is_zero() {
            return opened;
        }
        let now = self.now();
        if let Some(entry) = self.entries.get(path)
            && is_same(&entry.opened, &opened)
        {
            entry.checked.store(now, Ordering::Relaxed);
            entry.used.store(now, Ordering::Relaxed);
            return entry.opened.clone();
        }
        let entry = Entry {
            opened: opened.clone(),
            mapping: OnceLock::new(),
            checked: AtomicU64::new(now),
            used: AtomicU64::new(now),
        };
        self.entries.insert(path.to_owned(), Arc::new(entry));
        opened
    }

    /// Keeps the file's mapping for as long as its entry.
    pub(super) fn keep_mapping(&self, path: &Path, file: &Arc<OpenFile>) {
        if let Some(entry) = self.entries.get(path)
            && let Opened::File(cached) = &entry.opened
            && Arc::ptr_eq(cached, file)
            && entry.mapping.get().is_none()
            && let Ok(mapping) = FileRegion::whole(file.clone()).map()
        {
            // Another request may have been faster; its mapping is the same.
            _ = entry.mapping.set(mapping);
        }
    }

    /// Forgets `path`, which led nowhere.
    pub(super) fn forget(&self, path: &Path) {
        self.entries.remove(path);
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

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn is_same(a: &Opened, b: &Opened) -> bool {
    match (a, b) {
        (Opened::Directory, Opened::Directory) => true,
        (Opened::File(a), Opened::File(b)) => {
            version(a.metadata()) == version(b.metadata()) && !a.has_ended_early()
        }
        _ => false,
    }
}

/// What tells one version of one file from another. ctime cannot be set back by anybody.
fn version(file: &Metadata) -> (u64, u64, u64, i64, i64, i64, i64) {
    (
        file.dev(),
        file.ino(),
        file.len(),
        file.mtime(),
        file.mtime_nsec(),
        file.ctime(),
        file.ctime_nsec(),
    )
}
