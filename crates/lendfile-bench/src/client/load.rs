//! What the client asks for, how wide, and until when.

use std::net::SocketAddr;
use std::time::Duration;

/// What to ask for, how wide and for how long.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Load {
    /// Where the server listens.
    pub address: SocketAddr,
    /// What is asked for: in turn, over all connections, then from the first again.
    pub targets: Vec<Target>,
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// When it ends.
    pub until: Until,
    /// What the client speaks.
    pub protocol: Protocol,
    /// What becomes of the bodies. HTTP/2 bodies are always copied: its frames have to be read.
    pub drain: Drain,
}

/// A file on the server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// The request's path, beginning with `/`.
    pub path: String,
    /// The body's length in bytes which every answer must announce and deliver.
    pub length: u64,
}

/// When a load ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Until {
    /// When this many answers are complete, over all connections.
    Answered(u64),
    /// When this long has passed since all connections were open.
    Elapsed(Duration),
}

/// What the client speaks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Protocol {
    /// HTTP/2 in cleartext with prior knowledge, one stream at a time on each connection.
    H2c,
    /// HTTP/1.1 with keep-alive.
    #[default]
    Http1,
}

/// What becomes of bodies.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Drain {
    /// They are copied into the client's memory, as a real client does; this makes the client, not
    /// the server, the slower one for large files.
    Copy,
    /// They are thrown away in the kernel.
    #[default]
    Discard,
}

impl Load {
    /// One connection for one second; the fields are there to change that.
    pub fn new(address: SocketAddr, path: impl Into<String>, length: u64) -> Self {
        Self {
            address,
            targets: vec![Target {
                path: path.into(),
                length,
            }],
            connections: 1,
            until: Until::Elapsed(Duration::from_secs(1)),
            protocol: Protocol::default(),
            drain: Drain::default(),
        }
    }
}

/// Deals the targets out and counts the answers.
pub(super) struct Requests {
    targets: usize,
    asked: u64,
    answered: u64,
    wanted: u64,
}

impl Requests {
    pub(super) fn new(load: &Load) -> Self {
        assert!(!load.targets.is_empty(), "a load without a target");
        Self {
            targets: load.targets.len(),
            asked: 0,
            answered: 0,
            wanted: match load.until {
                Until::Answered(count) => count,
                Until::Elapsed(_) => u64::MAX,
            },
        }
    }

    /// The index of the target to ask for next, if more is wanted.
    pub(super) fn next(&mut self) -> Option<usize> {
        if self.asked == self.wanted {
            return None;
        }
        let target = self.asked % self.targets as u64;
        self.asked += 1;
        // Below `targets`, which is a usize.
        usize::try_from(target).ok()
    }

    pub(super) fn answered(&mut self) {
        self.answered += 1;
    }

    pub(super) fn are_answered(&self) -> bool {
        self.answered >= self.wanted
    }
}
