//! `recv_file`: from a socket to a file through the ring's buffers.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use lendfile_core::statistics::statistics;
use lendfile_core::{Method, Outcome, RateLimit, peek_offset};
use lendfile_epoll::{Socket, TransferOptions};
use lendfile_tests::content;
use lendfile_tests::mounts::SmallDisk;
use lendfile_tests::process::{assert_passed, child_role, deny, in_child, skip};
use lendfile_tests::sockets::{
    assert_same, check_reset, empty, in_time, once, over_both, read_all, tcp, unix, write_all,
};
use lendfile_tests::uring::runtime_or_skip;
use lendfile_uring::{Options, Runtime, recv_file};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::cold::is_cached;
use crate::support::{Holdings, alone, assert_nothing_left};

/// Runs a check over both kinds of sockets twice, since the first opens things that stay. The second
/// leaves nothing behind.
macro_rules! over_both_leaving_nothing {
    ($runtime:expr, $check:ident $(, $argument:expr)*) => {{
        over_both!($check $(, $argument)*);
        let before = Holdings::now();
        over_both!($check $(, $argument)*);
        assert_nothing_left($runtime, before).await;
    }};
}

/// With and without the page cache.
fn both_ways() -> [Options; 2] {
    let mut direct = Options::default();
    direct.direct_io = true;
    [Options::default(), direct]
}

/// Small buffers, so that every transfer takes many.
fn small() -> Options {
    let mut options = Options::default();
    options.buffer_bytes = 16 << 10;
    options
}

async fn every_length<S: Socket>(ours: S, peer: S, len: u64) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    // What is around the range stays as it is.
    let around = content::bytes(1, len + 2000);
    fs::write(&path, &around).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let bytes = content::bytes(2, len);
    let receiving = recv_file(&ours, &file, 1001..1001 + len, TransferOptions::new());
    let progress = receiving.progress();
    let (received, ()) = tokio::join!(receiving, write_all(peer, &bytes));
    let received = received.unwrap();
    assert_eq!(received.outcome, Outcome::Complete);
    assert_eq!((received.len, received.bytes_sent()), (len, len));
    assert_eq!(received.bytes_by(Method::RingFixed), len);
    assert_eq!(progress.bytes(), len);
    let got = fs::read(&path).unwrap();
    let end = 1001 + usize::try_from(len).unwrap();
    assert_same(&got[1001..end], &bytes);
    assert_same(&got[..1001], &around[..1001]);
    assert_same(&got[end..], &around[end..]);
    assert_eq!(peek_offset::of(&ours).unwrap(), -1);
}

#[test]
fn every_length_arrives_at_its_place_by_the_ring() {
    let _alone = alone();
    for options in both_ways() {
        let Some(runtime) = runtime_or_skip(options) else {
            return;
        };
        runtime.block_on(async {
            for len in [0, 1, 4095, 4096, 4097, 65_536, (1 << 20) + 1, 7_000_001] {
                over_both!(every_length, len);
            }
        });
    }
}

#[test]
fn without_an_end_it_receives_until_the_stream_ends() {
    async fn check<S: Socket>(ours: S, peer: S) {
        let (_dir, path, file) = empty();
        let bytes = content::bytes(3, 3_000_001);
        let receiving = recv_file(&ours, &file, .., TransferOptions::new());
        let (received, ()) = tokio::join!(receiving, write_all(peer, &bytes));
        let received = received.unwrap();
        assert_eq!(received.outcome, Outcome::Complete);
        assert_eq!(received.bytes_by(Method::RingFixed), 3_000_001);
        assert_eq!(received.len, 3_000_001);
        assert_same(&fs::read(path).unwrap(), &bytes);
    }
    let _alone = alone();
    for options in both_ways() {
        let Some(runtime) = runtime_or_skip(options) else {
            return;
        };
        runtime.block_on(async { over_both!(check) });
    }
}

#[test]
fn what_follows_the_range_stays_in_the_socket() {
    async fn check<S: Socket>(ours: S, peer: S) {
        let (_dir, path, file) = empty();
        let bytes = content::bytes(3, 2_000_000);
        let receiving = async {
            let options = TransferOptions::new();
            recv_file(&ours, &file, ..1_500_001, options).await.unwrap();
            read_all(ours).await
        };
        let (rest, ()) = tokio::join!(receiving, write_all(peer, &bytes));
        assert_same(&fs::read(path).unwrap(), &bytes[..1_500_001]);
        assert_same(&rest, &bytes[1_500_001..]);
    }
    let _alone = alone();
    let Some(runtime) = runtime_or_skip(small()) else {
        return;
    };
    runtime.block_on(async { over_both!(check) });
}

#[test]
fn a_peer_that_ends_early_is_an_error_with_the_exact_count() {
    async fn check<S: Socket>(ours: S, peer: S) {
        let (_dir, path, file) = empty();
        let bytes = content::bytes(5, 700_001);
        let receiving = recv_file(&ours, &file, ..1_000_000, TransferOptions::new());
        let (received, ()) = tokio::join!(receiving, write_all(peer, &bytes));
        let failure = received.unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::UnexpectedEof, "{failure}");
        let report = failure.report();
        assert_eq!((report.len, report.bytes_sent()), (1_000_000, 700_001));
        assert_eq!(report.outcome, Outcome::Aborted);
        assert_eq!(failure.unwritten(), b"");
        assert_same(&fs::read(path).unwrap(), &bytes);
    }
    let _alone = alone();
    for options in both_ways() {
        let Some(runtime) = runtime_or_skip(options) else {
            return;
        };
        runtime.block_on(async { over_both!(check) });
    }
}

#[test]
fn a_reset_is_an_error_with_the_exact_count() {
    let _alone = alone();
    let Some(runtime) = runtime_or_skip(Options::default()) else {
        return;
    };
    runtime.block_on(async {
        let (ours, peer) = tcp();
        let (_dir, path, file) = empty();
        let receiving = recv_file(&ours, &file, ..1_000_000, TransferOptions::new());
        let progress = receiving.progress();
        check_reset(receiving, progress, peer, &path).await;
    });
}

/// Receives 2 MiB with a future for each poll, and returns how many were dropped with a write under
/// way.
async fn dropped_and_resumed<S: Socket>(ours: &S, peer: S, runtime: &Runtime) -> usize {
    let (_dir, path, file) = empty();
    let written = File::open(&path).unwrap();
    let len = (2 << 20) + 1;
    let bytes = content::bytes(4, len);
    let mut under_way = 0;
    let receiving = async {
        let (mut at, mut round) = (0, 0);
        while at < len {
            let mut receiving = recv_file(ours, &file, at..len, TransferOptions::new());
            let progress = receiving.progress();
            // Some get nowhere, most write something, and all have more under way.
            round += 1;
            for _ in 0..round % 7 {
                if let Some(received) = once(&mut receiving).await {
                    received.unwrap();
                    break;
                }
                tokio::task::yield_now().await;
            }
            under_way += usize::from(runtime.in_flight() > 0);
            drop(receiving);
            let mut counted = vec![0; usize::try_from(progress.bytes()).unwrap()];
            written.read_exact_at(&mut counted, at).unwrap();
            let from = usize::try_from(at).unwrap();
            assert_same(&counted, &bytes[from..from + counted.len()]);
            at += progress.bytes();
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(receiving, write_all(peer, &bytes));
    assert_same(&fs::read(&path).unwrap(), &bytes);
    under_way
}

#[test]
fn dropped_at_every_wait_it_is_resumed_from_the_count() {
    async fn check<S: Socket>(ours: S, peer: S, runtime: &Runtime) {
        let under_way = dropped_and_resumed(&ours, peer, runtime).await;
        assert!(under_way > 1, "nothing was under way when it was dropped");
        assert_eq!(peek_offset::of(&ours).unwrap(), -1);
    }
    let _alone = alone();
    for mut options in both_ways() {
        options.buffer_bytes = 64 << 10;
        let Some(runtime) = runtime_or_skip(options) else {
            return;
        };
        runtime.block_on(async {
            over_both_leaving_nothing!(&runtime, check, &runtime);
        });
    }
}

#[test]
fn settled_it_leaves_the_file_alone() {
    async fn check<S: Socket>(ours: S, peer: S, runtime: &Runtime) {
        let (_dir, path, file) = empty();
        let len = 4 << 20;
        let bytes = content::bytes(4, len);
        let mut under_way = 0;
        let receiving = async {
            let mut at = 0;
            while at < len {
                let mut receiving = recv_file(&ours, &file, at..len, TransferOptions::new());
                for _ in 0..3 {
                    _ = once(&mut receiving).await;
                    if receiving.progress().bytes() == len - at {
                        break;
                    }
                }
                under_way += usize::from(runtime.in_flight() > 0);
                receiving.settle().await;
                assert_eq!(runtime.in_flight(), 0);
                at += receiving.progress().bytes();
                assert_eq!(
                    file.metadata().unwrap().len(),
                    at,
                    "no more than is counted"
                );
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(receiving, write_all(peer, &bytes));
        assert!(under_way > 1, "there was nothing to wait for");
        assert_same(&fs::read(&path).unwrap(), &bytes);
    }
    let _alone = alone();
    let Some(runtime) = runtime_or_skip(Options::default()) else {
        return;
    };
    runtime.block_on(async { over_both!(check, &runtime) });
}

#[test]
fn it_goes_on_when_it_has_settled() {
    async fn check<S: Socket>(ours: S, peer: S) {
        let (_dir, path, file) = empty();
        let bytes = content::bytes(4, 4 << 20);
        let receiving = async {
            let mut receiving = recv_file(&ours, &file, .., TransferOptions::new());
            loop {
                if let Some(received) = once(&mut receiving).await {
                    break received.unwrap();
                }
                receiving.settle().await;
                tokio::task::yield_now().await;
            }
        };
        let (received, ()) = tokio::join!(receiving, write_all(peer, &bytes));
        assert_eq!(received.bytes_by(Method::RingFixed), 4 << 20);
        assert_same(&fs::read(&path).unwrap(), &bytes);
    }
    let _alone = alone();
    let Some(runtime) = runtime_or_skip(small()) else {
        return;
    };
    runtime.block_on(async { over_both!(check) });
}

#[test]
fn on_a_full_disk_every_byte_is_in_the_file_or_the_socket() {
    async fn check<S: Socket>(ours: S, peer: S, disk: &SmallDisk) {
        let path = disk.path().join("file");
        let file = File::create(&path).unwrap();
        let bytes = content::bytes(1, 3 << 20);
        let receiving = async {
            let options = TransferOptions::new();
            let failure = recv_file(&ours, &file, .., options).await.unwrap_err();
            (failure, read_all(ours).await)
        };
        let ((failure, rest), ()) = tokio::join!(receiving, write_all(peer, &bytes));
        assert_eq!(failure.kind(), ErrorKind::StorageFull, "{failure}");
        let report = failure.report();
        assert_eq!(report.outcome, Outcome::Aborted);
        assert_eq!(report.bytes_by(Method::RingFixed), report.bytes_sent());
        let written = fs::read(&path).unwrap();
        assert_eq!(report.bytes_sent(), written.len() as u64);
        assert!(!written.is_empty());
        assert_eq!(failure.unwritten(), b"");
        assert_same(&[written, rest].concat(), &bytes);
        fs::remove_file(path).unwrap();
    }
    let _alone = alone();
    let Some(runtime) = runtime_or_skip(Options::default()) else {
        return;
    };
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    runtime.block_on(async {
        over_both_leaving_nothing!(&runtime, check, &disk);
    });
}

#[test]
fn many_receptions_share_one_buffer_which_stalled_ones_do_not_hold() {
    let _alone = alone();
    let mut options = Options::default();
    options.windows = 2;
    options.buffers = 1;
    let Some(runtime) = runtime_or_skip(options) else {
        return;
    };
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let bytes = content::bytes(6, 1_000_001);
        let waits = statistics().ring_waits;
        // They got something, and want more.
        let mut stalled = Vec::new();
        for i in 0..50 {
            let (ours, mut peer) = unix();
            let file = File::create(dir.path().join(format!("stalled {i}"))).unwrap();
            peer.write_all(&bytes[..100_000]).await.unwrap();
            let task = tokio::spawn(async move {
                recv_file(&ours, &file, ..1_000_001, TransferOptions::new()).await
            });
            stalled.push((task, peer));
        }
        let all = (0..16).map(|i| {
            let (path, bytes) = (dir.path().join(i.to_string()), &bytes);
            async move {
                let (ours, peer) = unix();
                let file = File::create(&path).unwrap();
                let options = TransferOptions::new().strict();
                let receiving = recv_file(&ours, &file, .., options);
                let (received, ()) = tokio::join!(receiving, write_all(peer, bytes));
                assert_eq!(received.unwrap().bytes_by(Method::RingFixed), 1_000_001);
                assert_same(&fs::read(path).unwrap(), bytes);
            }
        });
        in_time(
            "sixteen with one buffer",
            futures_util::future::join_all(all),
        )
        .await;
        assert!(statistics().ring_waits > waits, "nobody had to wait");
        for (i, (task, peer)) in stalled.into_iter().enumerate() {
            write_all(peer, &bytes[100_000..]).await;
            let received = in_time("a stalled one goes on", task).await.unwrap();
            assert_eq!(received.unwrap().bytes_by(Method::RingFixed), 1_000_001);
            let path = dir.path().join(format!("stalled {i}"));
            assert_same(&fs::read(path).unwrap(), &bytes);
        }
        assert_eq!(runtime.in_flight(), 0);
    });
}

#[test]
fn a_dropped_reception_writes_to_no_file_but_its_own() {
    let _alone = alone();
    let Some(runtime) = runtime_or_skip(small()) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (received, other) = (dir.path().join("received"), dir.path().join("other"));
    let (bytes, untouched) = (content::bytes(7, 200_000), content::bytes(8, 200_000));
    fs::write(&other, &untouched).unwrap();
    runtime.block_on(async {
        let mut under_way = 0;
        for round in 0..500 {
            let (ours, mut peer) = unix();
            let file = File::create(&received).unwrap();
            peer.write_all(&bytes[..100_000]).await.unwrap();
            let mut receiving = recv_file(&ours, &file, .., TransferOptions::new());
            for _ in 0..=round % 5 {
                assert!(once(&mut receiving).await.is_none());
                tokio::task::yield_now().await;
            }
            under_way += usize::from(runtime.in_flight() > 0);
            drop(receiving);
            drop(file);
            // Its number is used again.
            let file = OpenOptions::new().write(true).open(&other).unwrap();
            file.write_all_at(&untouched[..1000], 0).unwrap();
            while runtime.in_flight() > 0 {
                tokio::task::yield_now().await;
            }
            assert_same(&fs::read(&other).unwrap(), &untouched);
            let got = fs::read(&received).unwrap();
            assert_same(&got, &bytes[..got.len()]);
        }
        assert!(under_way > 0, "nothing was under way in any round");
    });
}

#[test]
fn on_another_thread_it_goes_on_by_system_calls() {
    let _alone = alone();
    let Some(runtime) = runtime_or_skip(small()) else {
        return;
    };
    let (_dir, path, file) = empty();
    let bytes = content::bytes(9, 1_000_001);
    runtime.block_on(async {
        let (ours, peer) = unix();
        let sending = write_all(peer, &bytes);
        let receiving = async {
            let mut receiving = recv_file(&ours, &file, .., TransferOptions::new());
            while receiving.progress().bytes() == 0 {
                assert!(once(&mut receiving).await.is_none());
                tokio::task::yield_now().await;
            }
            let (done, received) = tokio::sync::oneshot::channel();
            // This thread goes on to tell of the socket's readiness meanwhile.
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let other = tokio::runtime::Builder::new_current_thread();
                    let other = { other }.enable_all().build().unwrap();
                    let received = other.block_on(async { once(&mut receiving).await });
                    assert!(received.is_none(), "the peer has not sent all");
                    _ = done.send(
                        receiving.progress().bytes_by(Method::Copy)
                            + receiving.progress().bytes_by(Method::Splice),
                    );
                });
            });
            assert!(received.await.unwrap() > 0, "nothing went by system calls");
            // And back: it stays with system calls.
            let by_ring = receiving.progress().bytes_by(Method::RingFixed);
            let received = receiving.await.unwrap();
            assert_eq!(received.bytes_by(Method::RingFixed), by_ring);
            assert_eq!(received.bytes_sent(), 1_000_001);
        };
        in_time("elsewhere", async { tokio::join!(receiving, sending) }).await;
        assert_eq!(runtime.in_flight(), 0);
    });
    assert_same(&fs::read(path).unwrap(), &bytes);
}

#[test]
fn a_runtime_that_ends_while_it_receives_waits_for_its_writes() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let bytes = content::bytes(10, 150_000);
    if runtime_or_skip(Options::default()).is_none() {
        return;
    }
    let before = Holdings::now();
    let mut in_flight = 0;
    for round in 0..50 {
        let Some(runtime) = runtime_or_skip(small()) else {
            return;
        };
        let path = dir.path().join("file");
        let file = File::create(&path).unwrap();
        runtime.block_on(async {
            let (ours, mut peer) = unix();
            peer.write_all(&bytes).await.unwrap();
            let mut receiving = recv_file(&ours, &file, .., TransferOptions::new());
            for _ in 0..=round % 5 {
                tokio::task::yield_now().await;
                assert!(once(&mut receiving).await.is_none());
            }
        });
        in_flight += runtime.in_flight();
        drop(runtime);
        let got = fs::read(&path).unwrap();
        assert_same(&got, &bytes[..got.len()]);
    }
    assert!(in_flight > 0, "nothing was in flight in any round");
    lendfile_tests::process::eventually("as before", || Holdings::now() == before);
}

#[test]
fn past_the_page_cache_if_the_runtime_or_the_file_says_so() {
    let _alone = alone();
    let [cached, direct] = both_ways();
    let dir = tempfile::tempdir().unwrap();
    let bytes = content::bytes(11, 3_000_001);
    let o_direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap();
    for (name, options, flags, expected) in [
        ("cached", cached, 0, true),
        ("by option", direct, 0, false),
        ("by flag", cached, o_direct, false),
    ] {
        let Some(runtime) = runtime_or_skip(options) else {
            return;
        };
        let path = dir.path().join(name);
        let opened = OpenOptions::new()
            .create(true)
            .write(true)
            .custom_flags(flags)
            .open(&path);
        let Ok(file) = opened else {
            return skip("direct", "this filesystem has no direct I/O");
        };
        runtime.block_on(async {
            let (ours, peer) = unix();
            let receiving = recv_file(&ours, &file, .., TransferOptions::new().strict());
            let (received, ()) = tokio::join!(receiving, write_all(peer, &bytes));
            assert_eq!(received.unwrap().bytes_by(Method::RingFixed), 3_000_001);
        });
        let seen = is_cached(&File::open(&path).unwrap(), 1_000_000);
        match seen {
            None => return skip("cold", "this filesystem does not say what is cached"),
            seen => assert_eq!(seen, Some(expected), "{name}"),
        }
        assert_same(&fs::read(&path).unwrap(), &bytes);
    }
}

/// By the paused clock, which moves on when everybody waits.
#[test]
fn a_rate_is_kept_within_five_percent() {
    let _alone = alone();
    let Some(runtime) = runtime_or_skip(Options::default()) else {
        return;
    };
    runtime.block_on(async {
        tokio::time::pause();
        let rate = 1_000_000;
        let (ours, peer) = unix();
        let (_dir, path, file) = empty();
        let bytes = content::bytes(12, 10 * rate);
        let limit = RateLimit::new(NonZeroU64::new(rate).unwrap());
        let options = TransferOptions::new().rate_limit(limit);
        let begun = Instant::now();
        let receiving = recv_file(&ours, &file, .., options);
        let (received, ()) = tokio::join!(receiving, write_all(peer, &bytes));
        let seconds = begun.elapsed().as_secs_f64();
        assert_eq!(received.unwrap().bytes_by(Method::RingFixed), 10 * rate);
        assert!((9.5..=10.5).contains(&seconds), "{seconds} s");
        assert_same(&fs::read(path).unwrap(), &bytes);
    });
}

#[test]
fn misuse_is_found_before_a_byte_is_taken() {
    let _alone = alone();
    let Some(runtime) = runtime_or_skip(Options::default()) else {
        return;
    };
    runtime.block_on(async {
        let (ours, peer) = unix();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "").unwrap();
        let read_only = File::open(&path).unwrap();
        let appending = OpenOptions::new().append(true).open(&path).unwrap();
        let options = TransferOptions::new();
        for wrong in [read_only, appending] {
            let failure = recv_file(&ours, &wrong, .., options).await.unwrap_err();
            assert_eq!(failure.kind(), ErrorKind::InvalidInput, "{failure}");
        }
        let file = File::create(&path).unwrap();
        let splice = options.method(Method::RingSplice);
        let failure = recv_file(&ours, &file, .., splice).await.unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::Unsupported, "{failure}");
        write_all(peer, b"all of it").await;
        assert_eq!(read_all(ours).await, b"all of it");
    });
}

#[test]
fn outside_of_a_ring_it_receives_as_epoll_does() {
    let _alone = alone();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime.block_on(async {
        let (ours, peer) = unix();
        let (_dir, path, file) = empty();
        let bytes = content::bytes(13, 1_000_001);
        let options = TransferOptions::new();
        let fixed = recv_file(&ours, &file, .., options.method(Method::RingFixed));
        assert_eq!(fixed.await.unwrap_err().kind(), ErrorKind::Unsupported);
        let receiving = recv_file(&ours, &file, .., options);
        let (received, ()) = tokio::join!(receiving, write_all(peer, &bytes));
        assert_eq!(received.unwrap().bytes_by(Method::Splice), 1_000_001);
        assert_same(&fs::read(path).unwrap(), &bytes);
    });
}

/// Whether this process runs `test` alone, as its child; where it does not, the child is run.
fn in_own_process(test: &str) -> bool {
    if child_role().is_some() {
        return true;
    }
    if runtime_or_skip(Options::default()).is_some() {
        assert_passed(&in_child(&format!("recv_file::{test}"), "alone"));
    }
    false
}

#[test]
fn where_sockets_are_peeked_at_only_from_their_beginning_one_buffer_is_filled_at_a_time() {
    async fn check<S: Socket>((ours, peer): (S, S), runtime: &Runtime) {
        in_time("resumed", dropped_and_resumed(&ours, peer, runtime)).await;
    }
    if !in_own_process(
        "where_sockets_are_peeked_at_only_from_their_beginning_one_buffer_is_filled_at_a_time",
    ) {
        return;
    }
    let runtime = Runtime::with_options(small()).unwrap();
    runtime.block_on(async {
        let (by_tcp, by_unix, whole) = (tcp(), unix(), unix());
        deny(
            [libc::SYS_getsockopt, libc::SYS_setsockopt],
            Errno::OPNOTSUPP,
        );
        peek_offset::set(&by_unix.0, 0).unwrap_err();
        check(by_tcp, &runtime).await;
        check(by_unix, &runtime).await;
        let (_dir, path, file) = empty();
        let bytes = content::bytes(14, 3_000_001);
        let options = TransferOptions::new().strict();
        let receiving = recv_file(&whole.0, &file, .., options);
        let (received, ()) = tokio::join!(receiving, write_all(whole.1, &bytes));
        assert_eq!(received.unwrap().bytes_by(Method::RingFixed), 3_000_001);
        assert_same(&fs::read(path).unwrap(), &bytes);
    });
}

#[test]
fn without_lockable_memory_it_goes_on_as_epoll_does_and_strict_refuses() {
    if !in_own_process("without_lockable_memory_it_goes_on_as_epoll_does_and_strict_refuses") {
        return;
    }
    // With it the limit would not count.
    let mut sets = capabilities(None).unwrap();
    sets.effective -= CapabilitySet::IPC_LOCK;
    set_capabilities(None, sets).unwrap();
    let limit_to = |bytes| {
        let limit = Rlimit {
            current: Some(bytes),
            maximum: Some(4 << 20),
        };
        setrlimit(Resource::Memlock, limit).unwrap();
    };
    limit_to(4 << 20);
    let runtime = Runtime::new().unwrap();
    assert!(runtime.capabilities().methods.contains(Method::RingFixed));
    // Now that the ring has what it needs.
    limit_to(0);
    runtime.block_on(async {
        let (ours, mut peer) = unix();
        let (_dir, path, file) = empty();
        let bytes = content::bytes(15, 1_000_001);
        peer.write_all(&bytes[..1000]).await.unwrap();
        let options = TransferOptions::new();
        let strict = recv_file(&ours, &file, .., options.strict());
        let failure = in_time("to be refused", strict).await.unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::Unsupported, "{failure}");
        assert_eq!(failure.report().bytes_sent(), 0);
        let downgrades = statistics().downgrades;
        let receiving = recv_file(&ours, &file, .., options);
        let (received, ()) = tokio::join!(receiving, write_all(peer, &bytes[1000..]));
        assert_eq!(received.unwrap().bytes_by(Method::Splice), 1_000_001);
        assert_eq!(statistics().downgrades, downgrades + 1);
        assert_same(&fs::read(path).unwrap(), &bytes);
    });
}
