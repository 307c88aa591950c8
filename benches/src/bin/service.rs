//! `service`: what the file service promises about memory, descriptors and hostile headers, measured.
//!
//! Not a race: there is nobody to compare with. Each subcommand prints what it found and ends with 1
//! if a promise is broken.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "the figures go to standard output")]

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::{Parser, Subcommand};
use http::Request;
use http::header::RANGE;
use lendfile::{CacheLimits, FileResponse, OpenFile, ServeDir};
use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Files below one directory.
const PER_DIRECTORY: u64 = 1000;

/// Descriptors that the process may have beside the cache's: sockets, the runtime's, standard ones.
const OTHER_DESCRIPTORS: u64 = 64;

/// Bytes that memory may grow by beside the cache's bound.
const ALLOCATOR_BYTES: u64 = 16 << 20;

/// What one request with many ranges may take.
const MOST_PROCESSOR_TIME: Duration = Duration::from_millis(1);

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Serve distinct files once each from a bounded cache; watch memory and descriptors
    Files {
        /// How many
        #[arg(long, default_value_t = 200_000)]
        count: u64,
        /// Bytes of each
        #[arg(long, default_value_t = 4096)]
        bytes: usize,
        /// The cache's bound, in bytes
        #[arg(long, default_value_t = CacheLimits::default().bytes)]
        cache_bytes: u64,
        /// The cache's bound, in descriptors; the process gets 64 more (beyond which every open fails)
        #[arg(long, default_value_t = CacheLimits::default().descriptors)]
        cache_descriptors: u64,
        /// Files up to this many bytes are kept in memory, longer ones open
        #[arg(long, default_value_t = 48 << 10)]
        cached_file_bytes: u64,
        /// Where to make them, on a filesystem with so many inodes
        #[arg(long)]
        directory: Option<PathBuf>,
    },
    /// Processor time of one request with many ranges
    Ranges {
        /// How many
        #[arg(long, default_value_t = 10_000)]
        count: u64,
    },
}

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<ExitCode> {
    let kept = match Arguments::parse().what {
        What::Files {
            count,
            bytes,
            cache_bytes,
            cache_descriptors,
            cached_file_bytes,
            directory,
        } => {
            let limits = CacheLimits::default()
                .entries(u64::MAX)
                .bytes(cache_bytes)
                .descriptors(cache_descriptors);
            let root = match directory {
                Some(directory) => tempfile::tempdir_in(directory)?,
                None => tempfile::tempdir()?,
            };
            make(root.path(), count, bytes)?;
            let service = ServeDir::new(root.path())?
                .cache(limits)
                .cached_file_bytes(cached_file_bytes);
            files(count, bytes, limits, service)?
        }
        What::Ranges { count } => ranges(count)?,
    };
    Ok(if kept {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn make(root: &Path, count: u64, bytes: usize) -> Result<()> {
    println!(
        "making {count} files of {bytes} bytes in {}",
        root.display()
    );
    let content = vec![b'x'; bytes];
    for k in 0..count {
        let below = root.join((k / PER_DIRECTORY).to_string());
        if k % PER_DIRECTORY == 0 {
            fs::create_dir(&below)?;
        }
        fs::write(below.join(k.to_string()), &content)?;
    }
    Ok(())
}

fn files(count: u64, bytes: usize, limits: CacheLimits, service: ServeDir) -> Result<bool> {
    let most_open = limits.descriptors + OTHER_DESCRIPTORS;
    let mut nofile = getrlimit(Resource::Nofile);
    nofile.current = Some(most_open);
    setrlimit(Resource::Nofile, nofile)?;
    let mut client = BufReader::new(TcpStream::connect(serve(service)?)?);
    get(&mut client, 0, bytes)?;
    let before = resident()?;
    let (mut most_resident, mut open) = (before, 0);
    for k in 1..count {
        get(&mut client, k, bytes)?;
        if k % 1000 == 0 {
            most_resident = most_resident.max(resident()?);
            open = open.max(fs::read_dir("/proc/self/fd")?.count());
        }
    }
    let grown = most_resident - before;
    println!(
        "{count} files served; memory grew by {grown} bytes (bound {}), {open} descriptors at most \
         (limit {most_open})",
        limits.bytes,
    );
    // An allocator keeps what it is given back, and pools of chunks are no part of the cache.
    Ok(grown <= limits.bytes + ALLOCATOR_BYTES)
}

/// Serves on a thread of its own, for as long as the process lives.
fn serve(service: ServeDir) -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::spawn(move || {
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            lendfile::serve(listener, service).await
        })
    });
    Ok(addr)
}

fn get(client: &mut BufReader<TcpStream>, k: u64, bytes: usize) -> Result<()> {
    let request = format!(
        "GET /{}/{k} HTTP/1.1\r\nhost: test\r\n\r\n",
        k / PER_DIRECTORY
    );
    client.get_mut().write_all(request.as_bytes())?;
    let mut line = String::new();
    client.read_line(&mut line)?;
    if !line.starts_with("HTTP/1.1 200") {
        return Err(format!("file {k}: {line}").into());
    }
    while line != "\r\n" {
        line.clear();
        client.read_line(&mut line)?;
    }
    client.read_exact(&mut vec![0; bytes])?;
    Ok(())
}

/// Resident memory of this process that is its own.
fn resident() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib
        .ok_or("no RssAnon in /proc/self/status")?
        .trim()
        .parse::<u64>()?
        * 1024)
}

fn ranges(count: u64) -> Result<bool> {
    let file = tempfile::NamedTempFile::new()?;
    file.as_file().set_len(16 * count)?;
    let response = FileResponse::new(OpenFile::open(file.path())?);
    let most = usize::try_from(count)?;
    let far_apart: Vec<String> = (0..count)
        .map(|k| format!("{}-{}", 16 * k, 16 * k + 1))
        .collect();
    let mut kept = true;
    for (what, response, list) in [
        ("more than the cap", response.clone(), far_apart.join(",")),
        (
            "overlapping, allowed",
            response.clone().max_ranges(most),
            vec!["0-"; most].join(","),
        ),
        ("empty elements", response.clone(), ",".repeat(most)),
        (
            "malformed, allowed",
            response.max_ranges(most),
            vec!["x"; most].join(","),
        ),
    ] {
        let request = Request::get("/")
            .header(RANGE, format!("bytes={list}"))
            .body(())?;
        let mut times: Vec<Duration> = (0..101)
            .map(|_| {
                let begin = processor_time();
                let response = response.respond(&request);
                assert!([200, 416].contains(&response.status().as_u16()));
                processor_time().saturating_sub(begin)
            })
            .collect();
        times.sort_unstable();
        let median = times[times.len() / 2];
        println!("{count} ranges, {what}: {median:?}");
        kept &= median < MOST_PROCESSOR_TIME;
    }
    Ok(kept)
}

/// What this thread has had of a processor.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
