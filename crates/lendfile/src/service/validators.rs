//! What a file's version is known by: to clients its entity tag and its time, to the cache all that
//! `fstat` tells.

use std::fmt::Write;
use std::fs::Metadata;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use headers::{ETag, LastModified};
use lendfile_core::{Error, ErrorKind, FileRegion};
use rustix::fs::Stat;

use super::conditional::Tag;

/// Within this time of its last change a file may change again without its time changing (ext4
/// and others stamp by the tick, 4 ms; network filesystems by the second): its tag is weak.
const UNSETTLED: Duration = Duration::from_secs(2);

/// HTTP dates end with the year 9999.
const LAST_DATE: Duration = Duration::from_secs(253_402_300_799);

/// A representation's validators (RFC 9110 §8.8).
#[derive(Clone, Debug)]
pub(super) struct Validators {
    pub(super) etag: ETag,
    /// `None` if the time is not an HTTP date.
    pub(super) last_modified: Option<LastModified>,
    /// The same, to the second.
    pub(super) modified: Option<SystemTime>,
}

impl Validators {
    pub(super) fn of(region: &FileRegion, now: SystemTime) -> Self {
        let metadata = region.file().metadata();
        let modified = metadata.modified().ok();
        let weak = if has_settled(metadata, now) { "" } else { "W/" };
        let mut tag = format!(
            "{weak}\"{:x}-{:x}-{:x}.{:x}",
            metadata.ino(),
            metadata.len(),
            metadata.mtime(),
            metadata.mtime_nsec()
        );
        // A part of the file that is a representation of its own is not the whole file.
        if region.len() != metadata.len() {
            _ = write!(tag, "-{:x}+{:x}", region.offset(), region.len());
        }
        tag.push('"');
        let modified = modified.and_then(|modified| http_date(modified, now));
        Self {
            etag: tag
                .parse()
                .expect("hexadecimal digits, dots and dashes make a tag"),
            last_modified: modified.map(LastModified::from),
            modified,
        }
    }

    pub(super) fn set_etag(&mut self, tag: &str) -> Result<(), Error> {
        let refused = || Error::new(ErrorKind::Misuse, format!("not an entity tag: {tag:?}"));
        // Checked first: where debug assertions are on, the library panics at a space.
        if !Tag::parse(tag.as_bytes()).is_some_and(|(_, rest)| rest.is_empty()) {
            return Err(refused());
        }
        self.etag = tag.parse().map_err(|_| refused())?;
        Ok(())
    }

    pub(super) fn set_modified(&mut self, modified: SystemTime, now: SystemTime) {
        self.modified = http_date(modified, now);
        self.last_modified = self.modified.map(LastModified::from);
    }
}

/// To the second; a date in the future is replaced by now (RFC 9110 §8.8.2.1).
fn http_date(time: SystemTime, now: SystemTime) -> Option<SystemTime> {
    let since = time.min(now).duration_since(UNIX_EPOCH).ok()?;
    let seconds = Duration::from_secs(since.as_secs());
    (seconds <= LAST_DATE).then(|| UNIX_EPOCH + seconds)
}

/// Whether a file can change no more without its time changing. Not when its time lies in the
/// future, either: it will be reached, and stamped, again.
pub(super) fn has_settled(metadata: &Metadata, now: SystemTime) -> bool {
    metadata
        .modified()
        .ok()
        .and_then(|modified| now.duration_since(modified).ok())
        .is_some_and(|age| age >= UNSETTLED)
}

/// Which file, in which state: nobody can set ctime back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    file: (u64, u64),
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino()),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// What an open file is now; `None` if it has lost its last name, or cannot be asked.
    pub(super) fn now(file: impl AsFd) -> Option<Self> {
        let stat = rustix::fs::fstat(file).ok()?;
        (stat.st_nlink > 0).then(|| Self::of_stat(&stat)).flatten()
    }

    /// (`Stat`, since std's `Metadata` would take a `File`.)
    fn of_stat(stat: &Stat) -> Option<Self> {
        let nanoseconds = |n| i64::try_from(i128::from(n)).ok();
        Some(Self {
            file: (stat.st_dev, stat.st_ino),
            len: u64::try_from(stat.st_size).ok()?,
            modified: (stat.st_mtime, nanoseconds(stat.st_mtime_nsec)?),
            changed: (stat.st_ctime, nanoseconds(stat.st_ctime_nsec)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validators(mtime: SystemTime) -> Validators {
        let file = tempfile::tempfile().unwrap();
        file.set_modified(mtime).unwrap();
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let file = lendfile_core::OpenFile::new(file).unwrap();
        Validators::of(&FileRegion::whole(file), now)
    }

    #[test]
    fn a_tag_is_strong_only_once_the_file_has_settled() {
        let at = |seconds| validators(UNIX_EPOCH + Duration::from_secs(seconds));
        assert!(!at(999_998).etag.is_weak());
        assert!(at(999_999).etag.is_weak());
        assert!(at(2_000_000).etag.is_weak());
    }

    #[test]
    fn what_is_no_entity_tag_is_refused() {
        let mut validators = validators(UNIX_EPOCH);
        for tag in [
            "",
            "a",
            "\"a",
            "\"a b\"",
            "\"a\"\"",
            "w/\"a\"",
            "\"a\", \"b\"",
        ] {
            let error = validators.set_etag(tag).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misuse, "{tag}");
        }
        for tag in ["\"\"", "\"a\"", "W/\"a,b\""] {
            validators.set_etag(tag).unwrap();
        }
    }

    #[test]
    fn a_nanosecond_makes_another_tag() {
        let at = |ns| validators(UNIX_EPOCH + Duration::from_nanos(ns)).etag;
        assert_ne!(at(5_000_000_001), at(5_000_000_002));
        assert_eq!(at(5_000_000_001), at(5_000_000_001));
    }

    #[test]
    fn a_part_has_another_tag_than_the_file() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10).unwrap();
        let file = lendfile_core::OpenFile::new(file).unwrap();
        let tag = |offset, len| {
            let region = FileRegion::new(file.clone(), offset, len).unwrap();
            Validators::of(&region, SystemTime::now()).etag
        };
        assert_ne!(tag(0, 10), tag(0, 5));
        assert_ne!(tag(5, 5), tag(0, 5));
    }

    #[test]
    fn a_version_is_the_same_by_either_way_to_ask_for_it_and_another_after_a_write() {
        use std::io::Write as _;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let then = Version::of(&file.as_file().metadata().unwrap());
        assert_eq!(Version::now(file.as_file()), Some(then));
        file.write_all(b"x").unwrap();
        assert_ne!(Version::now(file.as_file()), Some(then));
        let (open, path) = file.into_parts();
        drop(path);
        assert_eq!(Version::now(&open), None, "it has no name any more");
    }

    #[test]
    fn times_outside_of_http_dates_give_no_date_and_the_future_is_now() {
        let before_epoch = UNIX_EPOCH - Duration::from_secs(10);
        assert_eq!(validators(before_epoch).modified, None);
        let future = UNIX_EPOCH + Duration::from_secs(9_000_000);
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(validators(future).modified, Some(now));
    }
}
