//! Micro-benchmarks: `cargo bench -p lendfile-benches --bench micro`.
//!
//! What a write costs before any system call (is this slice lent?), what lending costs, and what
//! answering costs before a byte is sent.

use std::sync::Arc;

use bytes::Bytes;
use divan::{Bencher, black_box};
use http::{HeaderValue, Request};
use lendfile::{FileResponse, ServeDir};
use lendfile_core::lent::{self, Mapping};
use lendfile_core::{FileRegion, OpenFile};
use tower_service::Service;

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

/// A GET with one more header, answered from an open file: what parsing and deciding cost.
fn respond(bencher: Bencher, header: &'static str, value: &'static str) {
    let response = FileResponse::new(file(100_000));
    let mut request = Request::get("/file").body(()).expect("a request");
    if !header.is_empty() {
        let value = HeaderValue::from_static(value);
        request.headers_mut().insert(header, value);
    }
    bencher.bench_local(|| black_box(response.respond(black_box(&request))));
}

#[divan::bench]
fn respond_to_a_plain_get(bencher: Bencher) {
    respond(bencher, "", "");
}

#[divan::bench]
fn respond_to_a_range(bencher: Bencher) {
    respond(bencher, "range", "bytes=100-50000");
}

#[divan::bench]
fn respond_to_an_entity_tag_that_differs(bencher: Bencher) {
    respond(bencher, "if-none-match", "\"1-2-3\", W/\"4-5-6\"");
}

#[divan::bench]
fn respond_to_a_date(bencher: Bencher) {
    respond(
        bencher,
        "if-modified-since",
        "Sun, 06 Nov 1994 08:49:37 GMT",
    );
}

/// The file service's answer for a small file that it has open: path, cache, head, body.
#[divan::bench]
fn serve_a_cached_small_file(bencher: Bencher) {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("file"), [b'x'; 1000]).expect("a file");
    let service = ServeDir::new(dir.path()).expect("a service");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    bencher.bench_local(|| {
        let request = Request::get("/file").body(()).expect("a request");
        let response = runtime.block_on(service.clone().call(request));
        black_box(response)
    });
}
