//! Answers made a moment ago, so that a hot file costs no decoding of its path, no `openat2`,
//! `fstat`, `read` and `mmap`, and no formatting of dates and tags.
//!
//! A short file is kept as its bytes together with its validators: one version, whole, for which
//! nothing is asked of the kernel until the staleness time has passed. A long one is kept open, and
//! asked at each use whether it has changed or lost its name (`fstat`): its bytes are read later
//! than its tag was made, and parts of two versions must not be joined under one tag. A path that
//! leads nowhere is kept as that.
//!
//! After the staleness time the path is looked at again, and the entry goes on if the file is the
//! same. One that is replaced or evicted is closed when its last transfer ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quick_cache::sync::{Cache as QuickCache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use rustix::time::{ClockId, clock_gettime};

use super::resource::{Kept, Resource};

/// Time that an unused entry is kept. It is noticed at the next request only: a server without
/// requests keeps its last files open.
const UNUSED_MS: u64 = 10_000;

/// What an entry is taken to need besides its file's bytes and its key: headers, counters, the
/// cache's own tables. Estimated from the sizes of the types (about 1.5 KiB) and rounded up.
const ENTRY_BYTES: u64 = 2048;

/// Entries of a shard at least, so that uneven shards do not evict what would fit.
const SHARD_ENTRIES: u64 = 16;

/// What an entry that takes a bound's all would weigh.
const CAPACITY: u64 = 1 << 40;

/// What is kept at most between requests: each bound holds by itself, whichever is met first.
///
/// Transfers under way keep what they send beyond it: a file that is evicted while it is sent is
/// closed when its last transfer ends. What was not asked for within 10 s is let go at the next
/// request.
///
/// # Examples
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let limits = lendfile::CacheLimits::default().bytes(256 << 20).descriptors(4096);
/// let service = lendfile::ServeDir::new(".")?.cache(limits);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CacheLimits {
    /// Paths, those that lead nowhere included. Default: 16,384.
    pub entries: u64,
    /// Bytes of short files, with 2 KiB for each entry. Default: 64 MiB.
    pub bytes: u64,
    /// Files kept open. Default: 256: the usual limit of a process is 1,024, and connections need
    /// theirs.
    pub descriptors: u64,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self {
            entries: 16_384,
            bytes: 64 << 20,
            descriptors: 256,
        }
    }
}

impl CacheLimits {
    /// Bounds the paths that are kept.
    #[must_use]
    pub fn entries(self, entries: u64) -> Self {
        Self { entries, ..self }
    }

    /// Bounds the memory.
    #[must_use]
    pub fn bytes(self, bytes: u64) -> Self {
        Self { bytes, ..self }
    }

    /// Bounds the files kept open.
    #[must_use]
    pub fn descriptors(self, descriptors: u64) -> Self {
        Self {
            descriptors,
            ..self
        }
    }
}

/// How often an answer was found in the cache, since the service was made or its options changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheUse {
    /// Answered without looking at the path.
    pub hits: u64,
    /// The path was looked at: it was not known, its staleness time had passed, or its file had
    /// changed.
    pub misses: u64,
}

/// Weighs an entry by the largest share that it takes of any bound: as the sum of the largest
/// shares stays below one, so does the sum of each.
impl Weighter<String, Arc<Entry>> for CacheLimits {
    fn weight(&self, path: &String, entry: &Arc<Entry>) -> u64 {
        let (bytes, descriptors) = entry.size();
        let bytes = bytes + path.len() as u64 + ENTRY_BYTES;
        share(1, self.entries)
            .max(share(bytes, self.bytes))
            .max(share(descriptors, self.descriptors))
    }
}

/// More than all of it if there is not so much.
fn share(part: u64, of: u64) -> u64 {
    let share = u128::from(part) * u128::from(CAPACITY);
    match share.checked_div(u128::from(of)) {
        None if part == 0 => 0,
        None => CAPACITY + 1,
        Some(share) => u64::try_from(share + 1).unwrap_or(u64::MAX),
    }
}

type Entries = QuickCache<
    String,
    Arc<Entry>,
    CacheLimits,
    DefaultHashBuilder,
    DefaultLifecycle<String, Arc<Entry>>,
>;

/// By the path of the request's target as it was sent: another spelling of it is another entry.
#[derive(Debug)]
pub(super) struct Cache {
    entries: Entries,
    staleness_ms: u64,
    /// When unused entries were last looked for.
    swept: Milliseconds,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Of the coarse monotonic clock, which advances by the tick (4 ms) and costs 5 ns.
type Milliseconds = AtomicU64;

/// What a path led to.
#[derive(Debug)]
pub(super) struct Entry {
    /// `None`: nowhere.
    resource: Option<Resource>,
    checked: Milliseconds,
    used: Milliseconds,
}

impl Entry {
    pub(super) fn resource(&self) -> Option<&Resource> {
        self.resource.as_ref()
    }

    fn size(&self) -> (u64, u64) {
        let kept = self.resource.iter().flat_map(Resource::all);
        kept.map(Kept::size)
            .fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1))
    }

    fn is_still(&self, now: Option<&Resource>) -> bool {
        match (&self.resource, now) {
            (None, None) => true,
            (Some(then), Some(now)) => then.is_still(now),
            _ => false,
        }
    }

    fn note_use(&self, now: u64) {
        // Threads that share an entry need not fight for its line more than once a tick.
        if self.used.load(Ordering::Relaxed) != now {
            self.used.store(now, Ordering::Relaxed);
        }
    }
}

impl Cache {
    pub(super) fn new(staleness: Duration, limits: CacheLimits) -> Self {
        let fewest = limits.entries.min(limits.descriptors).max(1);
        // The cache remembers half as many that it has let go, in slots as large as an entry's own:
        // without the second bound 200,000 files cost 23 MB beyond their 64.
        let most = limits.entries.min(limits.bytes / ENTRY_BYTES);
        let mut options = OptionsBuilder::new();
        options
            .weight_capacity(CAPACITY)
            .estimated_items_capacity(usize::try_from(most).unwrap_or(usize::MAX).max(1));
        if fewest < SHARD_ENTRIES * 64 {
            let shards = usize::try_from(fewest / SHARD_ENTRIES).unwrap_or(1);
            options.shards(shards.clamp(1, 16));
        }
        let options = options.build().expect("both capacities are set");
        Self {
            entries: QuickCache::with_options(
                options,
                limits,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            ),
            staleness_ms: u64::try_from(staleness.as_millis()).unwrap_or(u64::MAX),
            swept: AtomicU64::new(now()),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// Counts an answer that was found, or not.
    pub(super) fn count(&self, found: bool) {
        let counter = match found {
            true => &self.hits,
            false => &self.misses,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn used(&self) -> CacheUse {
        CacheUse {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
        }
    }

    /// What `path` led to within the staleness time.
    pub(super) fn fresh(&self, path: &str) -> Option<Arc<Entry>> {
        if self.staleness_ms == 0 {
            return None;
        }
        let now = now();
        self.sweep(now);
        let entry = self.entries.get(path)?;
        let age = now.saturating_sub(entry.checked.load(Ordering::Relaxed));
        if age >= self.staleness_ms {
            return None;
        }
        entry.note_use(now);
        Some(entry)
    }

    /// Notes what `path` led to when it was looked at, at `asked`, and returns what to use: the
    /// entry there was if its file is the same, or if it was looked at later.
    pub(super) fn refresh(&self, path: &str, asked: u64, resource: Option<Resource>) -> Arc<Entry> {
        let now = now();
        let later = |entry: &Entry| {
            entry.checked.load(Ordering::Relaxed) > asked
                && match (&entry.resource, &resource) {
                    // Not bytes where an open file was asked for.
                    (Some(then), Some(now)) => descriptors(then) == descriptors(now),
                    _ => true,
                }
        };
        if self.staleness_ms > 0
            && let Some(entry) = self.entries.get(path)
            && (later(&entry) || entry.is_still(resource.as_ref()))
        {
            entry.checked.fetch_max(asked, Ordering::Relaxed);
            entry.note_use(now);
            return entry;
        }
        let entry = Arc::new(Entry {
            resource,
            checked: AtomicU64::new(asked),
            used: AtomicU64::new(now),
        });
        if self.staleness_ms > 0 {
            self.entries.insert(path.to_owned(), entry.clone());
        }
        entry
    }

    /// Forgets `path`, for which there is no answer to be kept.
    pub(super) fn forget(&self, path: &str) {
        self.entries.remove(path);
    }

    fn sweep(&self, now: u64) {
        let swept = self.swept.load(Ordering::Relaxed);
        if now.saturating_sub(swept) < UNUSED_MS {
            return;
        }
        let relaxed = Ordering::Relaxed;
        if self
            .swept
            .compare_exchange(swept, now, relaxed, relaxed)
            .is_ok()
        {
            self.entries.retain(|_, entry| {
                now.saturating_sub(entry.used.load(Ordering::Relaxed)) < UNUSED_MS
            });
        }
    }
}

fn descriptors(resource: &Resource) -> Vec<u64> {
    resource.all().map(|kept| kept.size().1).collect()
}

/// Milliseconds of the coarse monotonic clock.
pub(super) fn now() -> u64 {
    let time = clock_gettime(ClockId::MonotonicCoarse);
    let [seconds, nanoseconds] =
        [time.tv_sec, time.tv_nsec].map(|part| u64::try_from(part).unwrap_or(0));
    seconds * 1000 + nanoseconds / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_rounded_down_and_nothing_fits_into_nothing() {
        assert!(share(1, 3) * 3 >= CAPACITY);
        assert!(share(4, 3) > CAPACITY);
        assert_eq!(share(0, 0), 0);
        assert!(share(1, 0) > CAPACITY);
    }

    #[test]
    fn entries_stay_within_their_bound_and_what_leads_nowhere_is_kept() {
        let limits = CacheLimits::default().entries(64);
        let cache = Cache::new(Duration::from_secs(3600), limits);
        for k in 0..1000 {
            let path = format!("/{k}");
            assert!(cache.refresh(&path, now(), None).resource().is_none());
            assert!(cache.entries.len() <= 64, "{}", cache.entries.len());
        }
        assert!(cache.fresh("/999").is_some());
    }

    #[test]
    fn without_staleness_nothing_is_kept() {
        let cache = Cache::new(Duration::ZERO, CacheLimits::default());
        cache.refresh("/a", now(), None);
        assert!(cache.fresh("/a").is_none());
        assert_eq!(cache.entries.len(), 0);
    }
}
