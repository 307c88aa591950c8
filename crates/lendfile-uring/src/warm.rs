//! Whether a region's beginning is in the page cache, asked without waiting.

use std::io::IoSliceMut;

use lendfile_core::FileRegion;
use rustix::io::ReadWriteFlags;

/// Bytes that are sent in one call, and so asked about.
const CALL_BYTES: u64 = 1 << 20;

/// Whether the region's first byte and the last one that the next call sends are there. Those
/// between them nearly always are, since the kernel reads ahead; where it refuses the question
/// (overlayfs, FUSE), the answer is no.
pub(crate) fn is_warm(region: &FileRegion) -> bool {
    let last = region.offset() + region.len().min(CALL_BYTES) - 1;
    [region.offset(), last].into_iter().all(|offset| {
        let mut byte = [0];
        let bufs = &mut [IoSliceMut::new(&mut byte)];
        rustix::io::preadv2(region.file(), bufs, offset, ReadWriteFlags::NOWAIT).is_ok()
    })
}
