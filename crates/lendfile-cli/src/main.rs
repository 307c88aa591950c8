//! The `lendfile` command: `serve` a directory by sendfile, `probe` what the machine can do,
//! `bench` the ways of sending on it.
#![forbid(unsafe_code)]

mod args;
mod backend;
mod bench;
mod failure;
mod probe;
mod serve;

use std::io;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use args::{Args, Command};
use failure::Failure;

/// The variable that says what is logged, in the syntax of tracing's `EnvFilter`.
const LOG_VARIABLE: &str = "LENDFILE_LOG";

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::builder()
        .with_default_directive(tracing_subscriber::filter::LevelFilter::WARN.into())
        .with_env_var(LOG_VARIABLE)
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()) && no_color().is_none())
        .init();
    let done = |()| ExitCode::SUCCESS;
    let result = match args.command {
        Command::Bench(args) => bench::run(&args),
        Command::Probe(args) => args.run().map(done),
        Command::Serve(args) => serve::run(&args).map(done),
    };
    result.unwrap_or_else(Failure::report)
}

/// <https://no-color.org>: set and not empty.
fn no_color() -> Option<std::ffi::OsString> {
    std::env::var_os("NO_COLOR").filter(|value| !value.is_empty())
}
