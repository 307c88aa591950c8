//! Two threads that serve: a runtime for each with a socket of its own, as the command has it, or one
//! multi-thread runtime, as most programs have. What a request costs, and how long it takes.
//!
//! Client and server share two cores, so the figures are for comparing these two only.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "the result is its output")]

use std::env;
use std::future::IntoFuture;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use lendfile::ServeDir;
use lendfile_bench::client::{Load, Outcome, Until, drain};
use lendfile_bench::files::{TestFile, TestFiles};
use lendfile_bench::pin;
use lendfile_bench::place::Place;
use lendfile_bench::process::{Snapshot, Usage};
use lendfile_bench::report::{Report, size};
use lendfile_bench::rounds::{median, order};
use lendfile_bench::server::{ANNOUNCEMENT, Address, Server};

type Error = Box<dyn std::error::Error>;

const THREADS: usize = 2;

/// Measure a runtime per thread and one multi-thread runtime, over loopback
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    server: Option<Apart>,

    /// Rounds; each has one turn in each
    #[arg(long, default_value = "9")]
    rounds: usize,

    /// Of a turn, in milliseconds
    #[arg(long, default_value = "700")]
    millis: u64,

    #[arg(long, default_value = "32")]
    connections: usize,

    /// The lendfile command [default: the one beside this program]
    #[arg(long)]
    lendfile: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Apart {
    /// The multi-thread runtime
    #[command(hide = true)]
    MultiThread(At),
}

#[derive(Debug, Args)]
struct At {
    directory: PathBuf,
}

fn main() -> Result<(), Error> {
    let arguments = Arguments::parse();
    if let Some(Apart::MultiThread(at)) = &arguments.server {
        return multi_thread(&at.directory);
    }
    let report = Report::begin("loopback");
    println!("## `{}`\n", report.command);
    println!(
        "{}, {} cores, Linux {}; commit {}; {}\n",
        report.machine.processor,
        report.machine.cores,
        report.machine.kernel,
        report.commit.as_deref().unwrap_or("unknown"),
        report.date,
    );
    println!(
        "| {} connections, {THREADS} threads | requests/s | CPU µs/request | switches/request | p50 µs | \
         p99 µs |",
        arguments.connections
    );
    println!("|---|--:|--:|--:|--:|--:|");
    for length in [1 << 10, 64 << 10, 1 << 20] {
        compare(&arguments, length)?;
    }
    Ok(())
}

/// Serves as a program does whose `main` is `#[tokio::main]`.
fn multi_thread(directory: &Path) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = tokio::net::TcpListener::bind(any).await?;
        println!("{ANNOUNCEMENT}{}", listener.local_addr()?);
        // On the workers: the thread that blocks here is none of them.
        let serving = lendfile::serve(listener, ServeDir::new(directory)?);
        tokio::spawn(serving.into_future()).await??;
        Ok(())
    })
}

struct Turns {
    name: &'static str,
    server: Server,
    turns: Vec<(Outcome, Usage)>,
}

fn compare(arguments: &Arguments, length: u64) -> Result<(), Error> {
    let files = TestFiles::new()?;
    let file = files.create(length)?;
    let mut both = [
        ("a runtime for each", per_thread(arguments, &files)?),
        ("one multi-thread runtime", shared(&files)?),
    ]
    .map(|(name, server)| Turns {
        name,
        server,
        turns: Vec::new(),
    });
    // Round 0 warms up.
    for round in 0..=arguments.rounds {
        for index in order(both.len(), round) {
            let contestant = &mut both[index];
            let turn = turn(arguments, contestant, &file)?;
            if round > 0 {
                contestant.turns.push(turn);
            }
        }
    }
    for Turns { name, turns, .. } in &both {
        let of = |figure: &dyn Fn(&Outcome, &Usage) -> f64| {
            let figures = turns.iter().map(|(outcome, usage)| figure(outcome, usage));
            median(&figures.collect::<Vec<_>>()).unwrap_or(f64::NAN)
        };
        #[expect(clippy::cast_precision_loss, reason = "counts for people")]
        let requests = |outcome: &Outcome| outcome.requests.max(1) as f64;
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds for people")]
        let micros =
            |outcome: &Outcome, share| outcome.latency.value_at_quantile(share) as f64 / 1e3;
        #[expect(clippy::cast_precision_loss, reason = "counts for people")]
        let switches = |usage: &Usage| usage.switches() as f64;
        println!(
            "| {}, {name} | {:.0} | {:.1} | {:.3} | {:.0} | {:.0} |",
            size(length),
            of(&|outcome, _| requests(outcome) / outcome.elapsed.as_secs_f64()),
            of(&|outcome, usage| usage.processor().as_secs_f64() * 1e6 / requests(outcome)),
            of(&|outcome, usage| switches(usage) / requests(outcome)),
            of(&|outcome, _| micros(outcome, 0.5)),
            of(&|outcome, _| micros(outcome, 0.99)),
        );
    }
    Ok(())
}

fn per_thread(arguments: &Arguments, files: &TestFiles) -> Result<Server, Error> {
    let program = match &arguments.lendfile {
        Some(path) => path.clone(),
        None => env::current_exe()?.with_file_name("lendfile"),
    };
    let mut command = Command::new(program);
    command.args(["serve", "--listen", "127.0.0.1:0", "--backend", "epoll"]);
    command
        .args(["--threads", &THREADS.to_string()])
        .arg(files.directory());
    start(&mut command)
}

fn shared(files: &TestFiles) -> Result<Server, Error> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("multi-thread").arg(files.directory());
    start(&mut command)
}

fn start(command: &mut Command) -> Result<Server, Error> {
    let anywhere = Place::default();
    Ok(Server::start(
        &anywhere,
        &anywhere,
        command,
        Address::Announced,
    )?)
}

fn turn(
    arguments: &Arguments,
    contestant: &Turns,
    file: &TestFile,
) -> Result<(Outcome, Usage), Error> {
    let mut load = Load::new(
        contestant.server.address(),
        file.request_path(),
        file.digest.length,
    );
    load.connections = arguments.connections;
    load.until = Until::Elapsed(Duration::from_millis(arguments.millis));
    let mut place = Place::default();
    place.core = pin::choose()?.map(|cores| cores.client);
    let before = Snapshot::of(contestant.server.pid())?;
    let outcome = place.run(|| drain(&load))??;
    let usage = Snapshot::of(contestant.server.pid())?.since(&before);
    Ok((outcome, usage))
}
