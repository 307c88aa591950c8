//! What TLS leaves: `lendfile serve` against tower-http's `ServeDir`, both through rustls, one core
//! for the server and one for the client.
//!
//! The client shakes hands and reads the first response by rustls. After that it counts records
//! without decrypting them, since decrypting costs as much as encrypting and would hide who is
//! faster: a record of TLS 1.3 holds its length less 17 bytes. It polls without sleeping.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "the result is its output")]

mod client;
mod rival;

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, SystemTime};

use clap::{Args, Parser, Subcommand};
use lendfile_bench::pin;
use lendfile_bench::process::Snapshot;
use lendfile_bench::rounds::{median, order};

use client::Client;

type Error = Box<dyn std::error::Error>;

/// Measure lendfile and tower-http behind the same TLS, over loopback
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    rival: Option<Rival>,

    /// Length of the file in MiB
    #[arg(long, default_value = "16")]
    mib: u64,

    /// Rounds; each contestant has one turn in each
    #[arg(long, default_value = "9")]
    rounds: usize,

    /// Of a turn
    #[arg(long, default_value = "1")]
    seconds: u64,

    /// The lendfile command [default: the one beside this program]
    #[arg(long)]
    lendfile: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Rival {
    /// tower-http on axum, on one thread
    ServeDir(ServeDir),
}

#[derive(Debug, Args)]
struct ServeDir {
    directory: PathBuf,
    #[arg(long)]
    tls_cert: PathBuf,
    #[arg(long)]
    tls_key: PathBuf,
}

/// A server under measurement; killed when dropped.
struct Server {
    child: Child,
    _stdout: BufReader<ChildStdout>,
    client: Client,
    gbs: Vec<f64>,
    cpu: Vec<f64>,
}

fn main() -> Result<(), Error> {
    let arguments = Arguments::parse();
    if let Some(Rival::ServeDir(serve)) = &arguments.rival {
        return Ok(rival::serve(
            &serve.directory,
            &serve.tls_cert,
            &serve.tls_key,
        )?);
    }
    let program = std::env::current_exe()?;
    let lendfile = arguments
        .lendfile
        .clone()
        .unwrap_or_else(|| program.with_file_name("lendfile"));
    let dir = tempfile::tempdir()?;
    let site = dir.path().join("site");
    std::fs::create_dir(&site)?;
    let length = arguments.mib << 20;
    std::fs::write(site.join("file"), vec![b'x'; usize::try_from(length)?])?;
    // Of a file that has just been changed the entity tag is weak, and two bytes longer.
    let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
    File::options()
        .write(true)
        .open(site.join("file"))?
        .set_modified(an_hour_ago)?;
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    std::fs::write(dir.path().join("cert.pem"), made.cert.pem())?;
    std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem())?;

    let mut ours = Command::new(lendfile);
    ours.args(["serve", "--listen", "127.0.0.1:0", "--threads", "1"]);
    let mut theirs = Command::new(program);
    theirs.arg("serve-dir");
    let mut servers = Vec::new();
    let cores = pin::choose()?;
    for mut command in [ours, theirs] {
        // Children stay where their parent is when they are started.
        if let Some(cores) = &cores {
            pin::pin_thread(cores.server)?;
        }
        command.arg(&site);
        servers.push(start(
            command,
            dir.path(),
            made.cert.der().as_ref(),
            length,
        )?);
    }
    if let Some(cores) = &cores {
        pin::pin_thread(cores.client)?;
    }
    let turn = Duration::from_secs(arguments.seconds);
    for round in 0..=arguments.rounds {
        for index in order(servers.len(), round) {
            take_turn(&mut servers[index], turn, round > 0)?;
        }
    }
    report(&servers, arguments.mib, cores.is_some());
    Ok(())
}

fn start(mut command: Command, dir: &Path, trusted: &[u8], length: u64) -> Result<Server, Error> {
    let mut child = command
        .arg("--tls-cert")
        .arg(dir.join("cert.pem"))
        .arg("--tls-key")
        .arg(dir.join("key.pem"))
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdout = BufReader::new(child.stdout.take().ok_or("no standard output")?);
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    let addr: SocketAddr = line
        .trim_end()
        .strip_prefix("listening on https://")
        .ok_or_else(|| io::Error::other(format!("the first line is {line:?}")))?
        .parse()?;
    Ok(Server {
        client: Client::connect(addr, trusted, length)?,
        child,
        _stdout: stdout,
        gbs: Vec::new(),
        cpu: Vec::new(),
    })
}

#[expect(clippy::cast_precision_loss, reason = "a figure of three digits")]
fn take_turn(server: &mut Server, turn: Duration, counts: bool) -> Result<(), Error> {
    let before = Snapshot::of(server.child.id())?;
    let (bytes, elapsed) = server.client.run(turn)?;
    let used = Snapshot::of(server.child.id())?.since(&before);
    if counts {
        let bytes = bytes as f64;
        server.gbs.push(bytes / elapsed.as_secs_f64() / 1e9);
        let gib = bytes / f64::from(1 << 30);
        server.cpu.push(used.processor().as_secs_f64() / gib);
    }
    Ok(())
}

fn report(servers: &[Server], mib: u64, pinned: bool) {
    println!("{mib} MiB, one connection, TLS 1.3, loopback, pinned: {pinned}\n");
    println!("| server | GB/s | CPU s/GiB |\n|---|---:|---:|");
    for (name, server) in ["lendfile", "tower-http ServeDir"].iter().zip(servers) {
        let [gbs, cpu] = [&server.gbs, &server.cpu].map(|all| median(all).unwrap_or_default());
        println!("| {name} | {gbs:.2} | {cpu:.2} |");
    }
    let ratios: Vec<f64> = servers[0]
        .gbs
        .iter()
        .zip(&servers[1].gbs)
        .map(|(ours, theirs)| ours / theirs)
        .collect();
    let ratio = median(&ratios).unwrap_or_default();
    println!(
        "\nlendfile / tower-http, median of {} rounds: {ratio:.2}",
        ratios.len()
    );
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
