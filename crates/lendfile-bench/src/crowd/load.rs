//! Clients that ask for files of mixed lengths, at random.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, PoisonError};

use super::client::Client;
use super::content::{self, BLOCK_BYTES, Checker, mix};

/// The longest lengths of the files by name: from what is kept in memory to what fills any socket.
const LENGTHS: [u64; 6] = [1 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20];

/// Requests on a connection, at most.
const MAX_REQUESTS: u64 = 50;

/// Complaints that are kept.
const MAX_COMPLAINTS: usize = 5;

/// What clients do beside asking.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Manner {
    /// Take every answer whole, look at its length only.
    Plain,
    /// Check every byte, ask for parts, too, and leave one answer of sixteen at a random place.
    Rough,
}

/// What the clients have seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) stop: AtomicBool,
    pub(super) bytes: AtomicU64,
    pub(super) responses: AtomicU64,
    pub(super) aborted: AtomicU64,
    pub(super) wrong: AtomicU64,
    complaints: Mutex<Vec<String>>,
    paused: Mutex<bool>,
    resumed: Condvar,
}

impl Seen {
    fn complain(&self, what: String) {
        self.wrong.fetch_add(1, Relaxed);
        let mut complaints = self
            .complaints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if complaints.len() < MAX_COMPLAINTS {
            complaints.push(what);
        }
    }

    /// Has the clients wait before their next request, or go on.
    pub(super) fn pause(&self, pause: bool) {
        *self.paused.lock().unwrap_or_else(PoisonError::into_inner) = pause;
        self.resumed.notify_all();
    }

    fn wait_for_turn(&self) {
        let paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = self.resumed.wait_while(paused, |paused| *paused);
        drop(turn);
    }

    pub(super) fn complaints(&self) -> Vec<String> {
        let complaints = self
            .complaints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        complaints.clone()
    }
}

/// Tells the clients to stop when dropped.
pub(super) struct Stop<'a>(pub(super) &'a Seen);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Relaxed);
        self.0.pause(false);
    }
}

/// xorshift64: it only has to mix.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(mix(seed) | 1)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }
}

/// Puts a new version of every file in place of the old one, by a rename. Its length varies.
pub(super) fn replace_all(directory: &Path, seed: u64) -> io::Result<()> {
    for (name, longest) in LENGTHS.iter().enumerate() {
        let seed = seed * LENGTHS.len() as u64 + name as u64 + 1;
        let length = longest - mix(seed) % (longest / 4);
        let new = directory.join("new");
        fs::write(&new, content::bytes(seed, length))?;
        fs::rename(&new, directory.join(name.to_string()))?;
    }
    Ok(())
}

/// Asks until told to stop.
pub(super) fn ask_on(address: SocketAddr, seed: u64, manner: Manner, seen: &Seen) {
    let mut random = Random::new(seed);
    while !seen.stop.load(Relaxed) {
        let result = converse(address, &mut random, manner, seen);
        // A connection may be refused or lost only because of us.
        if let Err(error) = result {
            seen.complain(format!("a connection was lost: {error}"));
        }
    }
}

/// One connection with several requests.
fn converse(
    address: SocketAddr,
    random: &mut Random,
    manner: Manner,
    seen: &Seen,
) -> io::Result<()> {
    let mut client = Client::connect(address)?;
    for _ in 0..=random.below(MAX_REQUESTS) {
        seen.wait_for_turn();
        if seen.stop.load(Relaxed) {
            return Ok(());
        }
        let name = usize::try_from(random.below(LENGTHS.len() as u64)).unwrap_or(0);
        let rough = manner == Manner::Rough;
        let first_block = match rough && random.below(4) == 0 {
            // The shortest that any version of the file is has them.
            true => random.below((LENGTHS[name] / 4 * 3).div_ceil(BLOCK_BYTES as u64)),
            false => 0,
        };
        let range = match first_block {
            0 => String::new(),
            block => format!("range: bytes={}-\r\n", block * BLOCK_BYTES as u64),
        };
        let answer = client.ask(&format!("/{name}"), &range)?;
        let wanted = if first_block == 0 { 200 } else { 206 };
        let length = answer.total.unwrap_or(answer.length);
        let whole = first_block * BLOCK_BYTES as u64 + answer.length == length;
        if answer.status != wanted || !whole {
            seen.complain(format!("/{name} {range:?}: {answer:?}"));
            return Ok(());
        }
        if rough && random.below(16) == 0 {
            client.body(random.below(answer.length), |_| {})?;
            seen.aborted.fetch_add(1, Relaxed);
            return Ok(());
        }
        let mut checker = Checker::new(first_block, length);
        client.body(answer.length, |part| {
            seen.bytes.fetch_add(part.len() as u64, Relaxed);
            if rough {
                checker.push(part);
            }
        })?;
        if let Err(wrong) = checker.finish() {
            seen.complain(format!("/{name} {range:?}: {wrong}"));
            return Ok(());
        }
        seen.responses.fetch_add(1, Relaxed);
    }
    Ok(())
}
