//! The conformance suite for every backend, network and method; and what only one of them does.

use std::future::poll_fn;
use std::io;

use lendfile_core::{Continuation, FileRegion, Method, MethodSet, OpenFile, Transport};
use lendfile_epoll::{EpollTransport, Socket};
use lendfile_tests::conformance::{self, Peer, Subject, pair, refusing_file};
use lendfile_tests::content;
use lendfile_tests::server::{Network, methods};
use rustix::net::sockopt;
use tokio::net::{TcpStream, UnixStream};

fn epoll_tcp(method: Method) -> (EpollTransport<TcpStream>, Peer) {
    let (Peer::Tcp(ours), peer) = pair(Network::Tcp).unwrap() else {
        unreachable!("a pair of the network asked for")
    };
    (epoll(TcpStream::from_std(ours).unwrap(), method), peer)
}

fn epoll_unix(method: Method) -> (EpollTransport<UnixStream>, Peer) {
    let (Peer::Unix(ours), peer) = pair(Network::Unix).unwrap() else {
        unreachable!("a pair of the network asked for")
    };
    (epoll(UnixStream::from_std(ours).unwrap(), method), peer)
}

fn epoll<S: Socket>(socket: S, method: Method) -> EpollTransport<S> {
    EpollTransport::new(socket).with_method(method).unwrap()
}

async fn conforms_with_every_method<T: Transport + Unpin>(
    network: &str,
    connect: fn(Method) -> (T, Peer),
) {
    for method in methods() {
        conformance::check_all(Subject {
            name: &format!("epoll, {network}, {method}"),
            method,
            connect: &|| connect(method),
        })
        .await;
    }
}

#[tokio::test]
async fn epoll_over_tcp_conforms_with_every_method() {
    conforms_with_every_method("TCP", epoll_tcp).await;
}

#[tokio::test]
async fn epoll_over_unix_sockets_conforms_with_every_method() {
    conforms_with_every_method("Unix", epoll_unix).await;
}

#[tokio::test]
async fn a_file_that_refuses_sendfile_is_copied_from_then_on() {
    let Some(file) = refusing_file() else { return };
    let expected = std::fs::read("/proc/config.gz").unwrap();
    for method in [Method::Auto, Method::Sendfile, Method::Splice] {
        let file = OpenFile::open("/proc/config.gz").unwrap_or(file.clone());
        assert_eq!(file.refused(), MethodSet::EMPTY);
        let (mut transport, mut peer) = epoll_tcp(method);
        let mut region = FileRegion::whole(file.clone());
        while !region.is_empty() {
            let sent = poll_fn(|cx| transport.poll_send_file(cx, &region, Continuation::End));
            let sent = sent.await.unwrap();
            assert_eq!(sent.method, Method::Copy);
            region.advance(sent.bytes as u64);
        }
        assert!(
            file.refused().contains(Method::Sendfile),
            "it is remembered"
        );
        drop(transport);
        let mut got = Vec::new();
        io::Read::read_to_end(&mut peer, &mut got).unwrap();
        assert!(got == expected);
    }
}

/// The cork as the kernel has it.
fn is_corked(transport: &EpollTransport<TcpStream>) -> bool {
    sockopt::tcp_cork(transport.socket()).unwrap()
}

fn large_file() -> (tempfile::TempDir, std::sync::Arc<OpenFile>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    content::write(&path, 8, 64 << 20).unwrap();
    let file = OpenFile::open(&path).unwrap();
    (dir, file)
}

/// A transport over a socket with the congestion control `name`.
fn with_congestion_control(name: &str) -> io::Result<(EpollTransport<TcpStream>, Peer)> {
    let (Peer::Tcp(ours), peer) = pair(Network::Tcp)? else {
        unreachable!("a pair of the network asked for")
    };
    sockopt::set_tcp_congestion(&ours, name)?;
    Ok((EpollTransport::new(TcpStream::from_std(ours)?), peer))
}

/// Sends until the socket is full.
async fn fill(transport: &mut EpollTransport<TcpStream>, region: &mut FileRegion) {
    let mut sent_any = false;
    loop {
        let send = poll_fn(|cx| transport.poll_send_file(cx, region, Continuation::End));
        match futures_util::FutureExt::now_or_never(send) {
            Some(sent) => region.advance(sent.unwrap().bytes as u64),
            None if sent_any => return,
            None => tokio::task::yield_now().await,
        }
        sent_any = region.len() < region.file().len();
    }
}

#[tokio::test]
async fn the_cork_is_on_during_a_large_body_and_off_behind_it() {
    let (_dir, file) = large_file();
    // reno is built into every kernel; it is loss-based like cubic.
    let (mut transport, mut peer) = with_congestion_control("reno").unwrap();
    let mut region = FileRegion::whole(file.clone());
    fill(&mut transport, &mut region).await;
    assert!(is_corked(&transport));
    let drained = std::thread::spawn(move || io::copy(&mut peer, &mut io::sink()).unwrap());
    while !region.is_empty() {
        let sent = poll_fn(|cx| transport.poll_send_file(cx, &region, Continuation::End)).await;
        region.advance(sent.unwrap().bytes as u64);
    }
    assert!(!is_corked(&transport));
    drop(transport);
    assert_eq!(drained.join().unwrap(), file.len());
}

#[tokio::test]
async fn the_cork_is_off_after_a_body_that_failed() {
    let (dir, file) = large_file();
    let (mut transport, mut peer) = with_congestion_control("reno").unwrap();
    let mut region = FileRegion::whole(file);
    fill(&mut transport, &mut region).await;
    std::fs::File::create(dir.path().join("file")).unwrap();
    let reader = std::thread::spawn(move || io::copy(&mut peer, &mut io::sink()).unwrap());
    let error = loop {
        match poll_fn(|cx| transport.poll_send_file(cx, &region, Continuation::End)).await {
            Ok(sent) => region.advance(sent.bytes as u64),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert!(!is_corked(&transport));
    drop(transport);
    reader.join().unwrap();
}

#[tokio::test]
async fn the_cork_is_off_when_bytes_from_memory_are_the_last() {
    let (_dir, file) = large_file();
    let (mut transport, mut peer) = with_congestion_control("reno").unwrap();
    let drained = std::thread::spawn(move || io::copy(&mut peer, &mut io::sink()).unwrap());
    for len in [10_000, 1 << 20] {
        let mut region = FileRegion::new(file.clone(), 0, len).unwrap();
        while !region.is_empty() {
            let sent = poll_fn(|cx| transport.poll_send_file(cx, &region, Continuation::More));
            region.advance(sent.await.unwrap().bytes as u64);
        }
        assert!(
            is_corked(&transport),
            "the end of the chunk is to share the last segment"
        );
        let tail = [io::IoSlice::new(b"\r\n0\r\n\r\n")];
        let sent = poll_fn(|cx| transport.poll_send(cx, &tail, Continuation::End)).await;
        assert_eq!(sent.unwrap(), 7);
        assert!(!is_corked(&transport));
    }
    drop(transport);
    assert_eq!(drained.join().unwrap(), 10_000 + (1 << 20) + 14);
}

#[tokio::test]
async fn under_bbr_only_large_bodies_are_corked() {
    let (_dir, file) = large_file();
    let Ok((mut transport, _peer)) = with_congestion_control("bbr") else {
        return lendfile_tests::process::skip("bbr", "this kernel has no BBR");
    };
    sockopt::set_socket_send_buffer_size(transport.socket(), 64 << 10).unwrap();
    let mut region = FileRegion::new(file.clone(), 0, (2 << 20) - 1).unwrap();
    fill(&mut transport, &mut region).await;
    assert!(!region.is_empty(), "the body has not ended yet");
    assert!(!is_corked(&transport));
    let (mut transport, _peer) = with_congestion_control("bbr").unwrap();
    fill(&mut transport, &mut FileRegion::whole(file)).await;
    assert!(is_corked(&transport));
}
