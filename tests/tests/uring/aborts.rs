//! Transfers that end before their time: no byte of one file in another's, nothing left behind.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::{Duration, Instant};

use lendfile_core::{Continuation, FileRegion, Method, Transport};
use lendfile_tests::PATIENCE;
use lendfile_tests::conformance::Peer;
use lendfile_tests::uring::runtime_or_skip;
use lendfile_uring::Options;
use tokio::time::timeout;

use crate::support::{
    Files, Holdings, METHODS, alone, assert_nothing_left, over_tcp, over_unix, read_all, received,
    send, send_and_compare,
};

/// Aborted transfers, over all methods.
const ABORTS: usize = 10_000;

/// One good transfer after so many aborted ones.
const GOOD_EACH: usize = 250;

#[test]
fn ten_thousand_aborted_transfers_leave_no_byte_and_no_descriptor_behind() {
    let _alone = alone();
    let Some(runtime) = runtime_or_skip(Options::default()) else {
        return;
    };
    // Opened anew each time, so that descriptors are used again for another file.
    let files = Files::new(5, 3_000_001);
    runtime.block_on(async {
        send_and_compare(over_unix(Method::RingFixed), &files, 0).await;
        let before = Holdings::now();
        for i in 0..ABORTS {
            let method = METHODS[i % METHODS.len()];
            let (mut transport, peer) = over_unix(method);
            let file = i / METHODS.len() % files.paths.len();
            let mut region = FileRegion::whole(files.open(file));
            // Some end before anything was filled, some while something is, some behind it.
            for _ in 0..i % 5 {
                poll_once(&mut transport, &mut region).await.unwrap();
                tokio::task::yield_now().await;
            }
            if i % 2 == 0 {
                drop(peer);
                drop(transport);
            } else {
                drop(transport);
                drop(peer);
            }
            if i % GOOD_EACH == 0 {
                for method in METHODS {
                    send_and_compare(over_unix(method), &files, (file + 1) % 5).await;
                }
            }
        }
        assert_nothing_left(&runtime, before).await;
    });
}

#[test]
fn a_transfer_dropped_at_any_await_has_sent_a_beginning_of_the_file_and_what_it_reported() {
    let _alone = alone();
    let Some(runtime) = runtime_or_skip(Options::default()) else {
        return;
    };
    let files = Files::new(1, 6_000_001);
    runtime.block_on(async {
        let before = Holdings::now();
        for method in METHODS {
            for polls in 0..40 {
                let (mut transport, peer) = over_unix(method);
                let reader = read_all(peer);
                let mut region = FileRegion::whole(files.open(0));
                let whole = region.len();
                for _ in 0..polls {
                    poll_once(&mut transport, &mut region).await.unwrap();
                    tokio::task::yield_now().await;
                }
                let reported = usize::try_from(whole - region.len()).unwrap();
                drop(transport);
                let got = received(reader).await;
                assert!(
                    got[..] == files.contents[0][..got.len()],
                    "{method}, {polls} polls"
                );
                match method {
                    // What is under way when the connection is dropped still goes.
                    Method::RingSplice => assert!(got.len() >= reported),
                    _ => assert_eq!(got.len(), reported, "{method}, {polls} polls"),
                }
            }
        }
        assert_nothing_left(&runtime, before).await;
    });
}

#[test]
fn bytes_under_way_are_not_sent_again_by_a_transport_that_has_lost_its_ring() {
    let _alone = alone();
    let Some(runtime) = runtime_or_skip(Options::default()) else {
        return;
    };
    let files = Files::new(1, 6_000_001);
    let mut refused = 0;
    let deadline = Instant::now() + PATIENCE;
    runtime.block_on(async {
        // A worker that has to wait for a processor may be at the socket in none of the first forty.
        for round in 0.. {
            if round >= 40 && (refused > 0 || Instant::now() > deadline) {
                break;
            }
            let (polls, pause) = (round % 40, Duration::from_millis((round / 40).min(5)));
            let (mut transport, peer) = over_unix(Method::RingSplice);
            let reader = read_all(peer);
            let mut region = FileRegion::whole(files.open(0));
            for _ in 0..polls {
                poll_once(&mut transport, &mut region).await.unwrap();
                tokio::task::yield_now().await;
                tokio::time::sleep(pause).await;
            }
            let elsewhere = std::thread::spawn(move || {
                let other = tokio::runtime::Builder::new_current_thread();
                let other = { other }.build().unwrap();
                other.block_on(async {
                    let first = poll_once(&mut transport, &mut region).await;
                    let again = poll_once(&mut transport, &mut region).await;
                    assert!(first.is_ok() || again.is_err(), "an error that stays");
                    first.is_err()
                })
            });
            refused += usize::from(elsewhere.join().unwrap());
            let got = received(reader).await;
            assert!(got[..] == files.contents[0][..got.len()], "{polls} polls");
        }
    });
    assert!(refused > 0, "nothing was under way in any round");
}

/// One poll, whatever comes of it.
async fn poll_once<T: Transport>(transport: &mut T, region: &mut FileRegion) -> io::Result<()> {
    if region.is_empty() {
        return Ok(());
    }
    poll_fn(|cx| {
        Poll::Ready(
            match transport.poll_send_file(cx, region, Continuation::End) {
                Poll::Ready(sent) => sent.map(|sent| region.advance(sent.bytes as u64)),
                Poll::Pending => Ok(()),
            },
        )
    })
    .await
}

#[test]
fn a_peer_that_resets_its_connection_is_an_error_and_leaves_nothing() {
    let _alone = alone();
    let Some(runtime) = runtime_or_skip(Options::default()) else {
        return;
    };
    let files = Files::new(1, 32 << 20);
    runtime.block_on(async {
        let before = Holdings::now();
        for round in 0..60 {
            let method = METHODS[round % METHODS.len()];
            let (mut transport, peer) = over_tcp(method);
            let Peer::Tcp(socket) = &peer else {
                unreachable!("TCP was asked for")
            };
            socket2::SockRef::from(socket)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
            let file = files.open(0);
            let mut region = FileRegion::whole(file.clone());
            let bytes = round * 100_000;
            let reset = std::thread::spawn(move || {
                let mut peer = peer;
                let mut some = io::Read::take(&mut peer, bytes as u64);
                io::copy(&mut some, &mut io::sink()).unwrap();
                // Closed with what is unread: a reset.
                drop(peer);
            });
            let error = timeout(PATIENCE, async {
                loop {
                    if let Err(error) = send(&mut transport, &mut region).await {
                        return error;
                    }
                }
            });
            let error = error.await.expect("the peer is gone");
            let closed = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
            assert!(closed.contains(&error.kind()), "{method}: {error}");
            assert!(file.refused().iter().next().is_none(), "no downgrade");
            reset.join().unwrap();
        }
        assert_nothing_left(&runtime, before).await;
    });
}

#[test]
fn a_runtime_that_ends_with_operations_in_flight_waits_for_them_and_leaves_nothing() {
    let _alone = alone();
    let files = Files::new(1, 8 << 20);
    let mut in_flight = 0;
    if runtime_or_skip(Options::default()).is_none() {
        return;
    }
    let before = Holdings::now();
    for round in 0..100 {
        let Some(runtime) = runtime_or_skip(Options::default()) else {
            return;
        };
        let method = METHODS[round % METHODS.len()];
        let connections = runtime.block_on(async {
            let mut connections = Vec::new();
            for _ in 0..4 {
                let (mut transport, peer) = over_unix(method);
                let mut region = FileRegion::whole(files.open(0));
                // What follows it is being filled now.
                send(&mut transport, &mut region).await.unwrap();
                connections.push((transport, peer));
            }
            connections
        });
        in_flight += runtime.in_flight();
        // Those outlive the runtime, those in its tasks do not.
        match round % 3 {
            0 => {
                drop(runtime);
                drop(connections);
            }
            1 => {
                drop(connections);
                drop(runtime);
            }
            _ => {
                runtime.block_on(async {
                    tokio::spawn(async move {
                        let _connections = connections;
                        std::future::pending::<()>().await;
                    });
                });
                drop(runtime);
            }
        }
    }
    assert!(in_flight > 0, "nothing was in flight in any round");
    lendfile_tests::process::eventually("as before", || Holdings::now() == before);
}
