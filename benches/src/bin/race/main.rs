//! `race`: runs the contests and prints their tables. Its hidden subcommands are contestants.

#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the tables go to standard output, progress to standard error"
)]

mod arguments;
mod compare;
mod profiles;

use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use lendfile_bench::contest::{self, Contestant, Course, Plan, Standing, Temperature};
use lendfile_bench::dissection;
use lendfile_bench::files::{TestFile, TestFiles};
use lendfile_bench::network::Network;
use lendfile_bench::report::{Report, Table};
use lendfile_bench::server::ANNOUNCEMENT;
use lendfile_bench::{client, interrupt, netns};
use lendfile_benches::contestants::{self, Programs};
use lendfile_benches::{bare, rivals};

use arguments::{Apart, Arguments, Files};

/// What all turns of a quick race may take. Its turns are shorter than half a second if there are too
/// many contestants.
const QUICK_TIME: Duration = Duration::from_secs(240);

/// Tells a second run, inside a user namespace, from the first.
const INSIDE: &str = "LENDFILE_RACE_INSIDE";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.contestant {
        Some(Apart::Compare { one, other }) => compare(one, other),
        Some(contestant) => serve(contestant).map(|()| ExitCode::SUCCESS),
        None => race(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn serve(contestant: &Apart) -> Result<(), Box<dyn Error>> {
    let announce = |address: SocketAddr| println!("{ANNOUNCEMENT}{address}");
    match contestant {
        Apart::Actix { at } => rivals::actix::serve(at.listen, &at.directory, announce)?,
        // Not a server.
        Apart::Compare { .. } => {}
        Apart::Bare { at, method } => bare::serve(at.listen, &at.directory, *method, announce)?,
        Apart::Memory { at } => rivals::memory::serve(at.listen, &at.directory, announce)?,
        Apart::Plain { at, method } => {
            rivals::plain::serve(at.listen, &at.directory, *method, announce)?;
        }
        Apart::ServeDir { at } => rivals::serve_dir::serve(at.listen, &at.directory, announce)?,
        Apart::Staticfile { at } => rivals::staticfile::serve(at.listen, &at.directory, announce)?,
    }
    Ok(())
}

fn compare(one: &Path, other: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let found = compare::compare(one, other)?;
    println!(
        "{} ratios within 15 %, {} marked noisy (of these {} within 15 %), {} beyond and unmarked",
        found.agree,
        found.marked + found.agree_though_marked,
        found.agree_though_marked,
        found.unmarked.len(),
    );
    for line in &found.unmarked {
        println!("{line}");
    }
    Ok(if found.unmarked.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn race(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let refused = if arguments.loopback {
        Some("as asked for".to_owned())
    } else {
        netns::enter_user_namespace(INSIDE)
    };
    let stop = interrupt::flag()?;
    let network = match refused {
        Some(reason) => Network::loopback(reason)?,
        None => Network::prepare()?,
    };
    let mut report = Report::begin(network.describe());
    eprintln!("{}", report.network);
    let mut complete = true;
    let runs = match arguments.record {
        None => vec![arguments.clone()],
        Some(profile) => profile.runs(arguments),
    };
    for run in &runs {
        complete &= run_one(run, &network, &stop, &mut report)?;
    }
    write(arguments, &report)?;
    Ok(if complete && !stop.load(Ordering::Relaxed) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs the tables of one command line; false if a contestant failed.
fn run_one(
    arguments: &Arguments,
    network: &Network,
    stop: &AtomicBool,
    report: &mut Report,
) -> Result<bool, Box<dyn Error>> {
    let contestants = chosen(arguments)?;
    let contestants: Vec<&dyn Contestant> = contestants.iter().map(AsRef::as_ref).collect();
    let mut complete = true;
    let congestion_controls = congestion_controls(arguments, network)?;
    let tables =
        arguments.files().len() * arguments.connections().len() * congestion_controls.len();
    for wanted in arguments.files() {
        let files = match &arguments.dir {
            Some(directory) => TestFiles::inside(directory)?,
            None => TestFiles::new()?,
        };
        eprintln!("making {wanted}");
        let targets = make(&files, wanted)?;
        let course = Course {
            network,
            files: &files,
            targets: &targets,
        };
        for connections in arguments.connections() {
            for congestion_control in &congestion_controls {
                if stop.load(Ordering::Relaxed) {
                    return Ok(complete);
                }
                if let Err(error) = network.set_congestion_control(congestion_control) {
                    eprintln!("left out: {error}");
                    report.notes.push(format!("left out: {error}"));
                    complete = false;
                    continue;
                }
                let mut plan = plan(arguments, tables * contestants.len());
                plan.connections = connections;
                if arguments.dissect {
                    dissect(&course, congestion_control, &plan, &contestants, report);
                } else {
                    let race = (&course, &plan, &contestants[..], arguments, stop);
                    complete &= contest(race, congestion_control.clone(), report);
                }
            }
        }
    }
    Ok(complete)
}

fn contest(
    (course, plan, contestants, arguments, stop): (
        &Course<'_>,
        &Plan,
        &[&dyn Contestant],
        &Arguments,
        &AtomicBool,
    ),
    congestion_control: String,
    report: &mut Report,
) -> bool {
    let standings = contest::run(
        course,
        plan,
        contestants,
        &arguments.against,
        stop,
        &mut |progress| {
            eprintln!("{}/{} {}", progress.done + 1, progress.total, progress.what);
        },
    );
    let complete = standings.rows.iter().all(|row| match &row.result {
        Standing::Failed { .. } => false,
        // Asked for by name, it is missed.
        Standing::Skipped { .. } => arguments.only.is_empty(),
        _ => true,
    });
    let table = Table::new(congestion_control, course.targets, plan, standings);
    println!("{}", table.to_markdown());
    report.tables.push(table);
    complete
}

fn dissect(
    course: &Course<'_>,
    congestion_control: &str,
    plan: &Plan,
    contestants: &[&dyn Contestant],
    report: &mut Report,
) {
    let dissection = dissection::run(
        course,
        congestion_control,
        plan,
        contestants,
        &|name| contestants::article(name).map(str::to_owned),
        &mut |name| eprintln!("dissecting {name}"),
    );
    report.dissections.push(dissection);
}

fn make(files: &TestFiles, wanted: Files) -> lendfile_bench::Result<Vec<TestFile>> {
    (0..wanted.count)
        .map(|index| files.create_named(&format!("{index}.bin"), wanted.length))
        .collect()
}

fn write(arguments: &Arguments, report: &Report) -> Result<(), Box<dyn Error>> {
    let mut md = arguments.md.clone();
    let mut json = arguments.json.clone();
    let mut svg = arguments.svg.clone();
    if let Some(profile) = arguments.record {
        // The date is the record's name; nothing else in this program needs a calendar.
        let date = Command::new("date").args(["-u", "+%F"]).output()?.stdout;
        let date = String::from_utf8(date)?;
        let name = format!("benches/record/{}-race-{}", date.trim(), profile.name());
        md = md.or_else(|| Some(format!("{name}.md").into()));
        json = json.or_else(|| Some(format!("{name}.json").into()));
        svg = svg.or_else(|| profile.picture().map(Into::into));
    }
    if report.tables.is_empty() {
        // Dissections are not printed as they come.
        println!("{}", report.to_markdown());
    }
    let outputs = [
        (&md, report.to_markdown()),
        (&json, report.to_json()),
        (&arguments.html, report.to_html()),
    ];
    for (path, text) in outputs {
        if let Some(path) = path {
            fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    if let Some(path) = &svg
        && !report.tables.is_empty()
    {
        fs::write(path, report.to_svg(0))?;
    }
    Ok(())
}

fn chosen(arguments: &Arguments) -> Result<Vec<Box<dyn Contestant>>, Box<dyn Error>> {
    let race = std::env::current_exe()?;
    let lendfile = match &arguments.lendfile {
        Some(lendfile) => lendfile.clone(),
        None => race.with_file_name("lendfile"),
    };
    let ways = contestants::ways(&lendfile);
    let mut contestants = contestants::all(&Programs { race, lendfile }, &ways);
    let names: Vec<String> = contestants.iter().map(|c| c.name().to_owned()).collect();
    for name in arguments.only.iter().chain(&arguments.against) {
        if !arguments.lenient && !names.iter().any(|known| known.starts_with(name)) {
            return Err(format!("{name}: the contestants are {}", names.join(", ")).into());
        }
    }
    // A whole name means that one; "bare sendfile" is also the beginning of another.
    let wanted = |name: &str| {
        let mut only = arguments.only.iter().chain(&arguments.against);
        only.any(|only| {
            if names.contains(only) {
                name == only
            } else {
                name.starts_with(only)
            }
        })
    };
    contestants.retain(|contestant| match arguments.only.is_empty() {
        // Those are for a question of their own.
        true => !contestant.name().starts_with(contestants::OBSERVED),
        false => wanted(contestant.name()),
    });
    Ok(contestants)
}

/// `rows` are those of all tables.
fn plan(arguments: &Arguments, rows: usize) -> Plan {
    let (rounds, turn) = if arguments.quick {
        (3, Duration::from_millis(500))
    } else {
        (5, Duration::from_secs(1))
    };
    let mut plan = Plan::new();
    plan.rounds = arguments.rounds.unwrap_or(rounds);
    // With half a turn to warm up.
    let half_turns = u32::try_from(rows * (2 * plan.rounds + 1)).unwrap_or(u32::MAX);
    let turn = match arguments.quick {
        true => turn.min(QUICK_TIME * 2 / half_turns.max(1)),
        false => turn,
    };
    let turn = arguments.seconds.unwrap_or(turn);
    plan.turn = turn;
    plan.warm_up = turn / 2;
    if arguments.h2 {
        plan.protocol = client::Protocol::H2c;
    }
    if arguments.copy {
        plan.drain = client::Drain::Copy;
    }
    if arguments.cold {
        plan.temperature = Temperature::Cold;
    }
    plan.ticker = arguments.ticker || arguments.cold;
    plan
}

fn congestion_controls(
    arguments: &Arguments,
    network: &Network,
) -> Result<Vec<String>, lendfile_bench::Error> {
    if !arguments.cc.is_empty() {
        return Ok(arguments.cc.clone());
    }
    if network.is_loopback() {
        return Ok(vec![netns::congestion_control()?]);
    }
    Ok(["cubic", "bbr"].map(str::to_owned).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_race_is_over_in_time_however_many_take_part() {
        let quick = Arguments::parse_from(["race", "--quick"]);
        let time = |rows: u32| {
            let plan = plan(&quick, rows as usize);
            let rounds = u32::try_from(plan.rounds).unwrap();
            (plan.turn, (plan.turn * rounds + plan.warm_up) * rows)
        };
        // Two lengths, two congestion controls.
        assert_eq!(time(4 * 28).0, Duration::from_millis(500));
        for rows in [4 * 28, 1000, 100_000] {
            assert!(time(rows).1 <= QUICK_TIME, "{rows} rows");
        }
        assert!(time(1000).1 > QUICK_TIME * 9 / 10);
    }

    #[test]
    fn a_whole_name_means_that_contestant_and_a_beginning_all_that_have_it() {
        let names = |only: &str| -> Vec<String> {
            let arguments = Arguments::parse_from(["race", "--only", only]);
            let contestants = chosen(&arguments).unwrap();
            contestants.iter().map(|c| c.name().to_owned()).collect()
        };
        assert_eq!(names("bare sendfile"), ["bare sendfile"]);
        assert_eq!(names("bare m,nginx"), ["bare mmap", "bare memory", "nginx"]);
        let unknown = Arguments::parse_from(["race", "--only", "apache"]);
        assert!(chosen(&unknown).is_err());
    }
}
