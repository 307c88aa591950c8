//! The client against scripted servers: what it accepts, what it counts, what it disqualifies.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::head::{self, HEAD_BYTES, Head};
use super::{Drain, Load, Protocol, Target, Until, drain, fetch_digest, fetch_digest_h2c};
use crate::Kind;

/// Answers each request on each connection with `answer`, in the given pieces, then closes if told.
fn scripted(answer: &'static [&'static [u8]], close: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || {
                let mut stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                let mut request = [0; 1024];
                while stream.read(&mut request).is_ok_and(|n| n > 0) {
                    for piece in answer {
                        if stream.write_all(piece).is_err() {
                            return;
                        }
                    }
                    if close {
                        let _ = stream.shutdown(Shutdown::Write);
                    }
                }
            });
        }
    });
    address
}

fn load(address: SocketAddr, length: u64) -> Load {
    Load {
        connections: 3,
        until: Until::Answered(1000),
        ..Load::new(address, "/file", length)
    }
}

#[test]
fn keep_alive_answers_are_counted_by_body_bytes() {
    let address = scripted(
        &[
            b"HTTP/1.1 200 OK\r\nContent-",
            b"Length: 10\r\n\r\n01234",
            b"56789",
        ],
        false,
    );
    let mut load = load(address, 10);
    let outcome = drain(&load).unwrap();
    assert_eq!((outcome.requests, outcome.bytes), (1000, 10_000));
    assert_eq!(outcome.latency.len(), outcome.requests);
    // What time cuts off is counted, too.
    load.until = Until::Elapsed(Duration::from_millis(100));
    let outcome = drain(&load).unwrap();
    assert_eq!(outcome.latency.len(), outcome.requests);
    let cut_off = outcome.bytes - outcome.requests * 10;
    assert!(cut_off < 30, "{outcome:?}");
}

#[test]
fn an_empty_body_is_complete_with_its_head() {
    let address = scripted(&[b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"], false);
    let outcome = drain(&load(address, 0)).unwrap();
    assert_eq!((outcome.requests, outcome.bytes), (1000, 0));
}

#[test]
fn wrong_answers_disqualify() {
    let scripts: [(&'static [&'static [u8]], bool, &str); 5] = [
        (
            &[b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n012345678"],
            false,
            "Content-Length 9 instead of 10",
        ),
        (
            &[b"HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\n0123456789"],
            false,
            "status 404",
        ),
        (
            &[b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789x"],
            false,
            "1 bytes beyond",
        ),
        (
            &[b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123"],
            true,
            "closed the connection",
        ),
        (
            &[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
            false,
            "Transfer-Encoding",
        ),
    ];
    for (answer, close, reason) in scripts {
        let error = drain(&load(scripted(answer, close), 10)).unwrap_err();
        assert_eq!(error.kind(), Kind::Disqualified, "{reason}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn bytes_beyond_a_long_answer_disqualify_with_the_next_head() {
    // Once the head is read, discarding stops exactly at the answer's end, so the surplus is met
    // where the next head should be.
    let address = scripted(
        &[
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
            b"0123456789",
            b"surplus\r\n",
        ],
        false,
    );
    let error = drain(&load(address, 10)).unwrap_err();
    assert_eq!(error.kind(), Kind::Disqualified, "{error}");
}

#[test]
fn the_digest_is_that_of_the_body() {
    let address = scripted(
        &[
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01",
            b"23456789",
        ],
        false,
    );
    let digest = fetch_digest(address, "/file").unwrap();
    assert_eq!(digest.length, 10);
    assert_eq!(
        digest.sha256,
        <[u8; 32]>::from(Sha256::digest(b"0123456789"))
    );
}

#[test]
fn a_short_body_has_no_digest() {
    let address = scripted(&[b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01"], true);
    let error = fetch_digest(address, "/file").unwrap_err();
    assert_eq!(error.kind(), Kind::Disqualified, "{error}");
}

#[test]
fn a_head_is_complete_with_its_empty_line() {
    let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n";
    for end in 1..whole.len() {
        assert_eq!(head::parse(&whole[..end]).unwrap(), None, "{end}");
    }
    assert_eq!(
        head::parse(whole).unwrap(),
        Some(Head {
            bytes: whole.len(),
            content_length: 7
        })
    );
}

#[test]
fn a_head_without_one_plain_length_disqualifies() {
    for fields in [
        "",
        "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 1\r\nConnection: close\r\n",
    ] {
        let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        assert!(head::parse(head.as_bytes()).is_err(), "{fields:?}");
    }
    let endless = vec![b'x'; HEAD_BYTES];
    assert!(head::parse(&endless).is_err());
}

#[test]
fn bodies_may_be_copied_and_files_asked_for_in_turn_until_enough_are_answered() {
    let address = scripted(
        &[b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789"],
        false,
    );
    let mut load = load(address, 10);
    load.targets.push(Target {
        path: "/other".to_owned(),
        length: 10,
    });
    load.drain = Drain::Copy;
    load.until = Until::Answered(7);
    let outcome = drain(&load).unwrap();
    assert_eq!((outcome.requests, outcome.bytes), (7, 70));

    // The second target's length is wrong, so asking for two of them fails.
    load.targets[1].length = 11;
    assert!(drain(&load).is_err());
    load.until = Until::Answered(1);
    assert_eq!(drain(&load).unwrap().requests, 1);
}

/// Answers every HTTP/2 request with `body` and a Content-Length of `announced`.
fn http2(status: u16, announced: u64, body: &'static [u8]) -> SocketAddr {
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((_, mut respond))) = connection.accept().await {
                        let head = http::Response::builder()
                            .status(status)
                            .header("content-length", announced)
                            .body(())
                            .unwrap();
                        let mut stream = respond.send_response(head, false).unwrap();
                        stream
                            .send_data(bytes::Bytes::from_static(body), true)
                            .unwrap();
                    }
                });
            }
        });
    });
    receiver.recv().unwrap()
}

#[test]
fn http2_answers_are_counted_checked_and_hashed() {
    let address = http2(200, 10, b"0123456789");
    let mut wanted = load(address, 10);
    wanted.protocol = Protocol::H2c;
    wanted.until = Until::Answered(20);
    let outcome = drain(&wanted).unwrap();
    assert_eq!((outcome.requests, outcome.bytes), (20, 200));
    let digest = fetch_digest_h2c(address, &wanted.targets[0]).unwrap();
    assert_eq!(
        digest.sha256,
        <[u8; 32]>::from(Sha256::digest(b"0123456789"))
    );

    for (address, reason) in [
        (http2(404, 10, b"0123456789"), "status 404"),
        (http2(200, 9, b"012345678"), "Content-Length 9"),
    ] {
        wanted.address = address;
        let error = drain(&wanted).unwrap_err();
        assert_eq!(error.kind(), Kind::Disqualified);
        assert!(error.to_string().contains(reason), "{error}");
    }
}
