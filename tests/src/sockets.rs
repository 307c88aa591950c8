//! Connected sockets of tokio's, both ends in one task, what the tests of plain futures do with
//! them, and what the kernel holds in one.

use std::fs::{self, File};
use std::future::{Future, poll_fn};
use std::io::{ErrorKind, Write};
use std::net;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::Poll;

use lendfile_core::{Failure, Progress, Transfer};
use lendfile_epoll::Socket;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::PATIENCE;
use crate::conformance::{Peer, pair};
use crate::content;
use crate::process::eventually;
use crate::server::Network;

/// A connected pair over loopback.
///
/// # Panics
///
/// If it cannot be made.
pub fn tcp() -> (TcpStream, TcpStream) {
    let (Peer::Tcp(ours), Peer::Tcp(peer)) = pair(Network::Tcp).expect("a pair") else {
        unreachable!("a pair of the network asked for")
    };
    peer.set_nonblocking(true).expect("a socket");
    peer.set_nodelay(true).expect("a socket");
    (
        TcpStream::from_std(ours).expect("a runtime"),
        TcpStream::from_std(peer).expect("a runtime"),
    )
}

/// The most that a server's kernel held, unsent or under way, for a client that asks for `path` and
/// never reads, until it is cut. Everything is on this machine.
///
/// # Panics
///
/// If it is never cut.
pub fn most_held(mut client: &net::TcpStream, path: &str) -> usize {
    // Little is under way to it, then.
    let shrunk = SockRef::from(client).set_recv_buffer_size(4096);
    shrunk.expect("a socket");
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    client.write_all(request.as_bytes()).expect("a server");
    let mut most = 0;
    eventually("the client is cut", || {
        let held = held_for(client);
        most = most.max(held.unwrap_or(0));
        held.is_none()
    });
    most
}

/// What the other end of a connection holds for this one (`tx_queue` in proc_net_tcp(5)); `None`
/// when that end is no more.
fn held_for(client: &net::TcpStream) -> Option<usize> {
    let ends = [client.peer_addr().ok()?, client.local_addr().ok()?];
    let ports = ends.map(|addr| format!(":{:04X}", addr.port()));
    let table = fs::read_to_string("/proc/net/tcp").expect("procfs");
    let mut rows = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row[1].ends_with(&ports[0]) && row[2].ends_with(&ports[1]))?;
    let (queued, _) = row[4].split_once(':').expect("two queues");
    Some(usize::from_str_radix(queued, 16).expect("a number"))
}

/// A connected pair without a network.
///
/// # Panics
///
/// If it cannot be made.
pub fn unix() -> (UnixStream, UnixStream) {
    UnixStream::pair().expect("a pair")
}

/// Runs a check over both kinds of sockets, in bounded time.
#[macro_export]
macro_rules! over_both {
    ($check:ident $(, $argument:expr)*) => {{
        use $crate::sockets;
        let (ours, peer) = sockets::tcp();
        sockets::in_time(stringify!($check), $check(ours, peer $(, $argument)*)).await;
        let (ours, peer) = sockets::unix();
        sockets::in_time(stringify!($check), $check(ours, peer $(, $argument)*)).await;
    }};
}
pub use over_both;

/// Waits for a future, but not for ever.
///
/// # Panics
///
/// If it takes longer than [`PATIENCE`].
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("{what} hangs"))
}

/// Polls once.
pub async fn once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let ready = poll_fn(|cx| match Pin::new(&mut *future).poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    });
    ready.await
}

/// Sends, then ends the stream.
///
/// # Panics
///
/// If the peer has gone.
pub async fn write_all(mut socket: impl Socket, bytes: &[u8]) {
    socket.write_all(bytes).await.expect("a peer that reads");
    socket.shutdown().await.expect("a peer that reads");
}

/// All until the stream ends.
///
/// # Panics
///
/// If it ends in an error.
pub async fn read_all(mut socket: impl Socket) -> Vec<u8> {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).await.expect("an end");
    bytes
}

/// A directory on the disk, and a name in it.
///
/// # Panics
///
/// If there is no room.
pub fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("file");
    (dir, path)
}

/// An empty file to receive into.
///
/// # Panics
///
/// If there is no room.
pub fn empty() -> (tempfile::TempDir, PathBuf, File) {
    let (dir, path) = place();
    let file = File::create(&path).expect("a file");
    (dir, path, file)
}

/// Compares megabytes, which `assert_eq` would print.
///
/// # Panics
///
/// If they differ.
#[track_caller]
pub fn assert_same(got: &[u8], expected: &[u8]) {
    let differ = got.iter().zip(expected).position(|(a, b)| a != b);
    assert!(differ.is_none(), "byte {differ:?} differs");
    assert_eq!(got.len(), expected.len());
}

/// Has `peer` send into the file at `path` and reset the connection when all of it has arrived:
/// `receiving`, which expects more, must end in an error that knows how much was written.
///
/// # Panics
///
/// If it does not.
pub async fn check_reset(
    receiving: impl Future<Output = Result<Transfer, Failure>>,
    progress: Progress,
    mut peer: TcpStream,
    path: &Path,
) {
    let len = 400_000;
    let bytes = content::bytes(2, len);
    let sending = async {
        peer.write_all(&bytes).await.expect("a peer that reads");
        while progress.bytes() < len {
            tokio::task::yield_now().await;
        }
        peer.set_zero_linger().expect("a socket");
        drop(peer);
    };
    let both = async { tokio::join!(receiving, sending) };
    let (received, ()) = in_time("a reset", both).await;
    let failure = received.expect_err("there is more to come");
    assert_eq!(failure.kind(), ErrorKind::ConnectionReset, "{failure}");
    assert_eq!(failure.report().bytes_sent(), len);
    assert_same(&fs::read(path).expect("what was received"), &bytes);
}
