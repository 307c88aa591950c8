//! `lendfile bench`: compares the methods and backends on this machine, and on a directory of its
//! user's choice.
//!
//! Servers are children: this command's own `serve`, one thread each. The measuring is
//! [`lendfile_bench`]'s.

mod arguments;
mod show;
mod ways;

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use lendfile_bench::client;
use lendfile_bench::contest::{self, Contestant, Course, Lendfile, Plan, Role, Standing};
use lendfile_bench::contest::{Standings, Temperature};
use lendfile_bench::files::{TestFile, TestFiles};
use lendfile_bench::network::Network;
use lendfile_bench::report::{Report, Table};
use lendfile_bench::{interrupt, netns};

use crate::failure::Failure;
pub(crate) use arguments::Bench;
use show::Bar;
use ways::Way;

/// Tells a second run, inside a user namespace, from the first.
const INSIDE: &str = "LENDFILE_BENCH_INSIDE";

/// The most of a directory's own files that are asked for.
const FILES: usize = 64;

/// As a shell reports whom Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Runs the comparison. Ends with 1 if a way failed or is not to be had, with 130 after Ctrl-C.
pub(crate) fn run(args: &Bench) -> Result<ExitCode, Failure> {
    if args.list {
        return list();
    }
    let refused = if args.loopback {
        Some("as asked for".to_owned())
    } else {
        netns::enter_user_namespace(INSIDE)
    };
    let stop = interrupt::flag().map_err(Failure::new)?;
    let (ways, missing) = ways::chosen(&args.methods, &args.backend);
    for line in &missing {
        warn(line);
    }
    if ways.is_empty() {
        return Err(Failure::new("nothing to compare: see `lendfile probe`"));
    }
    let courses = courses(args)?;
    let network = match refused {
        Some(reason) => Network::loopback(reason),
        None => Network::prepare(),
    }
    .map_err(Failure::new)?;
    let mut report = Report::begin(network.describe());
    report.notes.extend(missing.iter().cloned());
    warn(&report.network);

    let mut complete = missing.is_empty();
    for (files, targets) in &courses {
        let course = Course {
            network: &network,
            files,
            targets,
        };
        for congestion_control in congestion_controls(args, &network)? {
            if let Err(error) = network.set_congestion_control(&congestion_control) {
                warn(&format!("left out: {error}"));
                report.notes.push(format!("left out: {error}"));
                complete = false;
                continue;
            }
            for &connections in &args.conns {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let plan = plan(args, connections);
                let standings = compare(&course, &plan, &ways, &stop)?;
                complete &= standings
                    .rows
                    .iter()
                    .all(|row| matches!(row.result, Standing::Measured(_)));
                let table = Table::new(&*congestion_control, targets, &plan, standings);
                print(&show::table(&table));
                report.tables.push(table);
            }
        }
    }
    write(args.json.as_deref(), || report.to_json())?;
    write(args.html.as_deref(), || report.to_html())?;
    write(args.md.as_deref(), || report.to_markdown())?;
    Ok(if stop.load(Ordering::Relaxed) {
        ExitCode::from(INTERRUPTED)
    } else if complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The ways that there are, one a line, for programs.
fn list() -> Result<ExitCode, Failure> {
    let (ways, _) = ways::chosen(&[], &[]);
    for way in ways {
        print(&format!("{way}\n"));
    }
    Ok(ExitCode::SUCCESS)
}

fn compare(
    course: &Course<'_>,
    plan: &Plan,
    ways: &[Way],
    stop: &AtomicBool,
) -> Result<Standings, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::new(format_args!("this command's own path: {error}")))?;
    // The others are held against the first, which is what one gets without choosing.
    let contestants: Vec<Lendfile> = ways
        .iter()
        .enumerate()
        .map(|(index, way)| {
            let role = if index == 0 { Role::Limit } else { Role::Rival };
            Lendfile::new(&program, &way.method, Some(&way.backend)).with_role(role)
        })
        .collect();
    let contestants: Vec<&dyn Contestant> = contestants.iter().map(|c| c as _).collect();
    let bar = Bar::begin();
    let standings = contest::run(course, plan, &contestants, &[], stop, &mut |progress| {
        bar.show(progress);
    });
    bar.end();
    Ok(standings)
}

/// Directories with the files to ask for in each.
fn courses(args: &Bench) -> Result<Vec<(TestFiles, Vec<TestFile>)>, Failure> {
    let unusable = |dir: &Path, error: lendfile_bench::Error| {
        let cure = "name a directory that can be read, and written for --sizes";
        Failure::new(format_args!(
            "cannot measure in {}: {error}; {cure}",
            dir.display()
        ))
    };
    if let Some(dir) = &args.dir
        && args.sizes.is_empty()
    {
        let files = TestFiles::existing(dir).map_err(Failure::new)?;
        let targets = files.find(FILES).map_err(|error| unusable(dir, error))?;
        if targets.is_empty() {
            return Err(Failure::new(format_args!(
                "cannot measure in {}: no readable file with a plain name; add --sizes to make some",
                dir.display()
            )));
        }
        return Ok(vec![(files, targets)]);
    }
    args.sizes()
        .into_iter()
        .map(|length| {
            let temporary = std::env::temp_dir();
            let dir = args.dir.as_deref().unwrap_or(&temporary);
            let files = TestFiles::inside(dir).map_err(|error| unusable(dir, error))?;
            let target = files.create(length).map_err(|error| unusable(dir, error))?;
            Ok((files, vec![target]))
        })
        .collect()
}

fn plan(args: &Bench, connections: usize) -> Plan {
    let mut plan = Plan::new();
    plan.connections = connections;
    plan.rounds = args.rounds;
    plan.turn = args.seconds;
    plan.warm_up = args.seconds / 2;
    if args.h2 {
        plan.protocol = client::Protocol::H2c;
    }
    if args.cold {
        plan.temperature = Temperature::Cold;
        plan.ticker = true;
    }
    plan
}

fn congestion_controls(args: &Bench, network: &Network) -> Result<Vec<String>, Failure> {
    if !args.cc.is_empty() {
        return Ok(args.cc.clone());
    }
    // An unprivileged user may choose only from net.ipv4.tcp_allowed_congestion_control.
    if network.is_loopback() || network.set_congestion_control("cubic").is_err() {
        let now = netns::congestion_control().map_err(Failure::new)?;
        return Ok(vec![now]);
    }
    Ok(vec!["cubic".to_owned()])
}

fn write(path: Option<&Path>, text: impl FnOnce() -> String) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(()) };
    fs::write(path, text()).map_err(|error| {
        Failure::new(format_args!(
            "cannot write {}: {error}; name a file that can be written",
            path.display()
        ))
    })
}

fn print(text: &str) {
    // A reader that has gone away wants no more.
    _ = io::stdout().write_all(text.as_bytes());
}

fn warn(line: &str) {
    // Nobody is left to tell if standard error is gone.
    _ = writeln!(io::stderr(), "lendfile: {line}");
}
