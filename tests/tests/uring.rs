//! The conformance suite for the ring's methods, and what only rings can get wrong.

#[path = "uring/aborts.rs"]
mod aborts;
#[path = "uring/bounds.rs"]
mod bounds;
#[path = "uring/cold.rs"]
mod cold;
#[path = "uring/recv_file.rs"]
mod recv_file;
#[path = "uring/support.rs"]
mod support;
#[path = "uring/unavailable.rs"]
mod unavailable;

use lendfile_core::{Continuation, FileRegion, Method, MethodSet, OpenFile, Transport};
use lendfile_tests::conformance::{self, Subject, refusing_file};
use lendfile_tests::uring::{BY_RING, runtime_or_skip};
use lendfile_uring::Options;
use std::future::poll_fn;

use support::{METHODS, alone, over_tcp, over_unix, read_all, received};

#[test]
fn the_ring_over_tcp_conforms_with_every_method() {
    let _alone = alone();
    let Some(runtime) = runtime_or_skip(Options::default()) else {
        return;
    };
    for method in METHODS {
        runtime.block_on(conformance::check_all(Subject {
            name: &format!("uring, TCP, {method}"),
            method,
            connect: &|| over_tcp(method),
        }));
    }
}

#[test]
fn the_ring_over_unix_sockets_conforms_with_every_method() {
    let _alone = alone();
    let Some(runtime) = runtime_or_skip(Options::default()) else {
        return;
    };
    for method in METHODS {
        runtime.block_on(conformance::check_all(Subject {
            name: &format!("uring, Unix, {method}"),
            method,
            connect: &|| over_unix(method),
        }));
    }
}

#[test]
fn direct_io_conforms() {
    let _alone = alone();
    let mut options = Options::default();
    options.direct_io = true;
    let Some(runtime) = runtime_or_skip(options) else {
        return;
    };
    let method = Method::RingFixed;
    runtime.block_on(conformance::check_all(Subject {
        name: "uring, O_DIRECT",
        method,
        connect: &|| over_tcp(method),
    }));
}

#[test]
fn a_file_that_the_ring_cannot_splice_is_sent_another_way_from_then_on() {
    let _alone = alone();
    let Some(runtime) = runtime_or_skip(Options::default()) else {
        return;
    };
    let Some(file) = refusing_file() else { return };
    let expected = std::fs::read("/proc/config.gz").unwrap();
    runtime.block_on(async {
        for method in BY_RING {
            let file = OpenFile::open("/proc/config.gz").unwrap_or(file.clone());
            assert_eq!(file.refused(), MethodSet::EMPTY);
            let (mut transport, peer) = over_unix(method);
            let reader = read_all(peer);
            let mut region = FileRegion::whole(file.clone());
            while !region.is_empty() {
                let sent = poll_fn(|cx| transport.poll_send_file(cx, &region, Continuation::End));
                region.advance(sent.await.unwrap().bytes as u64);
            }
            drop(transport);
            assert!(received(reader).await == expected, "{method}");
            if method != Method::RingFixed {
                assert!(
                    file.refused().contains(method),
                    "it is remembered: {method}"
                );
            }
        }
    });
}
