//! Transports, files, and what is checked when all is over.

use std::future::poll_fn;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use lendfile_core::statistics::statistics;
use lendfile_core::{Backend, Continuation, FileRegion, Method, OpenFile, Sent, Transport};
use lendfile_epoll::Pipe;
use lendfile_tests::conformance::{Peer, pair};
use lendfile_tests::process::{descriptors, eventually};
use lendfile_tests::server::Network;
use lendfile_tests::{PATIENCE, content};
use lendfile_uring::{Runtime, Uring, UringTransport};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// What goes by a ring, and what may.
pub(crate) const METHODS: [Method; 4] = [
    Method::Auto,
    Method::RingFixed,
    Method::RingHybrid,
    Method::RingSplice,
];

/// Tests that count what the process holds run one at a time, and nothing else beside them.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn over_tcp(method: Method) -> (UringTransport<TcpStream>, Peer) {
    let (Peer::Tcp(ours), peer) = pair(Network::Tcp).unwrap() else {
        unreachable!("a pair of the network asked for")
    };
    let socket = TcpStream::from_std(ours).unwrap();
    let transport = Uring::new().unwrap().transport(socket, method);
    (transport.unwrap(), peer)
}

pub(crate) fn over_unix(method: Method) -> (UringTransport<UnixStream>, Peer) {
    let (Peer::Unix(ours), peer) = pair(Network::Unix).unwrap() else {
        unreachable!("a pair of the network asked for")
    };
    let socket = UnixStream::from_std(ours).unwrap();
    let transport = Uring::new().unwrap().transport(socket, method);
    (transport.unwrap(), peer)
}

/// Files of known content.
pub(crate) struct Files {
    _dir: tempfile::TempDir,
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) contents: Vec<Arc<Vec<u8>>>,
}

impl Files {
    pub(crate) fn new(count: u64, len: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (mut paths, mut contents) = (Vec::new(), Vec::new());
        for seed in 0..count {
            let path = dir.path().join(seed.to_string());
            content::write(&path, seed, len).unwrap();
            paths.push(path);
            contents.push(Arc::new(content::bytes(seed, len)));
        }
        Self {
            _dir: dir,
            paths,
            contents,
        }
    }

    pub(crate) fn open(&self, i: usize) -> Arc<OpenFile> {
        OpenFile::open(&self.paths[i]).unwrap()
    }
}

/// One send, of which the region is shortened.
pub(crate) async fn send<T: Transport>(
    transport: &mut T,
    region: &mut FileRegion,
) -> io::Result<Sent> {
    let sent = poll_fn(|cx| transport.poll_send_file(cx, region, Continuation::End)).await?;
    region.advance(sent.bytes as u64);
    Ok(sent)
}

/// Reads to the end, or to an error, on a thread of its own.
///
/// What it got is to be awaited, not joined: a ring operation has the socket, too, until the ring's
/// thread takes note of its completion, and the peer sees no end before.
pub(crate) fn read_all(mut peer: Peer) -> oneshot::Receiver<Vec<u8>> {
    let (done, got) = oneshot::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // A connection that was aborted ends in an error.
        _ = peer.read_to_end(&mut bytes);
        // Descriptors are counted as soon as it is known.
        drop(peer);
        // A test that has failed does not wait for it.
        _ = done.send(bytes);
    });
    got
}

/// All that the peer got.
pub(crate) async fn received(reader: oneshot::Receiver<Vec<u8>>) -> Vec<u8> {
    let got = timeout(PATIENCE, reader).await;
    got.expect("the connection ends").expect("the reader lives")
}

/// Sends all of a file and compares what arrives.
pub(crate) async fn send_and_compare<T: Transport>(
    (mut transport, peer): (T, Peer),
    files: &Files,
    i: usize,
) {
    let reader = read_all(peer);
    let mut region = FileRegion::whole(files.open(i));
    while !region.is_empty() {
        send(&mut transport, &mut region).await.unwrap();
    }
    drop(transport);
    assert!(received(reader).await == *files.contents[i]);
}

/// What the process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holdings {
    descriptors: u64,
    pooled: u64,
}

impl Holdings {
    pub(crate) fn now() -> Self {
        // `/dev/null`, which a thread opens when it first throws away what a pipe holds.
        let mut pipe = Pipe::take().unwrap();
        rustix::io::write(pipe.writer(), b"x").unwrap();
        pipe.filled(1);
        pipe.discard();
        drop(pipe);
        let pooled = statistics().pipes_pooled;
        Self {
            // Two for each pipe.
            descriptors: descriptors() as u64 - 2 * pooled,
            pooled: statistics().pipes_open - pooled,
        }
    }
}

/// Waits until nothing is in flight, and checks that nothing is held that was not held before.
pub(crate) async fn assert_nothing_left(runtime: &Runtime, before: Holdings) {
    let idle = async {
        while runtime.in_flight() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, idle).await.expect("operations end");
    eventually(&format!("as before: {before:?}"), || {
        Holdings::now() == before
    });
}
