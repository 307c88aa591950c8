//! A file whose disk answers late.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use lendfile_bench::client::{self, Load, Outcome, Until};
use lendfile_bench::rounds;
use lendfile_bench::server::{Address, Server};
use lendfile_tests::mounts::{Fuse, Kind, Mount, make_cold};

use crate::serve::{self, Lendfile};
use crate::{Result, Setting, beside, kept};

/// The file from memory, which is sent like a large one.
const SMALL_BYTES: u64 = 64 << 10;

/// More than comes in a turn.
const SLOW_BYTES: u64 = 1 << 30;

/// What the other connection may wait, 99 times of 100.
const MOST_LATENCY: Duration = Duration::from_millis(5);

/// How long what was found in the page cache is believed to be there, and a little more. Nobody drops a
/// file's pages between two downloads of it but this program.
const BELIEF: Duration = Duration::from_millis(2100);

/// How long the download may stand still.
const READ_LIMIT: Duration = Duration::from_secs(30);

const NGINX: &str = include_str!("../../../peers/nginx.conf");

struct Turn {
    outcome: Outcome,
    downloaded: u64,
}

pub(crate) fn measure(setting: &Setting, delay_ms: u64) -> Result<bool> {
    let program = beside("fuse-file")?;
    let fuse = Fuse {
        delay_ms,
        ..Fuse::new(program.to_str().ok_or("a path that is not UTF-8")?)
    };
    let Some(mount) = Mount::new(Kind::Fuse, fuse) else {
        return Err("no FUSE mount is to be had".into());
    };
    mount.open_to_all();
    File::create(mount.source.join("file"))?.set_len(SLOW_BYTES)?;
    let root = mount.path.parent().ok_or("a mount without a parent")?;
    fs::write(root.join("small"), vec![7; usize::try_from(SMALL_BYTES)?])?;
    println!(
        "A file of 64 KiB from memory, asked for over and over on one connection, without and with a \
         download from a FUSE file that answers each read after {delay_ms} ms; one thread serves both. \
         Milliseconds.\n"
    );
    println!(
        "| server | without: answers | p50 | p99 | most | with: answers | p50 | p99 | most \
         | downloaded MB/s | promise |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|");
    let mut all_kept = true;
    for way in ["sendfile", "splice", "mmap", "copy", "nginx"] {
        eprintln!("{way}");
        let name = match way {
            "nginx" => "nginx, no aio".to_owned(),
            method => format!("lendfile epoll {method}"),
        };
        let scratch = serve::directory()?;
        let started = match way {
            "nginx" => nginx(setting, root, scratch.path()),
            method => Lendfile::start(setting, root, "epoll", method).map(|one| one.server),
        };
        let measured = started.and_then(|server| turns(setting, &mount, server.address()));
        let (without, with) = match measured {
            Ok(measured) => measured,
            Err(error) if way == "nginx" => {
                println!("| {name} | | | | | | | | | | {error} |");
                continue;
            }
            Err(error) => return Err(format!("{name}: {error}").into()),
        };
        let p99 = Duration::from_nanos(with.outcome.latency.value_at_quantile(0.99));
        let promise = match way {
            "nginx" => "–",
            _ => {
                let promise = p99 <= MOST_LATENCY && !with.outcome.latency.is_empty();
                all_kept &= promise;
                kept(promise)
            }
        };
        #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
        let rate = with.downloaded as f64 / with.outcome.elapsed.as_secs_f64() / 1e6;
        println!(
            "| {name} | {} | {} | {rate:.1} | {promise} |",
            latencies(&without.outcome),
            latencies(&with.outcome)
        );
    }
    println!("\nPromised: a p99 of at most {MOST_LATENCY:?} with the download.");
    Ok(all_kept)
}

fn latencies(outcome: &Outcome) -> String {
    let answers = outcome.latency.len();
    if answers == 0 {
        return "none | | |".to_owned();
    }
    #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
    let [p50, p99, most] = [
        outcome.latency.value_at_quantile(0.5),
        outcome.latency.value_at_quantile(0.99),
        outcome.latency.max(),
    ]
    .map(|nanos| nanos as f64 / 1e6);
    format!("{answers} | {p50:.3} | {p99:.3} | {most:.3}")
}

/// All rounds without the download, and all with it.
fn turns(setting: &Setting, mount: &Mount, address: SocketAddr) -> Result<(Turn, Turn)> {
    let results = rounds::interleave(2, setting.rounds, |index, _| match index {
        0 => without(setting, address),
        _ => with(setting, mount, address),
    });
    let mut sums = Vec::new();
    for turns in results {
        let mut turns = turns?.into_iter();
        let mut sum = turns.next().ok_or("no rounds")?;
        for turn in turns {
            sum.downloaded += turn.downloaded;
            sum.outcome.elapsed += turn.outcome.elapsed;
            sum.outcome.latency.add(&turn.outcome.latency)?;
        }
        sums.push(sum);
    }
    let with = sums.pop().ok_or("no rounds")?;
    let without = sums.pop().ok_or("no rounds")?;
    Ok((without, with))
}

fn without(setting: &Setting, address: SocketAddr) -> Result<Turn> {
    let mut load = Load::new(address, "/small", SMALL_BYTES);
    load.until = Until::Elapsed(setting.turn);
    let outcome = setting
        .network
        .client_place()
        .run(|| client::drain(&load))??;
    Ok(Turn {
        outcome,
        downloaded: 0,
    })
}

fn with(setting: &Setting, mount: &Mount, address: SocketAddr) -> Result<Turn> {
    // The download before has ended by then, too.
    thread::sleep(BELIEF);
    if !make_cold(&mount.path.join("file")) {
        return Err("the slow file stays in the page cache".into());
    }
    let place = setting.network.client_place();
    let mut socket = place.run(|| TcpStream::connect(address))??;
    socket.set_read_timeout(Some(READ_LIMIT))?;
    socket.write_all(b"GET /mount/file HTTP/1.1\r\nhost: x\r\n\r\n")?;
    // The first bytes say that it is under way.
    let mut head = [0; 1024];
    let n = socket.read(&mut head)?;
    if !head[..n].starts_with(b"HTTP/1.1 200 ") {
        return Err(String::from_utf8_lossy(&head[..n]).into());
    }
    let (ended, downloaded) = (AtomicBool::new(false), AtomicU64::new(0));
    let turn = thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = vec![0; 256 << 10];
            while let Ok(n) = (&socket).read(&mut buffer)
                && n > 0
            {
                if !ended.load(Ordering::Relaxed) {
                    downloaded.fetch_add(n as u64, Ordering::Relaxed);
                }
            }
        });
        let turn = without(setting, address);
        ended.store(true, Ordering::Relaxed);
        // Ends the read above.
        let shut = socket.shutdown(std::net::Shutdown::Both);
        turn.and_then(|turn| Ok(shut.map(|()| turn)?))
    })?;
    Ok(Turn {
        downloaded: downloaded.into_inner(),
        ..turn
    })
}

/// nginx as the race configures it: sendfile, one process, neither aio nor threads.
fn nginx(setting: &Setting, root: &Path, scratch: &Path) -> Result<Server> {
    let network = &setting.network;
    let listen = network.free_address()?;
    let configuration = scratch.join("nginx.conf");
    let text = NGINX
        .replace("@LISTEN@", &listen.to_string())
        .replace("@ROOT@", &root.to_string_lossy());
    fs::write(&configuration, text)?;
    let mut command = Command::new("/usr/sbin/nginx");
    command
        .arg("-p")
        .arg(scratch)
        .arg("-c")
        .arg(&configuration)
        .args(["-e", "stderr"]);
    let (server, client) = (network.server_place(), network.client_place());
    let address = Address::Fixed(listen);
    Ok(Server::start(&server, &client, &mut command, address)?)
}
