//! A report: tables with the conditions they were measured under, as Markdown and as JSON.

use std::fmt::{self, Write};
use std::fs;
use std::process::Command;
use std::time::SystemTime;

use serde::Serialize;

use crate::contest::{Figures, Plan, Role, Row, Standing};
use crate::rounds::Ratio;

/// The share of a core taken by other work from which on a table says so. An idle machine's own
/// housekeeping and the network's interrupts stay below it.
const DISTURBED: f64 = 0.05;

/// Tables and what holds for all of them.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// How client and server were joined: [`crate::network::Network::describe`].
    pub network: String,
    /// The commit of the checkout the command ran in, with `+changes` if it was not clean.
    pub commit: Option<String>,
    /// When, as an HTTP date.
    pub date: String,
    /// The command line, without the program's directory.
    pub command: String,
    /// The tables.
    pub tables: Vec<Table>,
}

/// One contest under one congestion control.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// The congestion control of both ends.
    pub congestion_control: String,
    /// The file's length.
    pub file_bytes: u64,
    /// How long, how wide, how often.
    pub plan: Plan,
    /// A line for each contestant.
    pub rows: Vec<Row>,
}

/// The machine.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Machine {
    /// The processor's model.
    pub processor: String,
    /// Cores this process may use.
    pub cores: usize,
    /// The kernel's release.
    pub kernel: String,
    /// Memory in bytes.
    pub memory_bytes: u64,
}

impl Report {
    /// An empty report of this machine, checkout and command line, now.
    pub fn begin(network: impl Into<String>) -> Self {
        Self {
            machine: Machine::this(),
            network: network.into(),
            commit: commit(),
            date: httpdate::fmt_http_date(SystemTime::now()),
            command: command_line(std::env::args()),
            tables: Vec::new(),
        }
    }

    /// The report as Markdown.
    pub fn to_markdown(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_markdown(&mut text);
        text
    }

    /// The report as indented JSON.
    ///
    /// # Panics
    ///
    /// Never: the report holds nothing that JSON cannot.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data is valid JSON")
    }

    fn write_markdown(&self, out: &mut String) -> fmt::Result {
        let machine = &self.machine;
        writeln!(
            out,
            "- machine: {}, {} cores, {:.0} GiB, Linux {}",
            machine.processor,
            machine.cores,
            gib(machine.memory_bytes),
            machine.kernel,
        )?;
        writeln!(out, "- network: {}", self.network)?;
        let commit = self.commit.as_deref().unwrap_or("unknown");
        writeln!(out, "- commit: {commit}, {}", self.date)?;
        writeln!(out, "- command: `{}`", self.command)?;
        for table in &self.tables {
            write!(out, "\n{}", table.to_markdown())?;
        }
        Ok(())
    }
}

impl Table {
    /// The table as Markdown, under a heading with its conditions.
    pub fn to_markdown(&self) -> String {
        let mut text = String::new();
        let _ = self.write_markdown(&mut text);
        text
    }

    fn write_markdown(&self, out: &mut String) -> fmt::Result {
        writeln!(
            out,
            "### {}, {} connections, {}, {} rounds of {} s\n",
            size(self.file_bytes),
            self.plan.connections,
            self.congestion_control,
            self.plan.rounds,
            self.plan.turn.as_secs_f64(),
        )?;
        writeln!(
            out,
            "| | GB/s | requests/s | CPU s/GiB | switches/GiB | p50 | p99 | peak MiB \
             | GB/s ÷ limit (min–max) | CPU ÷ limit (min–max) |"
        )?;
        writeln!(out, "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")?;
        for row in &self.rows {
            let name = match row.role {
                Role::Limit => format!("*{}*", row.name),
                Role::Rival => row.name.clone(),
            };
            match &row.result {
                Standing::Failed { reason } => {
                    writeln!(out, "| {name} | **failed**: {} |", cell(reason))?;
                }
                Standing::Measured(figures) => write_figures(out, &name, figures)?,
                Standing::Skipped { reason } => {
                    writeln!(out, "| {name} | skipped: {} |", cell(reason))?;
                }
            }
        }
        self.write_disturbances(out)
    }

    fn write_disturbances(&self, out: &mut String) -> fmt::Result {
        let disturbed: Vec<String> = self
            .rows
            .iter()
            .filter_map(|row| match &row.result {
                Standing::Measured(figures) => Some((&row.name, figures.disturbance)),
                _ => None,
            })
            .filter(|(_, share)| share.client.max(share.server) >= DISTURBED)
            .map(|(name, share)| {
                format!(
                    "{name} {:.0} % and {:.0} %",
                    share.client * 100.0,
                    share.server * 100.0
                )
            })
            .collect();
        if disturbed.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "\nDisturbed: other work took these shares of the client's and the server's core: {}.",
            disturbed.join("; ")
        )
    }
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let value = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim_start_matches([' ', '\t', ':']).to_owned())
        };
        let memory_kib = value("/proc/meminfo", "MemTotal")
            .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
        Self {
            processor: value("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: value("/proc/sys/kernel/osrelease", "").unwrap_or_else(|| "unknown".to_owned()),
            memory_bytes: memory_kib.unwrap_or(0) << 10,
        }
    }
}

fn write_figures(out: &mut String, name: &str, figures: &Figures) -> fmt::Result {
    writeln!(
        out,
        "| {name} | {:.2} | {} | {:.3} | {:.0} | {} | {} | {:.0} | {} | {} |",
        figures.gigabytes_per_second,
        if figures.requests_per_second < 100.0 {
            format!("{:.1}", figures.requests_per_second)
        } else {
            format!("{:.0}", figures.requests_per_second)
        },
        figures.processor_seconds_per_gib,
        figures.switches_per_gib,
        latency(figures.latency_median_micros),
        latency(figures.latency_p99_micros),
        figures.peak_resident_bytes as f64 / f64::from(1 << 20),
        ratio(figures.speed_to_limit),
        ratio(figures.processor_to_limit),
    )
}

fn ratio(ratio: Option<Ratio>) -> String {
    ratio.map_or_else(
        || "–".to_owned(),
        |ratio| format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.min, ratio.max),
    )
}

fn latency(micros: Option<f64>) -> String {
    match micros {
        None => "–".to_owned(),
        Some(micros) if micros < 1e3 => format!("{micros:.0} µs"),
        Some(micros) if micros < 1e5 => format!("{:.1} ms", micros / 1e3),
        Some(micros) => format!("{:.2} s", micros / 1e6),
    }
}

/// A length as a power of 1024, if it is a whole number of them.
fn size(bytes: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >> shift > 0 && bytes.trailing_zeros() >= shift {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} B")
}

/// Text that stays in its cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / (1_u64 << 30) as f64
}

fn command_line(arguments: impl Iterator<Item = String>) -> String {
    let mut words: Vec<String> = arguments.collect();
    if let Some(program) = words.first_mut() {
        let name = program.rsplit('/').next().unwrap_or_default().to_owned();
        *program = name;
    }
    words.join(" ")
}

fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    // Without taking the index lock: someone may be working in the checkout.
    let changes = git(&["--no-optional-locks", "status", "--porcelain"])?;
    Some(if changes.is_empty() {
        commit
    } else {
        format!("{commit}+changes")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_failed_contestant_keeps_its_line_and_its_cell() {
        let table = Table {
            congestion_control: "cubic".to_owned(),
            file_bytes: 1 << 20,
            plan: Plan {
                connections: 8,
                rounds: 5,
                turn: Duration::from_millis(500),
                warm_up: Duration::ZERO,
            },
            rows: vec![Row {
                name: "nobody".to_owned(),
                role: Role::Rival,
                result: Standing::Failed {
                    reason: "a|b\nc".to_owned(),
                },
            }],
        };
        let text = table.to_markdown();
        assert!(text.starts_with("### 1 MiB, 8 connections, cubic, 5 rounds of 0.5 s\n"));
        assert!(
            text.ends_with("| nobody | **failed**: a\\|b c |\n"),
            "{text}"
        );
    }

    #[test]
    fn lengths_are_named_exactly() {
        assert_eq!(size(1 << 30), "1 GiB");
        assert_eq!(size(3 << 20), "3 MiB");
        assert_eq!(size((1 << 20) + 1), "1048577 B");
        assert_eq!(size(0), "0 B");
    }

    #[test]
    fn the_command_line_does_not_name_the_programs_directory() {
        let arguments = ["/somewhere/target/race", "--quick"].map(str::to_owned);
        assert_eq!(command_line(arguments.into_iter()), "race --quick");
    }

    #[test]
    fn the_machine_has_a_kernel_and_memory() {
        let machine = Machine::this();
        assert!(
            machine.kernel.contains('.') && machine.memory_bytes > 0,
            "{machine:?}"
        );
    }
}
