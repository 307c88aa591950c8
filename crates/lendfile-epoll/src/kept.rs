//! Bytes that a helper thread read for the copy path and the socket did not take.
//!
//! Elsewhere what was read but not accepted is read again, from the page cache. Where nobody can say
//! what is in the page cache, or the file has no pages there, that would be a thread's read for every
//! part that a slow peer takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lendfile_core::{FileRegion, OpenFile};

/// Bytes that are kept in this process, at most: 256 stalled peers' rests.
const MOST_BYTES: usize = 64 << 20;

static KEPT_BYTES: AtomicUsize = AtomicUsize::new(0);

/// The rest of one read.
#[derive(Debug)]
pub(crate) struct Kept {
    file: Arc<OpenFile>,
    offset: u64,
    bytes: Box<[u8]>,
}

impl Kept {
    /// Keeps `bytes`, read from the region's start, if it is worth it.
    pub(crate) fn new(region: &FileRegion, bytes: &[u8]) -> Option<Self> {
        let file = region.file();
        if bytes.is_empty() || !file.refuses_nowait() || file.known_warm(region.offset()) > 0 {
            return None;
        }
        let before = KEPT_BYTES.fetch_add(bytes.len(), Ordering::Relaxed);
        if before + bytes.len() > MOST_BYTES {
            KEPT_BYTES.fetch_sub(bytes.len(), Ordering::Relaxed);
            return None;
        }
        Some(Self {
            file: file.clone(),
            offset: region.offset(),
            bytes: bytes.into(),
        })
    }

    /// What there is from the region's start on; nothing if it is of elsewhere.
    pub(crate) fn of(&self, region: &FileRegion) -> &[u8] {
        if !Arc::ptr_eq(&self.file, region.file()) {
            return &[];
        }
        let from = region.offset().checked_sub(self.offset);
        let from = from.and_then(|from| usize::try_from(from).ok());
        let rest = from.and_then(|from| self.bytes.get(from..)).unwrap_or(&[]);
        let len = usize::try_from(region.len()).map_or(rest.len(), |len| len.min(rest.len()));
        &rest[..len]
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        KEPT_BYTES.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(len: u64) -> FileRegion {
        let file = tempfile::tempfile().unwrap();
        file.set_len(len).unwrap();
        let file = OpenFile::new(file).unwrap();
        file.refuse_nowait();
        FileRegion::whole(file)
    }

    #[test]
    fn only_the_bytes_of_the_region_are_found_in_it() {
        let mut all = region(10);
        all.advance(2);
        let kept = Kept::new(&all, b"234567").unwrap();
        let of = |offset, len| {
            let part = FileRegion::new(all.file().clone(), offset, len).unwrap();
            String::from_utf8(kept.of(&part).to_vec()).unwrap()
        };
        assert_eq!(of(2, 8), "234567");
        assert_eq!(of(4, 2), "45");
        assert_eq!(of(7, 3), "7");
        assert_eq!(of(8, 2) + &of(0, 10) + &of(1, 1), "");
        assert!(kept.of(&region(10)).is_empty(), "another file's");
    }

    #[test]
    fn what_is_in_the_page_cache_is_not_kept_nor_more_than_allowed() {
        let warm = region(1 << 20);
        let bytes = vec![0; 1 << 20];
        let all: Vec<_> = (0..200).map_while(|_| Kept::new(&warm, &bytes)).collect();
        assert!(all.len() <= MOST_BYTES >> 20 && !all.is_empty());
        drop(all);
        assert!(Kept::new(&warm, &bytes).is_some());
        warm.file().note_warm(0, 1);
        assert!(Kept::new(&warm, &bytes).is_none());
    }
}
