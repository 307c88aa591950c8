//! `race`: runs the contests and prints their tables. Its hidden subcommands are contestants.

#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the tables go to standard output, progress to standard error"
)]

use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use lendfile_bench::contest::{self, Contestant, Plan, Standing};
use lendfile_bench::files::TestFiles;
use lendfile_bench::network::Network;
use lendfile_bench::report::{Report, Table};
use lendfile_bench::server::ANNOUNCEMENT;
use lendfile_benches::contestants::{self, Programs};
use lendfile_benches::{bare, serve_dir};

/// Races lendfile against its peers and against the limit.
///
/// Ends with 1 if a contestant failed, or if one named by --only is not installed.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    contestant: Option<Serve>,

    /// A short race: 1m under cubic, 3 rounds of half a second
    #[arg(long)]
    quick: bool,

    /// File lengths, with k, m or g for powers of 1024 [default: 1m,1g]
    #[arg(long, value_delimiter = ',', value_parser = parse_length)]
    sizes: Vec<u64>,

    /// Keep-alive connections
    #[arg(long, default_value_t = 8)]
    conns: usize,

    /// Seconds of a contestant's turn [default: 2]
    #[arg(long, value_parser = parse_seconds)]
    seconds: Option<Duration>,

    /// Rounds [default: 5]
    #[arg(long)]
    rounds: Option<usize>,

    /// Congestion controls [default: cubic,bbr; on loopback the machine's]
    #[arg(long, value_delimiter = ',')]
    cc: Vec<String>,

    /// Do not try for network namespaces
    #[arg(long)]
    loopback: bool,

    /// The lendfile command [default: the one beside this program]
    #[arg(long, value_name = "PROGRAM")]
    lendfile: Option<PathBuf>,

    /// Only contestants whose name is, or begins with, one of these
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<String>,

    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write the report as Markdown
    #[arg(long, value_name = "FILE")]
    md: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Serve {
    /// The limit
    #[command(hide = true)]
    Bare {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        file: PathBuf,
        #[arg(long)]
        method: bare::Method,
    },
    /// tower-http on axum
    #[command(hide = true)]
    ServeDir {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        directory: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.contestant {
        Some(Serve::Bare {
            listen,
            file,
            method,
        }) => bare::serve(*listen, file, *method, announce)
            .map(|()| ExitCode::SUCCESS)
            .map_err(Into::into),
        Some(Serve::ServeDir { listen, directory }) => {
            serve_dir::serve(*listen, directory, announce)
                .map(|()| ExitCode::SUCCESS)
                .map_err(Into::into)
        }
        None => race(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn announce(address: SocketAddr) {
    println!("{ANNOUNCEMENT}{address}");
}

fn race(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let contestants = chosen(arguments)?;
    let contestants: Vec<&dyn Contestant> = contestants.iter().map(AsRef::as_ref).collect();
    let plan = plan(arguments);
    let network = if arguments.loopback {
        Network::loopback("as asked for")?
    } else {
        Network::prepare()?
    };
    let files = TestFiles::new()?;
    let mut report = Report::begin(network.describe());
    let mut complete = true;
    eprintln!("{}", report.network);
    for length in sizes(arguments) {
        eprintln!("making a file of {length} bytes");
        let file = files.create(length)?;
        for congestion_control in congestion_controls(arguments, &network)? {
            network.set_congestion_control(&congestion_control)?;
            let conditions = format!("{length} bytes, {congestion_control}");
            let mut progress = |what: &str| eprintln!("{conditions}: {what}");
            let rows = contest::run(&network, &files, &file, &plan, &contestants, &mut progress);
            complete &= rows.iter().all(|row| match &row.result {
                Standing::Failed { .. } => false,
                Standing::Skipped { .. } => arguments.only.is_empty(),
                _ => true,
            });
            let table = Table {
                congestion_control,
                file_bytes: length,
                plan,
                rows,
            };
            println!("{}", table.to_markdown());
            report.tables.push(table);
        }
    }
    if let Some(path) = &arguments.json {
        fs::write(path, report.to_json())?;
    }
    if let Some(path) = &arguments.md {
        fs::write(path, report.to_markdown())?;
    }
    Ok(if complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn chosen(arguments: &Arguments) -> Result<Vec<Box<dyn Contestant>>, Box<dyn Error>> {
    let race = std::env::current_exe()?;
    let lendfile = match &arguments.lendfile {
        Some(lendfile) => lendfile.clone(),
        None => race.with_file_name("lendfile"),
    };
    let mut contestants = contestants::all(&Programs { race, lendfile });
    let names: Vec<String> = contestants.iter().map(|c| c.name().to_owned()).collect();
    for only in &arguments.only {
        if !names.iter().any(|name| name.starts_with(only)) {
            return Err(format!("--only {only}: the contestants are {}", names.join(", ")).into());
        }
    }
    // A whole name means that one; "bare sendfile" is also the beginning of another.
    let wanted = |name: &str| {
        arguments.only.iter().any(|only| {
            if names.contains(only) {
                name == only
            } else {
                name.starts_with(only)
            }
        })
    };
    contestants.retain(|contestant| arguments.only.is_empty() || wanted(contestant.name()));
    Ok(contestants)
}

fn plan(arguments: &Arguments) -> Plan {
    let (rounds, turn) = if arguments.quick {
        (3, Duration::from_millis(500))
    } else {
        (5, Duration::from_secs(2))
    };
    let turn = arguments.seconds.unwrap_or(turn);
    Plan {
        connections: arguments.conns,
        rounds: arguments.rounds.unwrap_or(rounds),
        turn,
        warm_up: turn / 2,
    }
}

fn sizes(arguments: &Arguments) -> Vec<u64> {
    match (&arguments.sizes[..], arguments.quick) {
        ([], true) => vec![1 << 20],
        ([], false) => vec![1 << 20, 1 << 30],
        (sizes, _) => sizes.to_vec(),
    }
}

fn congestion_controls(
    arguments: &Arguments,
    network: &Network,
) -> Result<Vec<String>, lendfile_bench::Error> {
    if !arguments.cc.is_empty() {
        return Ok(arguments.cc.clone());
    }
    if network.is_loopback() {
        return Ok(vec![lendfile_bench::netns::congestion_control()?]);
    }
    let names: &[&str] = if arguments.quick {
        &["cubic"]
    } else {
        &["cubic", "bbr"]
    };
    Ok(names.iter().map(|&name| name.to_owned()).collect())
}

fn parse_length(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "expected a number of bytes, like 4096, 64k, 1m or 2g".to_owned())
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .map_err(|_| "expected seconds, like 2 or 0.5")?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("expected more than no seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_powers_of_1024() {
        assert_eq!(parse_length("64k"), Ok(64 << 10));
        assert_eq!(parse_length("1g"), Ok(1 << 30));
        assert_eq!(parse_length("17"), Ok(17));
        for wrong in ["", "k", "-1", "1.5m", "99999999999g"] {
            assert!(parse_length(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_turn_has_a_positive_length() {
        assert_eq!(parse_seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "-1", "inf", "NaN", "x"] {
            assert!(parse_seconds(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_whole_name_means_that_contestant_and_a_beginning_all_that_have_it() {
        let names = |only: &str| -> Vec<String> {
            let arguments = Arguments::parse_from(["race", "--only", only]);
            let contestants = chosen(&arguments).unwrap();
            contestants.iter().map(|c| c.name().to_owned()).collect()
        };
        assert_eq!(names("bare sendfile"), ["bare sendfile"]);
        assert_eq!(names("lendfile s,nginx"), ["lendfile sendfile", "nginx"]);
        let unknown = Arguments::parse_from(["race", "--only", "apache"]);
        assert!(chosen(&unknown).is_err());
    }
}
