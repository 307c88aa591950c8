use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::num::NonZeroU64;
use std::time::Duration;

use lendfile_core::{Error, FileRegion, Method, OpenFile, Outcome, RateLimit};
use lendfile_epoll::{Socket, TransferOptions, send_file};
use lendfile_tests::conformance::refusing_file;
use lendfile_tests::process::descriptors;
use lendfile_tests::server::methods;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use super::*;

#[tokio::test]
async fn head_and_region_arrive_by_every_method_and_are_reported() {
    async fn check<S: Socket>(ours: S, peer: S, method: Method) {
        let (_dir, path, bytes) = file_of(3_000_001);
        let file = OpenFile::open(path).unwrap();
        let region = FileRegion::new(file, 5, 2_999_000).unwrap();
        let options = TransferOptions::new().method(method);
        let sending = async {
            let sending = send_file(&ours, region, options).with_head(*b"head");
            let progress = sending.progress();
            let sent = sending.await;
            drop(ours);
            (sent.unwrap(), progress)
        };
        let ((sent, progress), got) = tokio::join!(sending, read_all(peer));
        assert_same(&got[..4], b"head");
        assert_same(&got[4..], &bytes[5..][..2_999_000]);
        assert_eq!(sent.outcome, Outcome::Complete);
        assert_eq!((sent.len, sent.bytes_sent()), (2_999_000, 2_999_000));
        assert_eq!(progress.bytes(), 2_999_000);
        assert!(sent.syscalls > 0 && sent.duration > Duration::ZERO);
        if method != Method::Auto {
            assert_eq!(sent.method(), Some(method));
        }
    }
    for method in methods() {
        over_both!(check, method);
    }
}

#[tokio::test]
async fn an_empty_region_sends_its_head_only() {
    async fn check<S: Socket>(ours: S, peer: S) {
        let (_dir, path, _) = file_of(0);
        let region = FileRegion::whole(OpenFile::open(path).unwrap());
        let sent = send_file(&ours, region, TransferOptions::new())
            .with_head(*b"nothing")
            .await
            .unwrap();
        drop(ours);
        assert_eq!(read_all(peer).await, b"nothing");
        assert_eq!((sent.outcome, sent.len), (Outcome::Complete, 0));
    }
    over_both!(check);
}

#[tokio::test]
async fn dropped_at_every_wait_it_is_resumed_from_the_count() {
    if !alone("send_file::dropped_at_every_wait_it_is_resumed_from_the_count") {
        return;
    }
    async fn check<S: Socket>(ours: S, peer: S, method: Method) {
        let (_dir, path, bytes) = file_of(8 << 20);
        let mut region = FileRegion::whole(OpenFile::open(path).unwrap());
        let options = TransferOptions::new().method(method).turn_bytes(1 << 20);
        let before = descriptors();
        let mut drops = 0;
        let sending = async {
            loop {
                let sending = send_file(&ours, region.clone(), options);
                let progress = sending.progress();
                let done = once(sending).await;
                region.advance(progress.bytes());
                match done {
                    Some(sent) => break sent.unwrap(),
                    None => drops += 1,
                }
            }
        };
        let reading = async {
            let mut got = vec![0; 8 << 20];
            let mut peer = peer;
            peer.read_exact(&mut got).await.unwrap();
            (got, peer)
        };
        let (_, (got, _peer)) = tokio::join!(sending, reading);
        assert_same(&got, &bytes);
        assert!(drops > 1, "it never had to wait");
        // A thread may keep a pipe, and /dev/null to empty pipes into.
        assert!(descriptors() <= before + 3, "descriptors leak");
    }
    for method in methods() {
        over_both!(check, method);
    }
}

#[tokio::test]
async fn a_truncated_file_fails_with_the_exact_count() {
    async fn check<S: Socket>(ours: S, peer: S, method: Method) {
        let (_dir, path, bytes) = file_of(4 << 20);
        let region = FileRegion::whole(OpenFile::open(&path).unwrap());
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(1_500_000).unwrap();
        let options = TransferOptions::new().method(method);
        let sending = async {
            let failure = send_file(&ours, region, options).await.unwrap_err();
            drop(ours);
            failure
        };
        let (failure, got) = tokio::join!(sending, read_all(peer));
        assert_eq!(failure.report().outcome, Outcome::Aborted);
        assert_eq!(failure.report().bytes_sent(), got.len() as u64);
        assert_same(&got, &bytes[..got.len()]);
        assert!(got.len() <= 1_500_000);
        let error = failure.error().get_ref().unwrap();
        assert!(error.downcast_ref::<Error>().unwrap().is_file_changed());
        assert_eq!(failure.kind(), ErrorKind::UnexpectedEof);
    }
    for method in methods() {
        over_both!(check, method);
    }
}

#[tokio::test]
async fn strict_fails_before_a_byte_where_others_fall_back() {
    async fn check<S: Socket>(ours: S, mut peer: S, method: Method) {
        let Some(file) = refusing_file() else { return };
        let expected = std::fs::read("/proc/config.gz").unwrap();
        let options = TransferOptions::new().method(method);
        // The second time the refusal is known.
        for _ in 0..2 {
            let region = FileRegion::whole(file.clone());
            let failure = send_file(&ours, region, options.strict())
                .await
                .unwrap_err();
            assert_eq!(failure.kind(), ErrorKind::Unsupported, "{failure}");
            assert_eq!(failure.report().bytes_sent(), 0);
        }
        let region = FileRegion::whole(file);
        let mut got = vec![0; expected.len()];
        let (sent, _) = tokio::join!(send_file(&ours, region, options), peer.read_exact(&mut got));
        let sent = sent.unwrap();
        assert_eq!(sent.bytes_by(Method::Copy), sent.len);
        assert_same(&got, &expected);
    }
    over_both!(check, Method::Auto);
    over_both!(check, Method::Sendfile);
}

#[tokio::test]
async fn a_method_of_another_backend_is_an_error() {
    let (ours, _peer) = tcp();
    let (_dir, path, _) = file_of(10);
    let region = FileRegion::whole(OpenFile::open(path).unwrap());
    let options = TransferOptions::new().method(Method::RingSplice);
    let failure = send_file(&ours, region, options).await.unwrap_err();
    assert_eq!(failure.kind(), ErrorKind::Unsupported);
}

/// By the paused clock, which moves on when everybody waits.
#[tokio::test(start_paused = true)]
async fn a_rate_is_kept_within_five_percent_on_the_zero_copy_path() {
    for rate in [50_000, 10_000_000] {
        let (ours, peer) = unix();
        let (_dir, path, bytes) = file_of(10 * rate);
        let region = FileRegion::whole(OpenFile::open(path).unwrap());
        let limit = RateLimit::new(NonZeroU64::new(rate).unwrap());
        let options = TransferOptions::new().rate_limit(limit);
        let begun = Instant::now();
        let sending = async {
            let sent = send_file(&ours, region, options).await.unwrap();
            drop(ours);
            (sent, begun.elapsed())
        };
        let ((sent, took), got) = tokio::join!(sending, read_all(peer));
        assert_same(&got, &bytes);
        assert_eq!(sent.method(), Some(Method::Sendfile));
        let seconds = took.as_secs_f64();
        assert!((9.5..=10.5).contains(&seconds), "{rate}: {seconds} s");
    }
}
