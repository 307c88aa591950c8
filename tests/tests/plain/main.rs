//! The plain futures, against peers that know every byte: `send_file`, `recv_file`, `relay`.
#![forbid(unsafe_code)]

mod body;
mod faults;
mod recv_file;
mod relay;
mod send_file;

use std::fs::File;
use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::Poll;

use lendfile_epoll::Socket;
use lendfile_tests::process::{assert_passed, child_role, in_child};
use lendfile_tests::{PATIENCE, content};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

/// A connected pair over loopback.
async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (ours, peer) = tokio::join!(listener.accept(), TcpStream::connect(address));
    let (ours, peer) = (ours.unwrap().0, peer.unwrap());
    ours.set_nodelay(true).unwrap();
    peer.set_nodelay(true).unwrap();
    (ours, peer)
}

/// A connected pair without a network.
#[expect(clippy::unused_async, reason = "stands where tcp() does")]
async fn unix() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

/// Runs a check over both kinds of sockets, in bounded time.
macro_rules! over_both {
    ($check:ident $(, $argument:expr)*) => {{
        let (ours, peer) = crate::tcp().await;
        crate::in_time(stringify!($check), $check(ours, peer $(, $argument)*)).await;
        let (ours, peer) = crate::unix().await;
        crate::in_time(stringify!($check), $check(ours, peer $(, $argument)*)).await;
    }};
}
use over_both;

/// Whether this process runs `test` and nothing else, so that its descriptors can be counted, or
/// all taken. Where it does not, one is started that does.
fn alone(test: &str) -> bool {
    if child_role().is_some() {
        return true;
    }
    assert_passed(&in_child(test, "alone"));
    false
}

/// A hang is a failure.
async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("{what} hangs"))
}

/// Polls once; a future that is not ready then is dropped by its owner.
async fn once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    let ready = poll_fn(|cx| match Pin::new(&mut future).poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    });
    let ready = ready.await;
    drop(future);
    // The peer gets its turn.
    tokio::task::yield_now().await;
    ready
}

async fn read_all(mut socket: impl Socket) -> Vec<u8> {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).await.unwrap();
    bytes
}

/// Sends, then ends the stream.
async fn write_all(mut socket: impl Socket, bytes: &[u8]) {
    socket.write_all(bytes).await.unwrap();
    socket.shutdown().await.unwrap();
}

/// A directory on the disk, and a name in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    (dir, path)
}

/// A file of known content.
fn file_of(len: u64) -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let (dir, path) = place();
    content::write(&path, 7, len).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    (dir, path, bytes)
}

/// An empty file to receive into.
fn empty() -> (tempfile::TempDir, PathBuf, File) {
    let (dir, path) = place();
    let file = File::create(&path).unwrap();
    (dir, path, file)
}

/// Comparing megabytes by `assert_eq` would print them.
#[track_caller]
fn assert_same(got: &[u8], expected: &[u8]) {
    let differ = got.iter().zip(expected).position(|(a, b)| a != b);
    assert!(differ.is_none(), "byte {differ:?} differs");
    assert_eq!(got.len(), expected.len());
}
