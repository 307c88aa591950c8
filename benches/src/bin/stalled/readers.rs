//! Connections that ask and do not read.

use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use lendfile_bench::client::{self, Load, Until};
use lendfile_bench::process::Snapshot;
use lendfile_bench::rounds;
use socket2::{Domain, Socket, Type};

use crate::serve::{self, Holdings, Lendfile};
use crate::{Result, Setting, kept};

/// More than any socket's buffers hold.
const FILE_BYTES: u64 = 64 << 20;

/// What a stalled reader's socket takes, before the kernel doubles it.
const RECEIVE_BYTES: usize = 4096;

/// How long the server must not have run for all to count as stalled, and how often that is looked
/// at.
const QUIET: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(50);
const SETTLE_LIMIT: Duration = Duration::from_secs(120);

/// What the live connection must keep of its throughput.
const LEAST_RATIO: f64 = 0.9;

/// Kernel workers of a thread's ring, at most: 16 of each of two kinds, lendfile's defaults.
const MOST_WORKERS: usize = 2 * 16;

/// Pipes that a ring fills ahead, and those that a thread keeps, lendfile's defaults.
const MOST_RING_PIPES: usize = 32 + 4;

pub(crate) fn measure(setting: &Setting, epoll: usize, ring: usize) -> Result<bool> {
    let dir = serve::directory()?;
    let file = File::create(dir.path().join("file"))?;
    let block = vec![7; 1 << 20];
    for _ in 0..FILE_BYTES >> 20 {
        (&file).write_all(&block)?;
    }
    file.sync_all()?;
    println!(
        "Stalled readers of a file of 64 MiB from memory, and one that reads it over and over; the"
    );
    println!("server runs as nobody. Pipes and workers: the most seen at any look.\n");
    println!(
        "| way | stalled | GB/s without | GB/s with | ratio | pipes in use while all stall | pipes \
         in all | ring workers | promise |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|---|");
    let mut all_kept = true;
    for (backend, method, count) in [
        ("epoll", "splice", epoll),
        ("uring", "ring-hybrid", ring),
        ("uring", "ring-splice", ring),
    ] {
        eprintln!("{backend} {method}: {count} stalled readers");
        // Both live all the time: one with the readers, one without.
        let alone = Lendfile::start(setting, dir.path(), backend, method)?;
        let crowded = Lendfile::start(setting, dir.path(), backend, method)?;
        let stalled = stall(setting, crowded.server.address(), count)?;
        settle(&crowded)?;
        let at_rest = crowded.holdings(setting)?;
        let servers = [&alone, &crowded];
        let mut most = at_rest;
        let results = rounds::interleave(servers.len(), setting.rounds, |index, _| {
            let rate = read_on(setting, servers[index].server.address())?;
            let now = crowded.holdings(setting)?;
            most = Holdings {
                pipes: most.pipes.max(now.pipes),
                used: most.used.max(now.used),
                pooled: most.pooled.max(now.pooled),
                workers: most.workers.max(now.workers),
            };
            Result::Ok(rate)
        });
        let series = results.into_iter().collect::<Result<Vec<_>>>()?;
        drop(stalled);
        let ratio = rounds::ratio(&series[1], &series[0]).ok_or("no rounds")?;
        let holds_little = match backend {
            "epoll" => at_rest.used == 0 && most.pipes <= most.pooled.max(4),
            _ => most.pipes <= MOST_RING_PIPES && most.workers <= MOST_WORKERS,
        };
        let promise = holds_little && ratio.median >= LEAST_RATIO;
        all_kept &= promise;
        let [without, with] = [0, 1].map(|i| rounds::median(&series[i]).unwrap_or(f64::NAN));
        println!(
            "| {backend} {method} | {count} | {without:.2} | {with:.2} | {:.2} ({:.2}–{:.2}) | {} | {} \
             | {} | {} |",
            ratio.median,
            ratio.min,
            ratio.max,
            at_rest.used,
            most.pipes,
            most.workers,
            kept(promise)
        );
    }
    println!(
        "\nPromised: at least {LEAST_RATIO} of the throughput; with epoll no pipe in use, with a ring at \
         most {MOST_RING_PIPES} pipes and {MOST_WORKERS} workers."
    );
    Ok(all_kept)
}

/// Connections that have asked and do not read.
fn stall(setting: &Setting, address: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    let connect = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_recv_buffer_size(RECEIVE_BYTES)?;
        socket.connect(&address.into())?;
        let mut socket = TcpStream::from(socket);
        socket.write_all(b"GET /file HTTP/1.1\r\nhost: x\r\n\r\n")?;
        std::io::Result::Ok(socket)
    };
    let place = setting.network.client_place();
    Ok(place.run(|| {
        (0..count)
            .map(|_| connect())
            .collect::<std::io::Result<Vec<_>>>()
    })??)
}

/// Waits until the server has nothing left to do.
fn settle(server: &Lendfile) -> Result<()> {
    let begun = Instant::now();
    let mut last = (Snapshot::of(server.server.pid())?, Instant::now());
    while last.1.elapsed() < QUIET {
        if begun.elapsed() > SETTLE_LIMIT {
            return Err("the server does not come to rest".into());
        }
        thread::sleep(LOOK);
        let now = Snapshot::of(server.server.pid())?;
        if now.since(&last.0).processor() > Duration::ZERO {
            last = (now, Instant::now());
        }
    }
    Ok(())
}

/// GB/s of one connection that reads.
fn read_on(setting: &Setting, address: SocketAddr) -> Result<f64> {
    let mut load = Load::new(address, "/file", FILE_BYTES);
    load.until = Until::Elapsed(setting.turn);
    let outcome = setting
        .network
        .client_place()
        .run(|| client::drain(&load))??;
    #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
    let bytes = outcome.bytes as f64;
    Ok(bytes / outcome.elapsed.as_secs_f64() / 1e9)
}
