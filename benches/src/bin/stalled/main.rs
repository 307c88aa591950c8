//! `stalled`: what readers that take nothing, and a disk that answers late, cost everybody else.
//!
//! ```console
//! $ cargo build --release -p lendfile-cli -p lendfile-tests -p lendfile-benches
//! $ sudo target/release/stalled readers
//! $ sudo target/release/stalled disk
//! ```
//!
//! The server is `lendfile serve --threads 1 --user nobody` on one core; a client that never sleeps
//! measures on another, in a network namespace of its own (or `--loopback`). Prints Markdown, and
//! ends with 1 if a promise is broken.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the tables go to standard output, progress to standard error"
)]

mod disk;
mod readers;
mod serve;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use lendfile_bench::network::Network;
use lendfile_bench::report::Machine;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Parser)]
#[command(about = "Measures what stalled readers and a slow disk cost the other connections")]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Rounds after one to warm up
    #[arg(long, global = true, default_value_t = 7)]
    rounds: usize,
    /// Seconds for each turn
    #[arg(long, global = true, default_value_t = 1.0)]
    seconds: f64,
    /// Over loopback instead of veth
    #[arg(long, global = true)]
    loopback: bool,
    /// The lendfile command [default: the one beside this program]
    #[arg(long, global = true)]
    lendfile: Option<PathBuf>,
}

#[derive(Clone, Copy, Subcommand)]
enum What {
    /// Connections that ask for a large file and read nothing; the throughput of one that reads
    Readers {
        /// How many, with epoll's splice
        #[arg(long, default_value_t = 5000)]
        epoll: usize,
        /// How many, with each of the ring's methods
        #[arg(long, default_value_t = 1000)]
        ring: usize,
    },
    /// A download from a FUSE file that answers late; the latency of a small file from memory
    Disk {
        /// Milliseconds for each answer
        #[arg(long, default_value_t = 100)]
        delay_ms: u64,
    },
}

/// What a measurement needs to know.
struct Setting {
    network: Network,
    lendfile: PathBuf,
    rounds: usize,
    turn: Duration,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all promises are kept.
fn run(arguments: &Arguments) -> Result<bool> {
    serve::allow_descriptors()?;
    let setting = Setting {
        network: match arguments.loopback {
            true => Network::loopback("asked for")?,
            false => Network::prepare()?,
        },
        lendfile: match &arguments.lendfile {
            Some(program) => program.clone(),
            None => beside("lendfile")?,
        },
        rounds: arguments.rounds,
        turn: Duration::from_secs_f64(arguments.seconds),
    };
    let machine = Machine::this();
    println!("{}, Linux {}", machine.processor, machine.kernel);
    println!("{}", setting.network.describe());
    let (rounds, seconds) = (setting.rounds, arguments.seconds);
    println!("{rounds} rounds of {seconds} s, in turn\n");
    match arguments.what {
        What::Readers { epoll, ring } => readers::measure(&setting, epoll, ring),
        What::Disk { delay_ms } => disk::measure(&setting, delay_ms),
    }
}

/// A program of this workspace, built by the same command.
fn beside(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    match path.is_file() {
        true => Ok(path),
        false => Err(format!("{} has not been built", path.display()).into()),
    }
}

/// The word for a table.
fn kept(promise: bool) -> &'static str {
    if promise { "kept" } else { "**broken**" }
}
