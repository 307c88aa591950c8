//! A contest: every contestant serves the same file, one after the other, round by round.
//!
//! All servers are started and checked first, then they take turns; those that wait are idle. A
//! contestant that fails leaves the contest with its reason, and the others go on.

mod figures;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use crate::client::{self, Load};
use crate::files::{TestFile, TestFiles};
use crate::network::Network;
use crate::process::{Snapshot, core_busy};
use crate::rounds::{self, Turn};
use crate::server::{Address, Server};
use crate::{Error, Result};
use figures::Sample;

pub use figures::{Disturbance, Figures, Round};

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
    let server_core = network.server_place().core;
    let core_busy = || server_core.map_or(Ok(Duration::ZERO), core_busy);
    let measured: Result<_> = (|| {
        let (before, busy_before) = (Snapshot::of(server.pid())?, core_busy()?);
        let outcome = network.client_place().run(|| client::drain(&load))??;
        let usage = Snapshot::of(server.pid())?.since(&before);
        let busy = core_busy()?.saturating_sub(busy_before);
        Ok(Sample::new(outcome, usage, busy))
    })();
    match measured {
        Ok(sample) => Ok(sample),
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
        figures::better_limit(&limits)
    };
    contestants
        .iter()
        .zip(results)
        .map(|(contestant, result)| Row {
            name: contestant.name().to_owned(),
            role: contestant.role(),
            result: match result {
                Ok(series) => Standing::Measured(Box::new(figures::figures(series, &limit))),
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
