//! The `lendfile` command: `serve` a directory by sendfile, `probe` what the machine can do,
//! `bench` the ways of sending on it.
#![forbid(unsafe_code)]

mod args;
mod backend;
mod bench;
mod config;
mod confine;
mod failure;
mod generate;
mod listen;
mod metrics;
mod probe;
mod serve;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{ArgMatches, FromArgMatches};
use tracing_subscriber::EnvFilter;

use args::{Args, Command};
use failure::Failure;

/// The variable that says what is logged, in the syntax of tracing's `EnvFilter`.
const LOG_VARIABLE: &str = "LENDFILE_LOG";

fn main() -> ExitCode {
    match config::matches(std::env::args_os()).and_then(|matches| run(&matches)) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn run(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    // What `matches` holds was checked by the same description, so this cannot fail.
    let args = Args::from_arg_matches(matches).unwrap_or_else(|error| error.exit());
    let filter = EnvFilter::builder()
        .with_default_directive(tracing_subscriber::filter::LevelFilter::WARN.into())
        .with_env_var(LOG_VARIABLE)
        .from_env()
        .map_err(|error| {
            Failure::usage(format_args!(
                "{LOG_VARIABLE}: {error}; write a level, such as info, or a level for each part: lendfile_core=debug,warn"
            ))
        })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()) && no_color().is_none())
        .init();
    let done = |()| ExitCode::SUCCESS;
    match args.command {
        Command::Bench(args) => bench::run(&args),
        Command::Generate(args) => generate::run(args.what).map(done),
        Command::Probe(args) => args.run().map(done),
        Command::Serve(args) => {
            let given = matches
                .subcommand_matches("serve")
                .expect("it is the command");
            if args.process.print_config {
                // A reader that has gone away wants no more of it.
                _ = io::stdout().write_all(config::print(given).as_bytes());
                return Ok(ExitCode::SUCCESS);
            }
            let by_default = given.value_source("listen") == Some(ValueSource::DefaultValue);
            let listens = !by_default || args.process.config.is_some();
            serve::run(&args, listens).map(done)
        }
    }
}

/// <https://no-color.org>: set and not empty.
fn no_color() -> Option<std::ffi::OsString> {
    std::env::var_os("NO_COLOR").filter(|value| !value.is_empty())
}
