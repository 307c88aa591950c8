//! How long, how wide, how often, and under which conditions.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use crate::client::{Drain, Load, Protocol, Until};
use crate::files::TestFile;

/// What one table is measured under.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// Keep-alive connections, one request at a time on each.
    pub connections: usize,
    /// Measured rounds.
    pub rounds: usize,
    /// The length of a contestant's turn. Cold turns end when every file has been sent once.
    pub turn: Duration,
    /// The length of the turn before the first round.
    pub warm_up: Duration,
    /// What the client speaks.
    pub protocol: Protocol,
    /// What the client does with bodies.
    pub drain: Drain,
    /// Whether the files are in the page cache.
    pub temperature: Temperature,
    /// Whether contestants that can do so watch a 1 ms ticker of their own. It costs a few per mille
    /// of a core.
    pub ticker: bool,
}

/// Whether files are in the page cache when a turn begins.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Temperature {
    /// None of their pages are; each is asked for once.
    Cold,
    /// All of their pages are.
    #[default]
    Warm,
}

impl Plan {
    /// Eight connections, five rounds of two seconds, HTTP/1.1, discarded, warm, no ticker; the
    /// fields are there to change that.
    pub fn new() -> Self {
        Self {
            connections: 8,
            rounds: 5,
            turn: Duration::from_secs(2),
            warm_up: Duration::from_secs(1),
            protocol: Protocol::default(),
            drain: Drain::default(),
            temperature: Temperature::default(),
            ticker: false,
        }
    }

    /// A measured turn's load.
    pub fn load(&self, address: SocketAddr, targets: &[TestFile]) -> Load {
        let mut load = Load::new(address, "/", 0);
        load.targets = targets.iter().map(TestFile::as_target).collect();
        load.connections = self.connections;
        load.until = match self.temperature {
            Temperature::Cold => Until::Answered(targets.len() as u64),
            Temperature::Warm => Until::Elapsed(self.turn),
        };
        load.protocol = self.protocol;
        load.drain = self.drain;
        load
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self::new()
    }
}
