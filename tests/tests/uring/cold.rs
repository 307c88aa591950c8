//! Files that are not in the page cache.

use std::fs::File;
use std::io::IoSliceMut;
use std::path::Path;

use lendfile_core::lent::residency;
use lendfile_core::{FileRegion, Method, OpenFile};
use lendfile_tests::process::{eventually, skip};
use lendfile_tests::uring::runtime_or_skip;
use lendfile_uring::Options;
use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::support::{Files, alone, over_unix, read_all, received, send};

/// Whether the byte at `offset` is in the page cache; `None` if the filesystem does not say.
pub(crate) fn is_cached(file: &File, offset: u64) -> Option<bool> {
    let mut byte = [0];
    match preadv2(
        file,
        &mut [IoSliceMut::new(&mut byte)],
        offset,
        ReadWriteFlags::NOWAIT,
    ) {
        Ok(_) => Some(true),
        Err(Errno::AGAIN) => Some(false),
        Err(_) => None,
    }
}

/// Takes a file out of the page cache, to its last page; false if that cannot be seen here.
fn make_cold(path: &Path) -> bool {
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    let len = file.metadata().unwrap().len();
    if is_cached(&file, 0).is_none() || residency::cachestat(&file, 0, len).is_err() {
        return false;
    }
    // A page that was only just written, or is being read, may stay at first.
    eventually("no page is in the page cache", || {
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        residency::cachestat(&file, 0, len).unwrap() == 0
    });
    true
}

#[test]
fn auto_sends_a_cold_file_by_the_ring_and_a_warm_one_without() {
    let _alone = alone();
    let Some(runtime) = runtime_or_skip(Options::default()) else {
        return;
    };
    let files = Files::new(1, 8 << 20);
    if !make_cold(&files.paths[0]) {
        return skip("cold", "this filesystem does not say what is cached");
    }
    runtime.block_on(async {
        for first in [Method::RingHybrid, Method::Sendfile] {
            let (mut transport, peer) = over_unix(Method::Auto);
            let reader = read_all(peer);
            let mut region = FileRegion::whole(OpenFile::open(&files.paths[0]).unwrap());
            let sent = send(&mut transport, &mut region).await.unwrap();
            assert_eq!(sent.method, first);
            while !region.is_empty() {
                send(&mut transport, &mut region).await.unwrap();
            }
            drop(transport);
            assert!(received(reader).await == *files.contents[0]);
        }
    });
}

#[test]
fn direct_io_leaves_the_page_cache_alone() {
    let _alone = alone();
    let mut options = Options::default();
    options.direct_io = true;
    let Some(runtime) = runtime_or_skip(options) else {
        return;
    };
    let files = Files::new(1, 8_000_001);
    if !make_cold(&files.paths[0]) {
        return skip("cold", "this filesystem does not say what is cached");
    }
    runtime.block_on(async {
        let (mut transport, peer) = over_unix(Method::RingFixed);
        let reader = read_all(peer);
        // Not at a block's start.
        let open = OpenFile::open(&files.paths[0]).unwrap();
        let mut region = FileRegion::new(open, 12_345, 7_000_000).unwrap();
        while !region.is_empty() {
            let sent = send(&mut transport, &mut region).await.unwrap();
            assert_eq!(sent.method, Method::RingFixed);
        }
        drop(transport);
        assert!(received(reader).await == files.contents[0][12_345..7_012_345]);
    });
    let file = File::open(&files.paths[0]).unwrap();
    assert_eq!(is_cached(&file, 4_000_000), Some(false));
}
