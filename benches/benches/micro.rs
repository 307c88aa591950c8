//! Micro-benchmarks: `cargo bench -p lendfile-benches --bench micro`.
//!
//! What a write costs before any system call (is this slice lent?) and what lending costs.

use std::sync::Arc;

use bytes::Bytes;
use divan::{Bencher, black_box};
use lendfile_core::lent::{self, Mapping};
use lendfile_core::{FileRegion, OpenFile};

fn main() {
    divan::main();
}

fn file(len: u64) -> Arc<OpenFile> {
    let file = tempfile::tempfile().expect("a file");
    file.set_len(len).expect("its length");
    OpenFile::new(file).expect("a regular file")
}

/// Lends from each of five hundred files, so that the table is not all in the cache's first lines.
fn lent_bytes() -> Vec<(Arc<Mapping>, Bytes)> {
    (0..500)
        .map(|_| {
            let region = FileRegion::whole(file(100_000));
            let mapping = region.map().expect("room in the arena");
            let bytes = mapping.lend(&region, ());
            (mapping, bytes)
        })
        .collect()
}

#[divan::bench]
fn find_in_a_lent_slice(bencher: Bencher) {
    let lent = lent_bytes();
    let mut next = 0;
    bencher.bench_local(|| {
        next = (next + 7) % lent.len();
        black_box(lent::find(black_box(&lent[next].1)))
    });
}

#[divan::bench]
fn find_and_make_a_region(bencher: Bencher) {
    let lent = lent_bytes();
    bencher.bench_local(|| black_box(lent::find(black_box(&lent[5].1)).map(|lent| lent.region())));
}

#[divan::bench]
fn find_in_a_plain_slice(bencher: Bencher) {
    let _arena = lent_bytes();
    let plain = vec![1_u8; 100];
    bencher.bench_local(|| black_box(lent::find(black_box(&plain))));
}

#[divan::bench]
fn lend_from_a_mapped_file(bencher: Bencher) {
    let region = FileRegion::whole(file(100_000));
    let mapping = region.map().expect("room in the arena");
    bencher.bench_local(|| black_box(mapping.lend(&region, ())));
}

#[divan::bench]
fn map_lend_and_unmap(bencher: Bencher) {
    let region = FileRegion::whole(file(100_000));
    bencher.bench_local(|| {
        let mapping = region.map().expect("room in the arena");
        black_box(mapping.lend(&region, ()))
    });
}
