//! Full disks, no descriptors, resets.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use lendfile_core::{FileRegion, Method, OpenFile, Outcome, statistics};
use lendfile_epoll::{Socket, TransferOptions, recv_file, relay, send_file};
use lendfile_tests::content;
use lendfile_tests::mounts::SmallDisk;
use lendfile_tests::process::{descriptors, take_descriptors};
use lendfile_tests::sockets::check_reset;

use super::*;

const METHODS: [Method; 2] = [Method::Copy, Method::Splice];

#[tokio::test]
async fn on_a_full_disk_every_byte_is_in_the_file_the_failure_or_the_socket() {
    if !alone("faults::on_a_full_disk_every_byte_is_in_the_file_the_failure_or_the_socket") {
        return;
    }
    async fn check<S: Socket>(ours: S, peer: S, disk: &Path, method: Method) {
        let path = disk.join(method.name());
        let file = File::create(&path).unwrap();
        let bytes = content::bytes(1, 3 << 20);
        let before = descriptors();
        let receiving = async {
            let options = TransferOptions::new().method(method);
            let failure = recv_file(&ours, &file, .., options).await.unwrap_err();
            (failure, read_all(ours).await)
        };
        let ((failure, rest), ()) = tokio::join!(receiving, write_all(peer, &bytes));
        assert_eq!(failure.kind(), ErrorKind::StorageFull, "{failure}");
        let report = failure.report();
        assert_eq!(report.outcome, Outcome::Aborted);
        let written = fs::read(&path).unwrap();
        assert_eq!(report.bytes_sent(), written.len() as u64);
        assert!(!written.is_empty() && !rest.is_empty());
        let all = [&written[..], failure.unwritten(), &rest[..]].concat();
        assert_same(&all, &bytes);
        // Both sockets are gone; a pipe may have come to the pool.
        assert!(descriptors() <= before, "descriptors leak");
        fs::remove_file(path).unwrap();
    }
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    for method in METHODS {
        over_both!(check, disk.path(), method);
    }
}

#[tokio::test]
async fn a_reset_while_receiving_is_an_error_with_the_exact_count() {
    for method in METHODS {
        let (ours, peer) = tcp();
        let (_dir, path, file) = empty();
        let options = TransferOptions::new().method(method);
        let receiving = recv_file(&ours, &file, ..1_000_000, options);
        let progress = receiving.progress();
        check_reset(receiving, progress, peer, &path).await;
    }
}

#[tokio::test]
async fn a_peer_that_vanishes_while_sent_to_is_an_error() {
    async fn check<S: Socket>(ours: S, peer: S) {
        let (_dir, path, _) = file_of(16 << 20);
        let region = FileRegion::whole(OpenFile::open(path).unwrap());
        let sending = send_file(&ours, region, TransferOptions::new());
        let progress = sending.progress();
        let vanishing = async {
            while progress.bytes() == 0 {
                tokio::task::yield_now().await;
            }
            drop(peer);
        };
        let (sent, ()) = tokio::join!(sending, vanishing);
        let failure = sent.unwrap_err();
        let kinds = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
        assert!(kinds.contains(&failure.kind()), "{failure}");
        assert_eq!(failure.report().bytes_sent(), progress.bytes());
        assert!(progress.bytes() < 16 << 20);
    }
    over_both!(check);
}

/// In a process of its own, since it takes all descriptors.
#[tokio::test]
async fn without_descriptors_for_pipes_bytes_are_copied_and_strict_refuses() {
    if !alone("faults::without_descriptors_for_pipes_bytes_are_copied_and_strict_refuses") {
        return;
    }
    let (ours, peer) = tcp();
    let (a, client) = tcp();
    let (b, server) = tcp();
    let (_dir, path, file) = empty();
    let taken = take_descriptors(64);
    let bytes = content::bytes(3, 2_000_000);
    let options = TransferOptions::new().method(Method::Splice);

    let strict = async {
        let (received, relayed) = tokio::join!(
            recv_file(&ours, &file, .., options.strict()),
            relay(&a, &b, options.strict()),
        );
        (received.unwrap_err(), relayed.unwrap_err())
    };
    let sending = async {
        let (mut peer, mut client) = (peer, client);
        peer.write_all(b"x").await.unwrap();
        client.write_all(b"x").await.unwrap();
        (peer, client)
    };
    let ((received, relayed), (peer, client)) = tokio::join!(strict, sending);
    assert_eq!(received.kind(), ErrorKind::Unsupported, "{received}");
    assert_eq!(received.report().bytes_sent(), 0);
    assert_eq!(relayed.kind(), ErrorKind::Unsupported, "{relayed}");

    let relaying = async {
        let (relayed, (), got) =
            tokio::join!(relay(&a, &b, options), write_all(client, &bytes), async {
                let mut server = server;
                let mut got = Vec::new();
                server.read_to_end(&mut got).await.unwrap();
                server.shutdown().await.unwrap();
                got
            });
        assert_same(&got[1..], &bytes);
        relayed.unwrap()
    };
    let (received, (), relayed) = tokio::join!(
        recv_file(&ours, &file, .., options),
        write_all(peer, &bytes),
        relaying
    );
    assert_eq!(received.unwrap().bytes_by(Method::Copy), 2_000_001);
    assert_eq!(relayed.a_to_b.bytes_by(Method::Copy), 2_000_001);
    assert!(statistics().pipes_refused > 0);
    drop(taken);
    assert_same(&fs::read(path).unwrap()[1..], &bytes);
}
