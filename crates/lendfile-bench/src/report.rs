//! A report: tables with the conditions they were measured under, as Markdown, JSON and HTML.

mod html;
mod markdown;
mod plot;
mod verdict;

use std::process::Command;
use std::time::SystemTime;
use std::{env, fs};

use serde::Serialize;
use serde_json::Value;

use crate::client::{Drain, Protocol};
use crate::contest::{Plan, Standings, Temperature};
use crate::dissection::Dissection;
use crate::files::TestFile;

/// Digits kept of a figure in JSON: more than any of them deserves.
const SIGNIFICANT_DIGITS: i32 = 5;

/// Tables and what holds for all of them. Its JSON form is described in `REPORT.md`, beside this
/// crate's manifest.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The version of the JSON form.
    pub schema: u32,
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
    /// What a reader must know that no table says, such as who was left out and why.
    pub notes: Vec<String>,
    /// The tables.
    pub tables: Vec<Table>,
    /// What each way of sending does, if that was looked at.
    pub dissections: Vec<Dissection>,
}

/// One contest under one set of conditions.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Table {
    /// Under which conditions.
    pub conditions: Conditions,
    /// How the contestants did.
    #[serde(flatten)]
    pub standings: Standings,
}

/// What a table was measured under.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Conditions {
    /// The congestion control of both ends.
    pub congestion_control: String,
    /// How many files were asked for in turn.
    pub files: usize,
    /// The length of the largest.
    pub file_bytes: u64,
    /// The length of all of them together.
    pub total_bytes: u64,
    /// Keep-alive connections.
    pub connections: usize,
    /// `http/1.1` or `h2c`.
    pub protocol: &'static str,
    /// What the client did with bodies: `copied` or `discarded`.
    pub bodies: &'static str,
    /// Whether the files were in the page cache.
    pub temperature: Temperature,
    /// Measured rounds.
    pub rounds: usize,
    /// The length of a turn; cold ones end with the last byte instead.
    pub turn_seconds: f64,
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
            schema: 1,
            machine: Machine::this(),
            network: network.into(),
            commit: commit(),
            date: httpdate::fmt_http_date(SystemTime::now()),
            command: command_line(env::args()),
            notes: Vec::new(),
            tables: Vec::new(),
            dissections: Vec::new(),
        }
    }

    /// The report as Markdown.
    pub fn to_markdown(&self) -> String {
        markdown::report(self)
    }

    /// The report as compact JSON, figures rounded to five digits.
    ///
    /// # Panics
    ///
    /// Never: the report holds nothing that JSON cannot.
    pub fn to_json(&self) -> String {
        let mut value = serde_json::to_value(self).expect("plain data is valid JSON");
        round(&mut value);
        value.to_string()
    }

    /// The report as a page that needs nothing but itself: tables, and a plot above each.
    pub fn to_html(&self) -> String {
        html::report(self)
    }

    /// The `index`th table as a picture that needs nothing but itself.
    ///
    /// # Panics
    ///
    /// If there is no such table.
    pub fn to_svg(&self, index: usize) -> String {
        plot::standalone(&self.tables[index])
    }
}

impl Table {
    /// What was measured under `plan` and `congestion_control` with these files.
    pub fn new(
        congestion_control: impl Into<String>,
        targets: &[TestFile],
        plan: &Plan,
        standings: Standings,
    ) -> Self {
        let lengths = || targets.iter().map(|target| target.digest.length);
        Self {
            conditions: Conditions {
                congestion_control: congestion_control.into(),
                files: targets.len(),
                file_bytes: lengths().max().unwrap_or(0),
                total_bytes: lengths().sum(),
                connections: plan.connections,
                protocol: match plan.protocol {
                    Protocol::H2c => "h2c",
                    Protocol::Http1 => "http/1.1",
                },
                bodies: match plan.drain {
                    Drain::Copy => "copied",
                    Drain::Discard => "discarded",
                },
                temperature: plan.temperature,
                rounds: plan.rounds,
                turn_seconds: plan.turn.as_secs_f64(),
            },
            standings,
        }
    }

    /// The table as Markdown, under a heading with its conditions.
    pub fn to_markdown(&self) -> String {
        markdown::table(self)
    }

    /// Who was fastest, and whether the difference to the next is larger than the noise. `None` if
    /// nobody was measured.
    pub fn verdict(&self) -> Option<String> {
        verdict::verdict(self)
    }

    /// Whose cores were shared with other work, if anybody's.
    pub fn disturbances(&self) -> Option<String> {
        markdown::disturbances(self)
    }
}

impl Conditions {
    /// In one line.
    pub fn title(&self) -> String {
        let mut title = match self.files {
            1 => size(self.file_bytes),
            files => format!("{files} files, {} in all", size(self.total_bytes)),
        };
        if self.temperature == Temperature::Cold {
            title += ", cold";
        }
        let connections = match self.connections {
            1 => "1 connection".to_owned(),
            many => format!("{many} connections"),
        };
        title += &format!(", {connections}, {}", self.congestion_control);
        if self.protocol != "http/1.1" {
            title += &format!(", {}", self.protocol);
        }
        if self.bodies != "discarded" {
            title += ", client copies";
        }
        title
    }

    /// How it was measured, in one line.
    pub fn rounds(&self) -> String {
        let rounds = match self.rounds {
            1 => "1 round".to_owned(),
            many => format!("{many} rounds"),
        };
        match self.temperature {
            Temperature::Cold => format!("{rounds}, each file once"),
            Temperature::Warm => format!("{rounds} of {} s", self.turn_seconds),
        }
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

/// A length as a power of 1024, if it is a whole number of them; else rounded to one digit.
pub fn size(bytes: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >> shift == 0 {
            continue;
        }
        if bytes.trailing_zeros() >= shift {
            return format!("{} {unit}", bytes >> shift);
        }
        return format!("{:.1} {unit}", bytes as f64 / (1_u64 << shift) as f64);
    }
    format!("{bytes} B")
}

/// Microseconds, in the unit that people would use.
fn latency(micros: Option<f64>) -> String {
    match micros {
        None => "–".to_owned(),
        Some(micros) if micros < 1e3 => format!("{micros:.0} µs"),
        Some(micros) if micros < 1e5 => format!("{:.1} ms", micros / 1e3),
        Some(micros) => format!("{:.2} s", micros / 1e6),
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn round(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(round),
        Value::Object(fields) => fields.values_mut().for_each(round),
        Value::Number(number) if number.is_f64() => {
            let exact = number.as_f64().unwrap_or(0.0);
            if exact != 0.0 {
                #[expect(clippy::cast_possible_truncation, reason = "a logarithm is small")]
                let magnitude = exact.abs().log10().floor() as i32;
                let scale = 10_f64.powi(SIGNIFICANT_DIGITS - 1 - magnitude);
                *value = Value::from((exact * scale).round() / scale);
            }
        }
        _ => {}
    }
}

fn command_line(arguments: impl Iterator<Item = String>) -> String {
    let mut words: Vec<String> = arguments.collect();
    if let Some(program) = words.first_mut() {
        let name = program.rsplit('/').next().unwrap_or_default().to_owned();
        *program = name;
    }
    let quoted = words.iter().map(|word| {
        if word.contains(' ') {
            format!("'{word}'")
        } else {
            word.clone()
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
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
mod tests;
