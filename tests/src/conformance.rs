//! The conformance suite: what every transport must do, whichever backend and method. Each check
//! takes a maker of connected transports and runs it against a peer on another thread.

use std::fs::{File, OpenOptions};
use std::future::poll_fn;
use std::io::{self, IoSlice, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::thread;

use lendfile_core::{Continuation, FileRegion, Method, OpenFile, Transport};
use sha2::{Digest, Sha256};

use crate::content::{self, hex};
use crate::server::Network;
use crate::{PATIENCE, process};

/// A peer's end of a connection.
#[derive(Debug)]
pub enum Peer {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

impl Read for Peer {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(buf),
            Self::Unix(socket) => socket.read(buf),
        }
    }
}

impl Peer {
    fn shutdown(&self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.shutdown(Shutdown::Both),
            Self::Unix(socket) => socket.shutdown(Shutdown::Both),
        }
    }
}

/// A connected pair over `network`: the end to send from, non-blocking, and the peer's.
///
/// # Errors
///
/// Those of making it.
pub fn pair(network: Network) -> io::Result<(Peer, Peer)> {
    let (ours, peer) = match network {
        Network::Tcp => {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let peer = TcpStream::connect(listener.local_addr()?)?;
            let (ours, _) = listener.accept()?;
            ours.set_nonblocking(true)?;
            ours.set_nodelay(true)?;
            peer.set_read_timeout(Some(PATIENCE))?;
            (Peer::Tcp(ours), Peer::Tcp(peer))
        }
        Network::Unix => {
            let (ours, peer) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            peer.set_read_timeout(Some(PATIENCE))?;
            (Peer::Unix(ours), Peer::Unix(peer))
        }
    };
    Ok((ours, peer))
}

/// A transport under test: how to make one of a connected socket, and what it is asked for.
pub struct Subject<'a, T> {
    /// Shown when a check fails.
    pub name: &'a str,
    /// The method it was made for.
    pub method: Method,
    /// Makes a transport and the peer of its socket.
    pub connect: &'a dyn Fn() -> (T, Peer),
}

impl<T> std::fmt::Debug for Subject<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Runs every check.
///
/// # Panics
///
/// If one fails.
pub async fn check_all<T: Transport + Unpin>(subject: Subject<'_, T>) {
    for len in [
        1,
        4095,
        4096,
        4097,
        65_535,
        65_536,
        65_537,
        1 << 20,
        5_000_003,
    ] {
        every_byte_arrives(&subject, len).await;
    }
    an_odd_slice_arrives(&subject).await;
    the_far_end_of_a_sparse_file_arrives(&subject).await;
    plain_and_file_keep_their_order(&subject).await;
    a_truncated_file_is_an_error(&subject).await;
    a_closed_peer_is_an_error(&subject).await;
    a_send_dropped_while_pending_has_sent_nothing_unreported(&subject).await;
}

struct Content {
    dir: tempfile::TempDir,
    open: Arc<OpenFile>,
}

impl Content {
    fn new(seed: u64, len: u64) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        content::write(&path, seed, len).expect("a file");
        let open = OpenFile::open(&path).expect("the file");
        Self { dir, open }
    }

    fn cut_to(&self, len: u64) {
        let path = self.dir.path().join("file");
        let file = OpenOptions::new().write(true).open(path);
        file.and_then(|file| file.set_len(len)).expect("truncation");
    }
}

/// Reads to the end on another thread; length and SHA-256.
fn drain(mut peer: Peer) -> thread::JoinHandle<(u64, String)> {
    thread::spawn(move || {
        let mut hash = Sha256::new();
        let len = io::copy(&mut peer, &mut hash).expect("reading");
        (len, hex(hash))
    })
}

fn sha256(bytes: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(bytes);
    hex(hash)
}

async fn send_file<T: Transport>(transport: &mut T, mut region: FileRegion, method: Method) {
    while !region.is_empty() {
        let sent = poll_fn(|cx| transport.poll_send_file(cx, &region, Continuation::End))
            .await
            .expect("sending");
        assert!(sent.bytes > 0 && sent.bytes as u64 <= region.len());
        assert_ne!(sent.method, Method::Auto);
        let last_page = method == Method::Mmap && sent.bytes <= 4096;
        if method != Method::Auto && !last_page {
            assert_eq!(sent.method, method, "an explicit method is kept");
        }
        region.advance(sent.bytes as u64);
    }
}

async fn finish<T: Transport>(mut transport: T) {
    poll_fn(|cx| transport.poll_shutdown(cx))
        .await
        .expect("shutdown");
}

async fn every_byte_arrives<T: Transport>(subject: &Subject<'_, T>, len: u64) {
    let content = Content::new(len, len);
    let (mut transport, peer) = (subject.connect)();
    let peer = drain(peer);
    let region = FileRegion::whole(content.open.clone());
    send_file(&mut transport, region, subject.method).await;
    finish(transport).await;
    let expected = sha256(&content::bytes(len, len));
    assert_eq!(
        peer.join().expect("peer"),
        (len, expected),
        "{subject:?} {len}"
    );
}

async fn an_odd_slice_arrives<T: Transport>(subject: &Subject<'_, T>) {
    let content = Content::new(1, 1 << 20);
    let (mut transport, peer) = (subject.connect)();
    let peer = drain(peer);
    let region = FileRegion::new(content.open.clone(), 4099, 700_001).expect("inside");
    send_file(&mut transport, region, subject.method).await;
    finish(transport).await;
    let expected = sha256(&content::bytes(1, 1 << 20)[4099..4099 + 700_001]);
    assert_eq!(
        peer.join().expect("peer"),
        (700_001, expected),
        "{subject:?}"
    );
}

async fn the_far_end_of_a_sparse_file_arrives<T: Transport>(subject: &Subject<'_, T>) {
    let file = tempfile::tempfile().expect("a file");
    let len = (4 << 30) + 77_777;
    file.set_len(len).expect("a sparse file");
    let end = content::bytes(3, 70_000);
    file.write_all_at(&end, len - 70_000).expect("its end");
    let open = OpenFile::new(file).expect("the file");
    let (mut transport, peer) = (subject.connect)();
    let peer = drain(peer);
    let region = FileRegion::new(open, len - 70_000, 70_000).expect("inside");
    send_file(&mut transport, region, subject.method).await;
    finish(transport).await;
    assert_eq!(
        peer.join().expect("peer"),
        (70_000, sha256(&end)),
        "{subject:?}"
    );
}

async fn plain_and_file_keep_their_order<T: Transport>(subject: &Subject<'_, T>) {
    let content = Content::new(4, 300_000);
    let (mut transport, peer) = (subject.connect)();
    let peer = drain(peer);
    let plain: [&[u8]; 3] = [b"a head", b"", b" in parts"];
    let mut expected = Vec::new();
    for _ in 0..5 {
        let slices = plain.map(IoSlice::new);
        let sent = poll_fn(|cx| transport.poll_send(cx, &slices, Continuation::More))
            .await
            .expect("sending");
        assert_eq!(sent, 15, "so little fits even into a nearly full socket");
        expected.extend(plain.concat());
        let region = FileRegion::whole(content.open.clone());
        send_file(&mut transport, region, subject.method).await;
        expected.extend(content::bytes(4, 300_000));
    }
    finish(transport).await;
    let whole = (expected.len() as u64, sha256(&expected));
    assert_eq!(peer.join().expect("peer"), whole, "{subject:?}");
}

async fn a_truncated_file_is_an_error<T: Transport>(subject: &Subject<'_, T>) {
    let content = Content::new(5, 2 << 20);
    let (mut transport, peer) = (subject.connect)();
    let peer = drain(peer);
    content.cut_to(10_000);
    let mut region = FileRegion::whole(content.open.clone());
    let mut sent_bytes = 0;
    let error = loop {
        let sending = poll_fn(|cx| transport.poll_send_file(cx, &region, Continuation::End));
        match sending.await {
            Ok(sent) => {
                sent_bytes += sent.bytes as u64;
                region.advance(sent.bytes as u64);
            }
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{subject:?}");
    assert_eq!(
        sent_bytes, 10_000,
        "{subject:?}: what was there was sent and counted"
    );
    finish(transport).await;
    let expected = sha256(&content::bytes(5, 2 << 20)[..10_000]);
    assert_eq!(
        peer.join().expect("peer"),
        (10_000, expected),
        "{subject:?}"
    );
}

async fn a_closed_peer_is_an_error<T: Transport>(subject: &Subject<'_, T>) {
    let content = Content::new(6, 8 << 20);
    let (mut transport, peer) = (subject.connect)();
    peer.shutdown().expect("shutdown");
    drop(peer);
    let mut region = FileRegion::whole(content.open.clone());
    let error = loop {
        let sending = poll_fn(|cx| transport.poll_send_file(cx, &region, Continuation::End));
        match sending.await {
            Ok(sent) => region.advance(sent.bytes as u64),
            Err(error) => break error,
        }
    };
    let closed = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
    assert!(closed.contains(&error.kind()), "{subject:?}: {error}");
    assert!(
        content.open.refused().iter().next().is_none(),
        "{subject:?}: no downgrade"
    );
}

/// Fills the socket, drops the pending send, lets the peer read, sends the rest: no byte is
/// missing or doubled, and what was reported is what the peer has.
async fn a_send_dropped_while_pending_has_sent_nothing_unreported<T: Transport>(
    subject: &Subject<'_, T>,
) {
    let len = 32 << 20;
    let content = Content::new(7, len);
    let (mut transport, mut peer) = (subject.connect)();
    let mut region = FileRegion::whole(content.open.clone());
    loop {
        let send = poll_fn(|cx| transport.poll_send_file(cx, &region, Continuation::End));
        // Polled once and dropped if it is not ready at once.
        match futures_util::FutureExt::now_or_never(send) {
            Some(sent) => region.advance(sent.expect("sending").bytes as u64),
            None if region.len() < len => break,
            None => tokio::task::yield_now().await,
        }
    }
    let reported = len - region.len();
    let (tell, told) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut hash = Sha256::new();
        let first = io::copy(&mut (&mut peer).take(reported), &mut hash).expect("reading");
        tell.send(first).expect("the test waits");
        let rest = io::copy(&mut peer, &mut hash).expect("reading");
        (first + rest, hex(hash))
    });
    let first = told
        .recv_timeout(PATIENCE)
        .expect("what was reported is there");
    assert_eq!(first, reported, "{subject:?}");
    send_file(&mut transport, region, subject.method).await;
    finish(transport).await;
    let expected = content::sha256(&content.dir.path().join("file")).expect("the file");
    assert_eq!(reader.join().expect("peer"), (len, expected), "{subject:?}");
}

/// Opens a file whose filesystem refuses sendfile and splice: procfs has one where the kernel was
/// built with CONFIG_IKCONFIG_PROC.
///
/// # Panics
///
/// If there is none and `LENDFILE_REQUIRE` contains `procfs`.
pub fn refusing_file() -> Option<Arc<OpenFile>> {
    let found = File::open("/proc/config.gz").and_then(OpenFile::new).ok();
    if found.is_none() {
        process::skip("procfs", "this kernel has no /proc/config.gz");
    }
    found
}
