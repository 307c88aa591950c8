//! A contest: every contestant serves the same files, one after the other, round by round.
//!
//! All servers are started and checked first, then they take turns; those that wait are idle. A
//! contestant that fails leaves the contest with its reason, and the others go on.

mod contestant;
mod figures;
mod plan;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::cache::drop_pages;
use crate::client::{self, Load, Protocol, Until};
use crate::files::{TestFile, TestFiles};
use crate::network::Network;
use crate::process::{Snapshot, core_busy};
use crate::rounds::{self, Turn};
use crate::server::Server;
use crate::{Error, Result};
use figures::Sample;

pub use contestant::{Contestant, Launch, Lendfile, Role, Site};
pub use figures::{Comparison, Disturbance, Figures, Round};
pub use plan::{Plan, Temperature};

/// How all contestants did.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Standings {
    /// Whom the contestants are held against: names of rows. Each measured row has a comparison
    /// with each, in this order.
    pub references: Vec<String>,
    /// A line for each contestant, in the order they were given.
    pub rows: Vec<Row>,
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
    /// It finished, or has had at least one turn when the contest was stopped.
    Measured(Box<Figures>),
    /// It is not to be had here.
    Skipped {
        /// What would help.
        reason: String,
    },
}

/// What a contest is doing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// In words.
    pub what: String,
    /// The contestant whose turn it is.
    pub name: &'a str,
    /// Steps done so far.
    pub done: usize,
    /// Steps in all: a start, a warm-up and the rounds of each contestant.
    pub total: usize,
}

/// What is served, and over which network.
#[derive(Clone, Copy, Debug)]
pub struct Course<'a> {
    /// Joins client and servers.
    pub network: &'a Network,
    /// The directory.
    pub files: &'a TestFiles,
    /// The files in it that are asked for, in turn.
    pub targets: &'a [TestFile],
}

/// Lets `contestants` serve the course to one client and returns a row for each, in order.
///
/// They are held against those named in `against`; if none is, against the limit, which is the one
/// of [`Role::Limit`] that is fastest by the median.
///
/// `progress` is told what is being done, before each step. Once `stop` is set, no further turn
/// begins, one that fails meanwhile is nobody's failure, and the rows hold what there is.
pub fn run(
    course: &Course<'_>,
    plan: &Plan,
    contestants: &[&dyn Contestant],
    against: &[String],
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Progress<'_>),
) -> Standings {
    let total = contestants.len() * (plan.rounds + 2);
    let mut done = 0;
    let stopped = || stop.load(Ordering::Relaxed);
    let mut step = |what: String, name: &str| {
        if stopped() {
            return Err(interrupted());
        }
        progress(&Progress {
            what,
            name,
            done,
            total,
        });
        done += 1;
        Ok(())
    };
    let mut servers: Vec<Result<Server>> = contestants
        .iter()
        .enumerate()
        .map(|(index, contestant)| {
            step(format!("starting {}", contestant.name()), contestant.name())?;
            start(course, plan, *contestant, index)
        })
        .collect();
    let results = rounds::interleave(contestants.len(), plan.rounds, |index, turn| {
        let name = contestants[index].name();
        let server = match &mut servers[index] {
            Ok(server) => server,
            // Taken once: a contestant whose warm-up fails has no further turn.
            failed @ Err(_) => {
                let taken = std::mem::replace(failed, Err(Error::unavailable("not running")));
                return Err(taken.expect_err("matched as an error"));
            }
        };
        let what = match turn {
            Turn::WarmUp => format!("warming up {name}"),
            Turn::Round(round) => format!("round {} of {}: {name}", round + 1, plan.rounds),
        };
        match step(what, name).and_then(|()| take_turn(course, plan, server, turn)) {
            Ok(sample) => Ok(Some(sample)),
            Err(_) if stopped() && turn == Turn::WarmUp => Err(interrupted()),
            // What has been measured stays.
            Err(_) if stopped() => Ok(None),
            Err(error) => Err(error),
        }
    });
    let results = results
        .into_iter()
        .map(|series| {
            let series: Vec<Sample> = series?.into_iter().flatten().collect();
            if series.is_empty() && plan.rounds > 0 {
                return Err(interrupted());
            }
            Ok(series)
        })
        .collect();
    standings(contestants, results, against)
}

fn interrupted() -> Error {
    Error::unavailable("stopped before its first round")
}

/// Starts a contestant and checks that it sends the files' bytes.
pub(crate) fn start(
    course: &Course<'_>,
    plan: &Plan,
    contestant: &dyn Contestant,
    index: usize,
) -> Result<Server> {
    let Launch {
        mut command,
        address,
    } = launch(course, plan, contestant, index)?;
    let Course {
        network, targets, ..
    } = course;
    let client = network.client_place();
    let server = Server::start(&network.server_place(), &client, &mut command, address)?;
    for target in *targets {
        let path = target.request_path();
        let address = server.address();
        let digest = client.run(|| match plan.protocol {
            Protocol::H2c => client::fetch_digest_h2c(address, &target.as_target()),
            Protocol::Http1 => client::fetch_digest(address, &path),
        })??;
        if digest != target.digest {
            return Err(Error::disqualified(format!(
                "{path}: {} bytes with the wrong SHA-256, or not {} bytes",
                digest.length, target.digest.length
            )));
        }
    }
    Ok(server)
}

pub(crate) fn launch(
    course: &Course<'_>,
    plan: &Plan,
    contestant: &dyn Contestant,
    index: usize,
) -> Result<Launch> {
    let Course {
        network,
        files,
        targets,
    } = course;
    let scratch = files.scratch().join(format!("contestant-{index}"));
    std::fs::create_dir_all(&scratch)
        .map_err(|error| Error::system("making a contestant's directory", error))?;
    contestant.launch(&Site {
        directory: files.directory(),
        targets,
        scratch: &scratch,
        any_port: SocketAddr::new(network.server_ip(), 0),
        free_port: network.free_address()?,
        ticker: plan.ticker,
    })
}

fn take_turn(course: &Course<'_>, plan: &Plan, server: &mut Server, turn: Turn) -> Result<Sample> {
    let mut load = plan.load(server.address(), course.targets);
    if let (Turn::WarmUp, Until::Elapsed(until)) = (turn, &mut load.until) {
        *until = plan.warm_up;
    }
    if plan.temperature == Temperature::Cold {
        for target in course.targets {
            // Not the contestant's fault, so not its disqualification.
            drop_pages(&course.files.directory().join(&target.name))?;
        }
    }
    let measured = measure(course.network, &load, server);
    measured.map_err(|error| Error::disqualified(format!("{error}{}", server.last_words())))
}

/// Drains `server` and reads what it used meanwhile.
pub(crate) fn measure(network: &Network, load: &Load, server: &Server) -> Result<Sample> {
    let server_core = network.server_place().core;
    let core_busy = || server_core.map_or(Ok(Duration::ZERO), core_busy);
    server.take_worst_stall();
    let (before, busy_before) = (Snapshot::of(server.pid())?, core_busy()?);
    let outcome = network.client_place().run(|| client::drain(load))??;
    let usage = Snapshot::of(server.pid())?.since(&before);
    let busy = core_busy()?.saturating_sub(busy_before);
    let stall = server.take_worst_stall_until_now();
    Ok(Sample::new(outcome, usage, busy, stall))
}

fn standings(
    contestants: &[&dyn Contestant],
    results: Vec<Result<Vec<Sample>>>,
    against: &[String],
) -> Standings {
    let rounds_of = |wanted: &dyn Fn(&dyn Contestant) -> bool| -> Vec<(String, Vec<Round>)> {
        contestants
            .iter()
            .zip(&results)
            .filter(|(contestant, _)| wanted(**contestant))
            .filter_map(|(contestant, result)| {
                let series = result.as_ref().ok()?;
                let rounds = series.iter().map(|sample| sample.round).collect();
                Some((contestant.name().to_owned(), rounds))
            })
            .collect()
    };
    let references = if against.is_empty() {
        let limits = rounds_of(&|contestant| contestant.role() == Role::Limit);
        Vec::from_iter(figures::fastest(limits))
    } else {
        let named = |name: &String| rounds_of(&|contestant| contestant.name() == name);
        against.iter().flat_map(named).collect()
    };
    let rows = contestants
        .iter()
        .zip(results)
        .map(|(contestant, result)| Row {
            name: contestant.name().to_owned(),
            role: contestant.role(),
            result: match result {
                Ok(series) => Standing::Measured(Box::new(figures::figures(series, &references))),
                Err(error) if error.is_unavailable() => Standing::Skipped {
                    reason: error.to_string(),
                },
                Err(error) => Standing::Failed {
                    reason: error.to_string(),
                },
            },
        })
        .collect();
    Standings {
        references: references.into_iter().map(|(name, _)| name).collect(),
        rows,
    }
}

#[cfg(test)]
mod tests;
