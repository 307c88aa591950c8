use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::num::NonZeroU64;
use std::time::Duration;

use lendfile_core::{Method, Outcome, RateLimit, low_water};
use lendfile_epoll::{Socket, TransferOptions, recv_file};
use lendfile_tests::content;
use lendfile_tests::process::descriptors;
use tokio::time::Instant;

use super::*;

const METHODS: [Method; 3] = [Method::Auto, Method::Copy, Method::Splice];

#[tokio::test]
async fn every_length_arrives_at_its_place_by_every_method() {
    async fn check<S: Socket>(ours: S, peer: S, method: Method, len: u64) {
        let (_dir, path, _) = empty();
        // What is around the range stays as it is.
        let around = content::bytes(1, len + 2000);
        fs::write(&path, &around).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let bytes = content::bytes(2, len);
        let options = TransferOptions::new().method(method);
        let receiving = recv_file(&ours, &file, 1001..1001 + len, options);
        let progress = receiving.progress();
        let (received, ()) = tokio::join!(receiving, write_all(peer, &bytes));
        let received = received.unwrap();
        assert_eq!(received.outcome, Outcome::Complete);
        assert_eq!((received.len, received.bytes_sent()), (len, len));
        assert_eq!(progress.bytes(), len);
        if method != Method::Auto && len > 0 {
            assert_eq!(received.bytes_by(method), len);
        }
        let got = fs::read(&path).unwrap();
        let end = 1001 + usize::try_from(len).unwrap();
        assert_same(&got[1001..end], &bytes);
        assert_same(&got[..1001], &around[..1001]);
        assert_same(&got[end..], &around[end..]);
    }
    for method in METHODS {
        for len in [0, 1, 4095, 4096, 4097, 65_536, (1 << 20) + 1, 7_000_001] {
            over_both!(check, method, len);
        }
    }
}

#[tokio::test]
async fn without_an_end_it_receives_until_the_stream_ends() {
    async fn check<S: Socket>(ours: S, peer: S, method: Method) {
        let (_dir, path, file) = empty();
        let bytes = content::bytes(3, 3_000_000);
        let options = TransferOptions::new().method(method);
        let (received, ()) = tokio::join!(
            recv_file(&ours, &file, .., options),
            write_all(peer, &bytes)
        );
        let received = received.unwrap();
        assert_eq!(received.outcome, Outcome::Complete);
        assert_eq!(
            (received.len, received.bytes_sent()),
            (3_000_000, 3_000_000)
        );
        assert_same(&fs::read(path).unwrap(), &bytes);
    }
    for method in METHODS {
        over_both!(check, method);
    }
}

#[tokio::test]
async fn what_follows_the_range_stays_in_the_socket() {
    async fn check<S: Socket>(ours: S, peer: S, method: Method) {
        let (_dir, path, file) = empty();
        let bytes = content::bytes(3, 2_000_000);
        let options = TransferOptions::new().method(method);
        let receiving = async {
            recv_file(&ours, &file, ..1_500_000, options).await.unwrap();
            read_all(ours).await
        };
        let (rest, ()) = tokio::join!(receiving, write_all(peer, &bytes));
        assert_same(&fs::read(path).unwrap(), &bytes[..1_500_000]);
        assert_same(&rest, &bytes[1_500_000..]);
    }
    for method in METHODS {
        over_both!(check, method);
    }
}

#[tokio::test]
async fn dropped_at_every_wait_it_is_resumed_from_the_count() {
    if !alone("recv_file::dropped_at_every_wait_it_is_resumed_from_the_count") {
        return;
    }
    async fn check<S: Socket>(ours: S, peer: S, method: Method) {
        let (_dir, path, file) = empty();
        let len = 8 << 20;
        let bytes = content::bytes(4, len);
        let options = TransferOptions::new().method(method).turn_bytes(1 << 20);
        let before = descriptors();
        let mut drops = 0;
        let receiving = async {
            let mut at = 0;
            loop {
                let receiving = recv_file(&ours, &file, at..len, options);
                let progress = receiving.progress();
                let done = once(receiving).await;
                at += progress.bytes();
                match done {
                    Some(received) => break received.unwrap(),
                    None => drops += 1,
                }
            }
        };
        tokio::join!(receiving, write_all(peer, &bytes));
        assert!(drops > 1, "it never had to wait");
        assert_same(&fs::read(path).unwrap(), &bytes);
        // The peer is gone, and a thread may keep a pipe.
        assert!(descriptors() < before + 2, "descriptors leak");
    }
    for method in METHODS {
        over_both!(check, method);
    }
}

#[tokio::test]
async fn a_peer_that_ends_early_is_an_error_with_the_exact_count() {
    async fn check<S: Socket>(ours: S, peer: S, method: Method) {
        let (_dir, path, file) = empty();
        let bytes = content::bytes(5, 700_001);
        let options = TransferOptions::new().method(method);
        let (received, ()) = tokio::join!(
            recv_file(&ours, &file, ..1_000_000, options),
            write_all(peer, &bytes)
        );
        let failure = received.unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::UnexpectedEof);
        assert_eq!(failure.report().outcome, Outcome::Aborted);
        assert_eq!(failure.report().len, 1_000_000);
        assert_eq!(failure.report().bytes_sent(), 700_001);
        assert_eq!(failure.unwritten(), b"");
        assert_same(&fs::read(path).unwrap(), &bytes);
    }
    for method in METHODS {
        over_both!(check, method);
    }
}

#[tokio::test]
async fn misuse_is_found_before_a_byte_is_taken() {
    async fn check<S: Socket>(ours: S, peer: S) {
        let (dir, path, file) = empty();
        let appending = OpenOptions::new().append(true).open(&path).unwrap();
        let read_only = File::open(&path).unwrap();
        let directory = File::open(dir.path()).unwrap();
        let device = OpenOptions::new().write(true).open("/dev/null").unwrap();
        let options = TransferOptions::new();
        for wrong in [appending, read_only, directory, device] {
            let failure = recv_file(&ours, &wrong, .., options).await.unwrap_err();
            assert_eq!(failure.kind(), ErrorKind::InvalidInput, "{failure}");
        }
        #[expect(clippy::reversed_empty_ranges, reason = "the point")]
        let failure = recv_file(&ours, &file, 5..3, options).await.unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::InvalidInput, "{failure}");
        let failure = recv_file(&ours, &file, u64::MAX - 5.., options).await;
        assert_eq!(failure.unwrap_err().kind(), ErrorKind::InvalidInput);
        let sendfile = options.method(Method::Sendfile);
        let failure = recv_file(&ours, &file, .., sendfile).await.unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::Unsupported, "{failure}");
        write_all(peer, b"all of it").await;
        assert_eq!(read_all(ours).await, b"all of it");
    }
    over_both!(check);
}

#[tokio::test]
async fn a_trickle_behind_a_flood_arrives_and_the_low_water_mark_is_put_back() {
    let (ours, mut peer) = tcp();
    let (_dir, path, file) = empty();
    low_water::set(&ours, 3).unwrap();
    let bytes = content::bytes(6, 8 << 20);
    let receiving = recv_file(&ours, &file, .., TransferOptions::new());
    let progress = receiving.progress();
    let sending = async {
        peer.write_all(&bytes).await.unwrap();
        // Far below the mark that the flood has set, with more still expected.
        for count in 1..=3_u64 {
            peer.write_all(b"drop").await.unwrap();
            while progress.bytes() < (8 << 20) + 4 * count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        peer.shutdown().await.unwrap();
    };
    let both = async { tokio::join!(receiving, sending) };
    let (received, ()) = in_time("a trickle", both).await;
    assert_eq!(received.unwrap().bytes_sent(), (8 << 20) + 12);
    assert_same(&fs::read(path).unwrap()[..8 << 20], &bytes);
    assert_eq!(low_water::of(&ours).unwrap(), 3);
}

/// By the paused clock, which moves on when everybody waits.
#[tokio::test(start_paused = true)]
async fn a_rate_is_kept_within_five_percent() {
    let rate = 1_000_000;
    let (ours, peer) = unix();
    let (_dir, path, file) = empty();
    let bytes = content::bytes(8, 10 * rate);
    let limit = RateLimit::new(NonZeroU64::new(rate).unwrap());
    let options = TransferOptions::new().rate_limit(limit);
    let begun = Instant::now();
    let (received, ()) = tokio::join!(
        recv_file(&ours, &file, .., options),
        write_all(peer, &bytes)
    );
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(received.unwrap().bytes_sent(), 10 * rate);
    assert!((9.5..=10.5).contains(&seconds), "{seconds} s");
    assert_same(&fs::read(path).unwrap(), &bytes);
}
