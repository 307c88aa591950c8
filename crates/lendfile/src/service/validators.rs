//! What a file's version is known by: its entity tag and its time.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use headers::{ETag, LastModified};

/// Within this time of its last change a file may change again without its time changing (ext4
/// and others stamp by the tick, 4 ms; network filesystems by the second): its tag is weak.
const UNSETTLED: Duration = Duration::from_secs(2);

/// HTTP dates end with the year 9999.
const LAST_DATE: Duration = Duration::from_secs(253_402_300_799);

/// A file's validators (RFC 9110 §8.8).
#[derive(Clone, Debug)]
pub(super) struct Validators {
    pub(super) etag: ETag,
    /// `None` if the file's time is not an HTTP date.
    pub(super) last_modified: Option<LastModified>,
    /// The same, to the second.
    pub(super) modified: Option<SystemTime>,
}

impl Validators {
    pub(super) fn of(metadata: &Metadata, now: SystemTime) -> Self {
        let modified = metadata.modified().ok();
        let age = modified.and_then(|modified| now.duration_since(modified).ok());
        // Also weak when the time lies in the future: it will be reached, and stamped, again.
        let weak = if age.is_some_and(|age| age >= UNSETTLED) {
            ""
        } else {
            "W/"
        };
        let tag = format!(
            "{weak}\"{:x}-{:x}-{:x}.{:x}\"",
            metadata.ino(),
            metadata.len(),
            metadata.mtime(),
            metadata.mtime_nsec()
        );
        let seconds = modified
            // A date in the future is replaced by now (RFC 9110 §8.8.2.1).
            .map(|modified| modified.min(now))
            .and_then(|modified| modified.duration_since(UNIX_EPOCH).ok())
            .map(|since| Duration::from_secs(since.as_secs()))
            .filter(|since| *since <= LAST_DATE)
            .map(|since| UNIX_EPOCH + since);
        Self {
            etag: tag
                .parse()
                .expect("hexadecimal digits, dots and dashes make a tag"),
            last_modified: seconds.map(LastModified::from),
            modified: seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validators(mtime: SystemTime) -> Validators {
        let file = tempfile::tempfile().unwrap();
        file.set_modified(mtime).unwrap();
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        Validators::of(&file.metadata().unwrap(), now)
    }

    #[test]
    fn a_tag_is_strong_only_once_the_file_has_settled() {
        let at = |seconds| validators(UNIX_EPOCH + Duration::from_secs(seconds));
        assert!(!at(999_998).etag.is_weak());
        assert!(at(999_999).etag.is_weak());
        assert!(at(2_000_000).etag.is_weak());
    }

    #[test]
    fn a_nanosecond_makes_another_tag() {
        let at = |ns| validators(UNIX_EPOCH + Duration::from_nanos(ns)).etag;
        assert_ne!(at(5_000_000_001), at(5_000_000_002));
        assert_eq!(at(5_000_000_001), at(5_000_000_001));
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
