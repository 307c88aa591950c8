//! `crowd`: what `lendfile serve` promises about many clients, hostile ones and long runs.
//!
//! ```console
//! $ cargo build --release -p lendfile-cli -p lendfile-benches
//! $ target/release/crowd attack
//! ```
//!
//! Not a race: there is nobody to compare with. Each subcommand starts the server, prints what it saw
//! as Markdown, and ends with 1 if a bound is broken. Everything happens on loopback.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "the figures go to standard output")]

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use lendfile_bench::crowd::{self, Attack, Crowd, Holdings, Kind, Program, Sixth};
use lendfile_bench::report::Report;

/// How long a probe may wait for its answer while others attack.
const PROBE_BOUND: Duration = Duration::from_millis(100);

/// Private memory that an idle connection may take.
const IDLE_BYTES: u64 = 12 << 10;

/// Private memory that a stalled reader may take.
const STALLED_BYTES: u64 = 16 << 10;

/// What a clock may be late by: a quarter of it, an attacker's turn, and a busy machine.
const LATE: Duration = Duration::from_secs(2);

/// What memory may differ by before it counts as grown: noise of the allocator, beside the tenth.
const MEMORY_NOISE: u64 = 256 << 10;

/// From SIGKILL to the next server's first answer.
const RESTART_BOUND: Duration = Duration::from_secs(1);

#[derive(Debug, Parser)]
#[command(about = "What many clients cost lendfile serve, and what hostile ones can do to it")]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// The server; otherwise the one beside this program
    #[arg(long, global = true, value_name = "PATH")]
    lendfile: Option<PathBuf>,
    /// An argument for it, such as --option=--method=splice. Repeatable
    #[arg(
        long,
        global = true,
        value_name = "ARGUMENT",
        allow_hyphen_values = true
    )]
    option: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Slow heads, slow bodies, slow readers and hostile ranges, while a probe asks for a file
    Attack {
        /// Connections of each kind at a time
        #[arg(long, default_value_t = 1000)]
        each: usize,
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Seconds within which they arrive; half a second at least
        #[arg(long, default_value_t = 2)]
        arrival: u64,
        /// The server's header, idle and progress timeouts, in seconds
        #[arg(long, default_value_t = 5)]
        clock: u64,
    },
    /// Connections that rest, then readers that stall
    Many {
        #[arg(long, default_value_t = 10_000)]
        connections: usize,
    },
    /// SIGKILL in the middle of transfers; the next server on the same port
    Restart {
        #[arg(long, default_value_t = 10)]
        times: usize,
    },
    /// Aborts, reloads and replaced files, every byte checked
    Soak {
        #[arg(long, default_value_t = 600)]
        seconds: u64,
    },
    /// Mixed lengths and connections, in turn with a server just started: is the last sixth as fast
    /// as the first?
    Steady {
        #[arg(long, default_value_t = 180)]
        seconds: u64,
    },
}

/// One of the things that a process holds.
type Figure = fn(&Holdings) -> u64;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let path = match arguments.lendfile {
        Some(path) => path,
        None => env::current_exe()?.with_file_name("lendfile"),
    };
    let program = Program::new(path).with(arguments.option);
    let mut verdict = Verdict { kept: true };
    head();
    match arguments.what {
        What::Attack {
            each,
            seconds,
            arrival,
            clock,
        } => {
            let [time, arrival, clock] = [seconds, arrival, clock].map(Duration::from_secs);
            let attack = Attack {
                each,
                time,
                arrival,
                clock,
            };
            assault(&program, &attack, &mut verdict)?;
        }
        What::Many { connections } => many(&program, connections, &mut verdict)?,
        What::Restart { times } => restart(&program, times, &mut verdict)?,
        What::Soak { seconds } => soak(&program, seconds, &mut verdict)?,
        What::Steady { seconds } => steady(&program, seconds, &mut verdict)?,
    }
    Ok(match verdict.kept {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Under which conditions.
fn head() {
    let report = Report::begin("loopback");
    let machine = report.machine;
    println!("## `{}`\n", report.command);
    println!(
        "{}, {} cores, Linux {}; loopback; commit {}; {}; {} build\n",
        machine.processor,
        machine.cores,
        machine.kernel,
        report.commit.as_deref().unwrap_or("unknown"),
        report.date,
        if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
    );
}

/// Whether all bounds have been kept.
struct Verdict {
    kept: bool,
}

impl Verdict {
    /// A line of a list, with its bound.
    fn line(&mut self, kept: bool, text: impl AsRef<str>) {
        self.kept &= kept;
        let mark = if kept { "" } else { "**broken:** " };
        println!("- {mark}{}", text.as_ref());
    }
}

fn assault(program: &Program, attack: &Attack, verdict: &mut Verdict) -> Result<()> {
    let Attack { each, clock, .. } = *attack;
    let assault = crowd::attack(program, attack)?;
    println!("| {each} at a time | begun | ended by the server | youngest | oldest |");
    println!("|---|--:|--:|--:|--:|");
    for (kind, ends) in Kind::ALL.into_iter().zip(&assault.ends) {
        let time = |time: Option<Duration>| time.map_or("–".to_owned(), seconds_of);
        println!(
            "| {} | {} | {} | {} | {} |",
            kind.name(),
            ends.begun,
            ends.ended,
            time(ends.soonest),
            time(ends.latest),
        );
    }
    println!();
    let probes = &assault.probes;
    let worst = probes.quantile(1.0).unwrap_or(Duration::MAX);
    let quantile = |share| probes.quantile(share).map_or("–".to_owned(), millis);
    verdict.line(
        worst <= PROBE_BOUND && probes.failed == 0,
        format!(
            "{} probes: median {}, p99 {}, p99.9 {}, worst {} at {} (bound {}), {} unanswered",
            probes.waits.len(),
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
            millis(worst),
            seconds_of(probes.worst_at),
            millis(PROBE_BOUND),
            probes.failed,
        ),
    );
    if !probes.first {
        println!(
            "- the probes had to wait for the crowd's turns, too: only root may put them first"
        );
    }
    let refused: u64 = assault.ends.iter().map(|ends| ends.refused).sum();
    verdict.line(refused == 0, format!("{refused} connections refused"));
    let latest_bound = clock + clock / 4 + LATE;
    for kind in [Kind::SlowHead, Kind::SlowReader] {
        let ends = assault.ends[kind as usize];
        // The silent reader's end is known when it sends again, which is later by half a clock.
        let late = match kind {
            Kind::SlowReader => clock / 4 + LATE,
            _ => Duration::ZERO,
        };
        let kept = ends.ended >= each as u64
            && ends.soonest.is_some_and(|soonest| soonest >= clock)
            && ends
                .latest
                .is_some_and(|latest| latest <= latest_bound + late);
        verdict.line(
            kept,
            format!(
                "{}: none cut before {}, none later than {}",
                kind.name(),
                seconds_of(clock),
                seconds_of(latest_bound + late),
            ),
        );
    }
    verdict.line(
        assault
            .rid_of_all_after
            .is_some_and(|after| after <= latest_bound),
        match assault.rid_of_all_after {
            Some(after) => format!(
                "rid of the last {} after their last move (bound {})",
                seconds_of(after),
                seconds_of(latest_bound)
            ),
            None => "never rid of them all".to_owned(),
        },
    );
    let [before, most, after] = [assault.before, assault.most, assault.after];
    verdict.line(
        after.resident_bytes <= before.resident_bytes + before.resident_bytes / 10,
        format!(
            "resident memory {} before, {} at most, {} after (bound: a tenth more)",
            kib(before.resident_bytes),
            kib(most.resident_bytes),
            kib(after.resident_bytes)
        ),
    );
    verdict.line(
        after.mappings <= before.mappings + 16 && after.threads <= before.threads,
        format!(
            "descriptors {} / {} / {}, mappings {} / {} / {}, threads {} / {} / {}",
            before.descriptors,
            most.descriptors,
            after.descriptors,
            before.mappings,
            most.mappings,
            after.mappings,
            before.threads,
            most.threads,
            after.threads
        ),
    );
    Ok(())
}

fn many(program: &Program, connections: usize, verdict: &mut Verdict) -> Result<()> {
    let splice = program.clone().with(["--method", "splice"]);
    println!(
        "| {connections} connections | private memory each | bound | TCP memory each, both ends | pipes | \
         threads | mappings | private memory before, after |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    let idle = crowd::idle(program, connections)?;
    row("idle", &idle, IDLE_BYTES);
    let stalled = crowd::stalled(program, connections)?;
    row("stalled", &stalled, STALLED_BYTES);
    let spliced = crowd::stalled(&splice, connections)?;
    row("stalled, splice", &spliced, STALLED_BYTES);
    println!();
    for (what, crowd, bound) in [
        ("idle", idle, IDLE_BYTES),
        ("stalled", stalled, STALLED_BYTES),
        ("stalled, splice", spliced, STALLED_BYTES),
    ] {
        let held = crowd.during.pipes <= crowd.before.pipes
            && crowd.during.threads <= crowd.before.threads;
        verdict.line(
            crowd.private_bytes_each() <= bound && held,
            format!("{what}: within the bound, no pipe, no thread"),
        );
        let (before, after) = (crowd.before.private_bytes, crowd.after.private_bytes);
        verdict.line(
            after <= before + before / 10 + MEMORY_NOISE,
            format!(
                "{what}: private memory {} before, {} after",
                kib(before),
                kib(after)
            ),
        );
        // The pool may have filled up to its bound meanwhile.
        let others = |held: &Holdings| held.descriptors - held.pipes;
        let [before, during, after] = [&crowd.before, &crowd.during, &crowd.after];
        verdict.line(
            others(after) <= others(before),
            format!(
                "{what}: descriptors but for pipes {} before, {} with all, {} after; ends of pipes {}, {}, {}",
                others(before),
                others(during),
                others(after),
                before.pipes,
                during.pipes,
                after.pipes,
            ),
        );
    }
    Ok(())
}

fn row(what: &str, crowd: &Crowd, bound: u64) {
    println!(
        "| {what} | {} | {} | {} | {} | {} | {} | {}, {} |",
        kib(crowd.private_bytes_each()),
        kib(bound),
        kib(crowd.tcp_bytes_each()),
        crowd.during.pipes,
        crowd.during.threads,
        crowd.during.mappings,
        kib(crowd.before.private_bytes),
        kib(crowd.after.private_bytes),
    );
}

fn restart(program: &Program, times: usize, verdict: &mut Verdict) -> Result<()> {
    let restarts = crowd::restart(program, times)?;
    let worst = restarts.until_answered.iter().max();
    let worst = worst.copied().unwrap_or(Duration::MAX);
    verdict.line(
        worst <= RESTART_BOUND,
        format!(
            "killed {times} times, {} transfers cut and seen to be incomplete; each time the next \
             server had its port at the first attempt and answered within {} (bound {})",
            restarts.cut,
            millis(worst),
            millis(RESTART_BOUND)
        ),
    );
    Ok(())
}

fn soak(program: &Program, seconds: u64, verdict: &mut Verdict) -> Result<()> {
    let soaked = crowd::soak(program, Duration::from_secs(seconds))?;
    println!("| | first third | last third | at rest, after a tenth | at rest, at the end |");
    println!("|---|--:|--:|--:|--:|");
    let figures: [(&str, Figure); 4] = [
        ("resident KiB", |held| held.resident_bytes >> 10),
        ("private KiB", |held| held.private_bytes >> 10),
        ("descriptors", |held| held.descriptors as u64),
        ("mappings", |held| held.mappings as u64),
    ];
    let mut broken = Vec::new();
    for (name, figure) in figures {
        let [first, last] = soaked.thirds(figure).ok_or("too short for a sample")?;
        let [early, end] = soaked.at_rest.map(|held| figure(&held));
        println!("| {name} | {first} | {last} | {early} | {end} |");
        let slack = match name {
            "descriptors" | "mappings" => 4,
            _ => MEMORY_NOISE >> 10,
        };
        // While clients come and go, how many are there at a moment varies.
        let flat = last <= first + first / 10 + slack * 4;
        let rested = match name {
            "descriptors" | "mappings" => end <= early + slack,
            _ => end <= early + early / 10 + slack,
        };
        if !flat || !rested {
            broken.push(name);
        }
    }
    println!();
    verdict.line(
        broken.is_empty(),
        match broken.as_slice() {
            [] => format!(
                "nothing grew in {seconds} s, {} samples",
                soaked.under_way.len()
            ),
            names => format!("grew in {seconds} s: {}", names.join(", ")),
        },
    );
    verdict.line(
        soaked.wrong == 0 && soaked.responses > 0,
        format!(
            "{} responses checked byte by byte, {} left in the middle, {} wrong; every file replaced \
             and the server reloaded {} times",
            soaked.responses, soaked.aborted, soaked.wrong, soaked.reloads
        ),
    );
    for complaint in soaked.complaints {
        println!("  - {complaint}");
    }
    Ok(())
}

fn steady(program: &Program, seconds: u64, verdict: &mut Verdict) -> Result<()> {
    let steady = crowd::steady(program, Duration::from_secs(seconds))?;
    println!(
        "| sixth | GB/s | of one just started | CPU s/GiB | of one just started | resident | descriptors | \
         mappings |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|");
    for (index, sixth) in steady.sixths.iter().enumerate() {
        let (old, fresh, held) = (sixth.old, sixth.fresh, sixth.holdings);
        println!(
            "| {} | {:.3} | {:.3} | {:.3} | {:.3} | {} | {} | {} |",
            index + 1,
            old.bytes_per_second / 1e9,
            fresh.bytes_per_second / 1e9,
            old.processor_per_gib,
            fresh.processor_per_gib,
            kib(held.resident_bytes),
            held.descriptors,
            held.mappings
        );
    }
    println!();
    let Some((last, first)) = steady.last_and_first() else {
        return Err("no sixth was measured".into());
    };
    verdict.line(
        last >= 0.95 * first,
        format!(
            "by the throughput of one just started: first {first:.3}, last {last:.3}, last / first {:.3} \
             (bound 0.95)",
            last / first
        ),
    );
    let memory = |sixth: Option<&Sixth>| sixth.map_or(0, |sixth| sixth.holdings.resident_bytes);
    let (first, last) = (memory(steady.sixths.first()), memory(steady.sixths.last()));
    verdict.line(
        last <= first + first / 20 + MEMORY_NOISE,
        format!("resident memory {} and {}", kib(first), kib(last)),
    );
    verdict.line(
        steady.wrong == 0,
        format!("{} responses, {} wrong", steady.responses, steady.wrong),
    );
    for complaint in steady.complaints {
        println!("  - {complaint}");
    }
    Ok(())
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn seconds_of(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn kib(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
    let kib = bytes as f64 / 1024.0;
    format!("{kib:.1} KiB")
}
