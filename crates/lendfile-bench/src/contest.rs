//! A contest: every contestant serves the same file, one after the other, round by round.
//!
//! All servers are started and checked first, then they take turns; those that wait are idle. A
//! contestant that fails leaves the contest with its reason, and the others go on.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::client::{self, Load, Outcome};
use crate::files::{TestFile, TestFiles};
use crate::network::Network;
use crate::process::{Snapshot, Usage};
use crate::rounds::{self, Ratio, Turn};
use crate::server::{Address, Server};
use crate::{Error, Result};

const GIB: f64 = (1_u64 << 30) as f64;

/// A server that can take part.
pub trait Contestant {
    /// Its name in tables and on the command line.
    fn name(&self) -> &str;

    /// Whether it sets the limit or is held against it.
    fn role(&self) -> Role {
        Role::Rival
    }

    /// How to start it.
    ///
    /// # Errors
    ///
    /// [`crate::Kind::Unavailable`] if it is not installed: it is then left out, not failed.
    fn launch(&self, site: &Site<'_>) -> Result<Launch>;
}

/// What a contestant is there for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// In each round the fastest of these is what the others are divided by.
    Limit,
    /// A server to compare.
    Rival,
}

/// What a contestant is to serve, and where.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Site<'a> {
    /// The directory to serve.
    pub directory: &'a Path,
    /// The file in it that will be asked for, as `/file_name`.
    pub file_name: &'a str,
    /// A directory for configuration and the like, the contestant's own.
    pub scratch: &'a Path,
    /// The address to listen on with any port, for those that announce it.
    pub any_port: SocketAddr,
    /// The address to listen on with a free port, for those that do not.
    pub free_port: SocketAddr,
}

/// How a contestant is started.
#[derive(Debug)]
pub struct Launch {
    /// The command; its input and output are set by the contest.
    pub command: Command,
    /// How its address is learnt.
    pub address: Address,
}

/// How long, how wide, how often.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Plan {
    /// Keep-alive connections, one request at a time on each.
    pub connections: usize,
    /// Measured rounds.
    pub rounds: usize,
    /// The length of a contestant's turn.
    pub turn: Duration,
    /// The length of the turn before the first round.
    pub warm_up: Duration,
}

/// A contestant's line in the table.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Row {
    /// The contestant's name.
    pub name: String,
    /// What it is there for.
    pub role: Role,
    /// How it did.
    pub result: Standing,
}

/// How a contestant did.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Standing {
    /// It answered wrongly, ended or could not be started.
    Failed {
        /// Why.
        reason: String,
    },
    /// It finished.
    Measured(Box<Figures>),
    /// It is not to be had here.
    Skipped {
        /// What would help.
        reason: String,
    },
}

/// A contestant's figures: medians over the rounds, latencies over all of them.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Figures {
    /// Body bytes per second, in 10^9.
    pub gigabytes_per_second: f64,
    /// Complete answers per second.
    pub requests_per_second: f64,
    /// The server's processor seconds per GiB of body.
    pub processor_seconds_per_gib: f64,
    /// The server's context switches, voluntary and not, per GiB of body.
    pub switches_per_gib: f64,
    /// The median latency in microseconds, if any request was completed.
    pub latency_median_micros: Option<f64>,
    /// The 99th percentile of latency in microseconds.
    pub latency_p99_micros: Option<f64>,
    /// The server's largest resident memory.
    pub peak_resident_bytes: u64,
    /// Throughput divided by the limit's of the same round.
    pub speed_to_limit: Option<Ratio>,
    /// Processor time per GiB divided by the limit's of the same round.
    pub processor_to_limit: Option<Ratio>,
    /// What each round brought.
    pub rounds: Vec<Round>,
}

/// What one turn brought.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct Round {
    /// Body bytes.
    pub bytes: u64,
    /// Complete answers.
    pub requests: u64,
    /// The turn's length in seconds.
    pub seconds: f64,
    /// What the server used.
    pub usage: Usage,
}

impl Round {
    fn gigabytes_per_second(&self) -> f64 {
        self.bytes as f64 / 1e9 / self.seconds
    }

    fn requests_per_second(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    fn processor_seconds_per_gib(&self) -> f64 {
        self.usage.processor().as_secs_f64() / self.gib()
    }

    fn switches_per_gib(&self) -> f64 {
        self.usage.switches() as f64 / self.gib()
    }

    /// At least a byte, so that dividing by it gives a number.
    fn gib(&self) -> f64 {
        self.bytes.max(1) as f64 / GIB
    }
}

/// What one turn brought, with its latencies.
struct Sample {
    round: Round,
    latency: Histogram<u64>,
}

impl Sample {
    fn new(outcome: Outcome, usage: Usage) -> Self {
        Self {
            round: Round {
                bytes: outcome.bytes,
                requests: outcome.requests,
                seconds: outcome.elapsed.as_secs_f64(),
                usage,
            },
            latency: outcome.latency,
        }
    }
}

/// Lets `contestants` serve `file` to one client and returns a row for each, in order.
///
/// `progress` is told what is being done.
pub fn run(
    network: &Network,
    files: &TestFiles,
    file: &TestFile,
    plan: &Plan,
    contestants: &[&dyn Contestant],
    progress: &mut dyn FnMut(&str),
) -> Vec<Row> {
    let mut servers: Vec<Result<Server>> = contestants
        .iter()
        .enumerate()
        .map(|(index, contestant)| {
            progress(&format!("starting {}", contestant.name()));
            start(network, files, file, *contestant, index)
        })
        .collect();
    let results = rounds::interleave(contestants.len(), plan.rounds, |index, turn| {
        match turn {
            Turn::WarmUp => progress(&format!("warming up {}", contestants[index].name())),
            Turn::Round(round) if index == 0 => {
                progress(&format!("round {} of {}", round + 1, plan.rounds));
            }
            Turn::Round(_) => {}
        }
        let server = match &mut servers[index] {
            Ok(server) => server,
            // Taken once: a contestant whose warm-up fails has no further turn.
            failed @ Err(_) => {
                let taken = std::mem::replace(failed, Err(Error::unavailable("not running")));
                return Err(taken.expect_err("matched as an error"));
            }
        };
        take_turn(network, file, plan, server, turn)
    });
    rows(contestants, results)
}

fn start(
    network: &Network,
    files: &TestFiles,
    file: &TestFile,
    contestant: &dyn Contestant,
    index: usize,
) -> Result<Server> {
    let scratch = files.directory().join(format!(".contestant-{index}"));
    std::fs::create_dir_all(&scratch)
        .map_err(|error| Error::system("making a contestant's directory", error))?;
    let site = Site {
        directory: files.directory(),
        file_name: &file.name,
        scratch: &scratch,
        any_port: SocketAddr::new(network.server_ip(), 0),
        free_port: network.free_address()?,
    };
    let Launch {
        mut command,
        address,
    } = contestant.launch(&site)?;
    let client = network.client_place();
    let server = Server::start(&network.server_place(), &client, &mut command, address)?;
    let path = format!("/{}", file.name);
    let digest = client.run(|| client::fetch_digest(server.address(), &path))??;
    if digest != file.digest {
        return Err(Error::disqualified(format!(
            "{} bytes with the wrong SHA-256, or not {} bytes",
            digest.length, file.digest.length
        )));
    }
    Ok(server)
}

fn take_turn(
    network: &Network,
    file: &TestFile,
    plan: &Plan,
    server: &mut Server,
    turn: Turn,
) -> Result<Sample> {
    let mut load = Load::new(
        server.address(),
        format!("/{}", file.name),
        file.digest.length,
    );
    load.connections = plan.connections;
    load.duration = match turn {
        Turn::WarmUp => plan.warm_up,
        Turn::Round(_) => plan.turn,
    };
    let measured: Result<_> = (|| {
        let before = Snapshot::of(server.pid())?;
        let outcome = network.client_place().run(|| client::drain(&load))??;
        let usage = Snapshot::of(server.pid())?.since(&before);
        Ok((outcome, usage))
    })();
    match measured {
        Ok((outcome, usage)) => Ok(Sample::new(outcome, usage)),
        Err(error) => Err(Error::disqualified(format!(
            "{error}{}",
            server.last_words()
        ))),
    }
}

fn rows(contestants: &[&dyn Contestant], results: Vec<Result<Vec<Sample>>>) -> Vec<Row> {
    let limit = {
        let limits: Vec<Vec<Round>> = contestants
            .iter()
            .zip(&results)
            .filter(|(contestant, _)| contestant.role() == Role::Limit)
            .filter_map(|(_, result)| result.as_ref().ok())
            .map(|series| series.iter().map(|sample| sample.round).collect())
            .collect();
        limit_of_each_round(&limits)
    };
    contestants
        .iter()
        .zip(results)
        .map(|(contestant, result)| Row {
            name: contestant.name().to_owned(),
            role: contestant.role(),
            result: match result {
                Ok(series) => Standing::Measured(Box::new(figures(series, &limit))),
                Err(error) if error.is_unavailable() => Standing::Skipped {
                    reason: error.to_string(),
                },
                Err(error) => Standing::Failed {
                    reason: error.to_string(),
                },
            },
        })
        .collect()
}

/// In each round, the fastest of the limits.
fn limit_of_each_round(limits: &[Vec<Round>]) -> Vec<Round> {
    let speeds: Vec<Vec<f64>> = limits
        .iter()
        .map(|series| each(series, Round::gigabytes_per_second))
        .collect();
    let speeds: Vec<&[f64]> = speeds.iter().map(Vec::as_slice).collect();
    rounds::best_of_each_round(&speeds)
        .into_iter()
        .enumerate()
        .map(|(round, best)| limits[best][round])
        .collect()
}

fn figures(series: Vec<Sample>, limit: &[Round]) -> Figures {
    let mut latency = client::empty_latency();
    let mut rounds = Vec::with_capacity(series.len());
    for sample in series {
        // Both have the same bounds, so adding cannot fail.
        let _ = latency.add(sample.latency);
        rounds.push(sample.round);
    }
    let median = |figure: fn(&Round) -> f64| rounds::median(&each(&rounds, figure)).unwrap_or(0.0);
    let to_limit =
        |figure: fn(&Round) -> f64| rounds::ratio(&each(&rounds, figure), &each(limit, figure));
    let micros =
        |quantile| (!latency.is_empty()).then(|| latency.value_at_quantile(quantile) as f64 / 1e3);
    Figures {
        gigabytes_per_second: median(Round::gigabytes_per_second),
        requests_per_second: median(Round::requests_per_second),
        processor_seconds_per_gib: median(Round::processor_seconds_per_gib),
        switches_per_gib: median(Round::switches_per_gib),
        latency_median_micros: micros(0.5),
        latency_p99_micros: micros(0.99),
        peak_resident_bytes: rounds
            .iter()
            .map(|round| round.usage.peak_resident_bytes)
            .max()
            .unwrap_or(0),
        speed_to_limit: to_limit(Round::gigabytes_per_second),
        processor_to_limit: to_limit(Round::processor_seconds_per_gib),
        rounds,
    }
}

fn each(series: &[Round], figure: fn(&Round) -> f64) -> Vec<f64> {
    series.iter().map(figure).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(bytes: u64, processor: Duration) -> Round {
        Round {
            bytes,
            requests: 10,
            seconds: 2.0,
            usage: Usage {
                system: processor,
                voluntary_switches: 6,
                ..Usage::default()
            },
        }
    }

    #[test]
    fn the_limit_is_the_faster_bare_server_with_its_own_processor_time() {
        let second = Duration::from_secs(1);
        let limit = limit_of_each_round(&[
            vec![round(100, second), round(300, second)],
            vec![round(200, 2 * second), round(200, 2 * second)],
        ]);
        let picked: Vec<_> = limit.iter().map(|r| (r.bytes, r.usage.system)).collect();
        assert_eq!(picked, [(200, 2 * second), (300, second)]);
    }

    #[test]
    fn figures_are_in_the_units_they_name() {
        let series = vec![Sample {
            round: round(1 << 31, Duration::from_secs(1)),
            latency: client::empty_latency(),
        }];
        let limit = [round(1 << 32, Duration::from_secs(1))];
        let figures = figures(series, &limit);
        assert_eq!(figures.gigabytes_per_second, 1.073_741_824);
        assert_eq!(figures.requests_per_second, 5.0);
        assert_eq!(figures.processor_seconds_per_gib, 0.5);
        assert_eq!(figures.switches_per_gib, 3.0);
        assert_eq!(figures.latency_median_micros, None);
        assert_eq!(figures.speed_to_limit.unwrap().median, 0.5);
        assert_eq!(figures.processor_to_limit.unwrap().median, 2.0);
    }
}
