//! Limits, each run into.

use std::fs;
use std::future::poll_fn;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lendfile_core::statistics::statistics;
use lendfile_core::{Continuation, FileRegion, Method, Transport};
use lendfile_epoll::is_writable;
use lendfile_tests::PATIENCE;
use lendfile_tests::uring::{BY_RING, runtime_or_skip};
use lendfile_uring::Options;
use tokio::time::timeout;

use crate::support::{
    Files, Holdings, alone, over_tcp, over_unix, read_all, received, send, send_and_compare,
};

/// Readers that take nothing.
const STALLED: usize = 1000;

/// Kernel workers of rings in this process.
fn kernel_workers() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.starts_with("iou-wrk"))
        .count()
}

#[test]
fn a_thousand_stalled_readers_hold_neither_workers_nor_pipes_and_stop_nobody() {
    let _alone = alone();
    let mut options = Options::default();
    options.workers = 4;
    options.windows = 8;
    let Some(runtime) = runtime_or_skip(options) else {
        return;
    };
    let files = Files::new(2, 8 << 20);
    let before = kernel_workers();
    runtime.block_on(async {
        for method in BY_RING {
            let file = files.open(0);
            let full = Arc::new(AtomicUsize::new(0));
            let mut stalled = Vec::new();
            for _ in 0..STALLED {
                let (mut transport, peer) = over_unix(method);
                let mut region = FileRegion::whole(file.clone());
                let full = full.clone();
                let sending = tokio::spawn(async move {
                    let mut is_full = false;
                    while !region.is_empty() {
                        let sent = poll_fn(|cx| {
                            let sent = transport.poll_send_file(cx, &region, Continuation::End);
                            if sent.is_pending() && !is_full && !is_writable(transport.socket()) {
                                is_full = true;
                                full.fetch_add(1, Ordering::Relaxed);
                            }
                            sent
                        });
                        region.advance(sent.await.unwrap().bytes as u64);
                    }
                });
                stalled.push((sending, peer));
            }
            let all_full = async {
                while full.load(Ordering::Relaxed) < STALLED {
                    tokio::task::yield_now().await;
                }
            };
            timeout(PATIENCE * 2, all_full)
                .await
                .expect("all sockets are full");
            let workers = kernel_workers() - before;
            assert!(workers <= 2 * 4, "{method}: {workers} workers");
            let pipes = statistics().pipes_open;
            assert!(pipes <= 8 + 4, "{method}: {pipes} pipes");
            let good = send_and_compare(over_tcp(method), &files, 1);
            timeout(PATIENCE, good).await.expect("the others go on");
            // One of them wakes up, and gets the rest.
            let (sending, peer) = stalled.swap_remove(STALLED / 2);
            let reader = read_all(peer);
            let sent = timeout(PATIENCE, sending).await.expect("it goes on");
            sent.unwrap();
            assert!(received(reader).await == *files.contents[0], "{method}");
            for (sending, _) in &stalled {
                sending.abort();
            }
        }
    });
}

#[test]
fn a_task_that_never_lets_the_thread_park_does_not_stop_a_transfer() {
    let _alone = alone();
    let Some(runtime) = runtime_or_skip(Options::default()) else {
        return;
    };
    let files = Files::new(1, 16 << 20);
    runtime.block_on(async {
        for method in BY_RING {
            let busy = tokio::spawn(async {
                loop {
                    tokio::task::yield_now().await;
                }
            });
            let sending = send_and_compare(over_unix(method), &files, 0);
            let sent = timeout(PATIENCE, sending).await;
            busy.abort();
            sent.unwrap_or_else(|_| panic!("{method} starved"));
        }
    });
}

#[test]
fn many_transfers_share_few_pipes_and_buffers() {
    let _alone = alone();
    let mut options = Options::default();
    options.windows = 2;
    options.buffers = 1;
    options.workers = 1;
    let Some(runtime) = runtime_or_skip(options) else {
        return;
    };
    let files = Files::new(4, 3_000_001);
    runtime.block_on(async {
        // Counts what later tests of it do not.
        send_and_compare(over_unix(Method::RingFixed), &files, 0).await;
        for method in BY_RING {
            let waits = statistics().ring_waits;
            let before = Holdings::now();
            let all = (0..16).map(|i| send_and_compare_alongside(method, &files, i % 4));
            timeout(PATIENCE * 2, futures_util::future::join_all(all))
                .await
                .unwrap_or_else(|_| panic!("{method}: stuck"));
            assert!(
                statistics().ring_waits > waits,
                "{method}: nobody had to wait"
            );
            crate::support::assert_nothing_left(&runtime, before).await;
        }
    });
}

/// As `send_and_compare`, but it lets others run while its peer ends.
async fn send_and_compare_alongside(method: Method, files: &Files, i: usize) {
    let (mut transport, mut peer) = over_unix(method);
    let reader = tokio::task::spawn_blocking(move || {
        let mut got = Vec::new();
        peer.read_to_end(&mut got).unwrap();
        got
    });
    let mut region = FileRegion::whole(files.open(i));
    while !region.is_empty() {
        let sent = send(&mut transport, &mut region).await.unwrap();
        assert_eq!(sent.method, method, "it waits rather than goes another way");
        tokio::task::yield_now().await;
    }
    drop(transport);
    assert!(reader.await.unwrap() == *files.contents[i]);
}
