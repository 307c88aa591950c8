//! `plain`: what `recv_file` and `relay` cost, beside the ways without splice.
//!
//! ```console
//! $ cargo build --release -p lendfile-benches --bin plain
//! $ sudo target/release/plain receive --dir /var/tmp
//! $ sudo target/release/plain relay
//! ```
//!
//! A server process on one core, a client that never sleeps on another, in two network namespaces
//! joined by veth (or `--loopback`). Ways take turns, round by round, and are compared within each
//! round. Its hidden subcommand is a contestant.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table goes to standard output, progress to standard error"
)]

mod client;
mod server;

use std::error::Error;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{env, io};

use clap::{Parser, Subcommand};
use lendfile_bench::network::Network;
use lendfile_bench::process::Snapshot;
use lendfile_bench::report::Machine;
use lendfile_bench::rounds;

/// Bytes of one upload.
const UPLOAD_BYTES: u64 = 256 << 20;

#[derive(Parser)]
#[command(about = "Measures receiving into files and relaying between sockets")]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Rounds after one to warm up.
    #[arg(long, global = true, default_value_t = 7)]
    rounds: usize,
    /// Seconds for each turn.
    #[arg(long, global = true, default_value_t = 1.0)]
    seconds: f64,
    /// Over loopback instead of veth.
    #[arg(long, global = true)]
    loopback: bool,
}

#[derive(Clone, Subcommand)]
enum What {
    /// Uploads of 256 MiB into a file.
    Receive {
        /// Where the file is.
        #[arg(long, default_value = "/var/tmp")]
        dir: PathBuf,
        /// Into a new file each time, instead of over the one before.
        #[arg(long)]
        fresh: bool,
    },
    /// One connection relayed to another, one way.
    Relay,
    #[command(hide = true)]
    Serve(server::Arguments),
}

impl What {
    /// The first is what the others are compared with.
    fn ways(&self) -> &'static [&'static str] {
        match self {
            Self::Relay => &["tokio", "lendfile", "lendfile-copy"],
            _ => &["read-write", "lendfile", "lendfile-splice", "lendfile-copy"],
        }
    }
}

/// One turn.
#[derive(Clone, Copy)]
struct Sample {
    gigabytes_per_second: f64,
    processor_per_gib: f64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.what {
        What::Serve(contestant) => server::serve(contestant).map_err(Into::into),
        what => measure(&arguments, what),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments, what: &What) -> Result<(), Box<dyn Error>> {
    let network = match arguments.loopback {
        true => Network::loopback("asked for")?,
        false => Network::prepare()?,
    };
    let turn_time = Duration::from_secs_f64(arguments.seconds);
    let ways = what.ways();
    let results = rounds::interleave(ways.len(), arguments.rounds, |index, _| {
        turn(&network, what, ways[index], turn_time)
    });
    let mut series = Vec::new();
    for (way, result) in ways.iter().zip(results) {
        series.push(result.map_err(|error| format!("{way}: {error}"))?);
    }
    let setting = match what {
        What::Receive { dir, fresh } => {
            let over = if *fresh {
                "new files"
            } else {
                "one file, over and over"
            };
            format!("receive 256 MiB into {over} in {}", dir.display())
        }
        _ => "relay".to_owned(),
    };
    println!("{setting}; {}", network.describe());
    let machine = Machine::this();
    let (processor, kernel) = (machine.processor, machine.kernel);
    let (rounds, seconds) = (arguments.rounds, arguments.seconds);
    println!("{rounds} rounds of {seconds} s; {processor}, Linux {kernel}");
    println!("\n| way | GB/s | CPU s/GiB | GB/s, ratio | CPU/GiB, ratio | GB per CPU s, ratio |");
    println!("|---|---|---|---|---|---|");
    let of = |samples: &[Sample], figure: fn(&Sample) -> f64| -> Vec<f64> {
        samples.iter().map(figure).collect()
    };
    let figures: [fn(&Sample) -> f64; 3] = [
        |sample| sample.gigabytes_per_second,
        |sample| sample.processor_per_gib,
        |sample| 1.0 / sample.processor_per_gib,
    ];
    for (way, samples) in ways.iter().zip(&series) {
        let median = |figure| rounds::median(&of(samples, figure)).unwrap_or(f64::NAN);
        let ratios = figures.map(|figure| {
            let ratio = rounds::ratio(&of(samples, figure), &of(&series[0], figure));
            ratio.map_or(String::new(), |ratio| {
                format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.min, ratio.max)
            })
        });
        println!(
            "| {way} | {:.2} | {:.3} | {} |",
            median(figures[0]),
            median(figures[1]),
            ratios.join(" | ")
        );
    }
    Ok(())
}

/// Runs one way for a while, in a process of its own.
fn turn(
    network: &Network,
    what: &What,
    way: &str,
    time: Duration,
) -> Result<Sample, Box<dyn Error>> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["serve", way, &network.server_ip().to_string()]);
    let sink = match what {
        What::Receive { dir, fresh } => {
            command.arg("--file").arg(dir.join("lendfile-plain.tmp"));
            command.args(fresh.then_some("--fresh"));
            None
        }
        _ => {
            let sink = network
                .client_place()
                .run(|| client::Sink::open(network))??;
            command.args(["--target", &sink.address()?.to_string()]);
            Some(sink)
        }
    };
    let child = network
        .server_place()
        .spawn(command.stdout(Stdio::piped()))?;
    let mut child = Ending(child);
    let stdout = child.0.stdout.take().ok_or("no standard output")?;
    let address = client::announced(stdout)?;
    let pid = child.0.id();
    let (bytes, elapsed, used) = network.client_place().run(|| {
        let before = Snapshot::of(pid).map_err(io::Error::other)?;
        let begun = Instant::now();
        let bytes = match sink {
            None => client::upload(address, UPLOAD_BYTES, time),
            Some(sink) => client::pass_through(address, &sink, time),
        }?;
        let elapsed = begun.elapsed();
        let after = Snapshot::of(pid).map_err(io::Error::other)?;
        Ok::<_, io::Error>((bytes, elapsed, after.since(&before).processor()))
    })??;
    #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
    let bytes = bytes as f64;
    Ok(Sample {
        gigabytes_per_second: bytes / elapsed.as_secs_f64() / 1e9,
        processor_per_gib: used.as_secs_f64() / (bytes / f64::from(1 << 30)),
    })
}

/// A child that ends with its turn.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
