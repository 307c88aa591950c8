//! The plain futures, against peers that know every byte: `send_file`, `recv_file`, `relay`.
#![forbid(unsafe_code)]

mod body;
mod faults;
mod recv_file;
mod relay;
mod send_file;

use std::future::Future;
use std::path::PathBuf;

use lendfile_tests::content;
use lendfile_tests::process::{assert_passed, child_role, in_child};
use lendfile_tests::sockets::{
    self, assert_same, empty, in_time, over_both, place, read_all, tcp, unix, write_all,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Whether this process runs `test` and nothing else, so that its descriptors can be counted, or
/// all taken. Where it does not, one is started that does.
fn alone(test: &str) -> bool {
    if child_role().is_some() {
        return true;
    }
    assert_passed(&in_child(test, "alone"));
    false
}

/// Polls once; a future that is not ready then is dropped by its owner.
async fn once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    let ready = sockets::once(&mut future).await;
    drop(future);
    // The peer gets its turn.
    tokio::task::yield_now().await;
    ready
}

/// A file of known content.
fn file_of(len: u64) -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let (dir, path) = place();
    content::write(&path, 7, len).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    (dir, path, bytes)
}
