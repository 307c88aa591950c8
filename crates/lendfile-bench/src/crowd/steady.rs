//! Mixed lengths, for long: does it slow down?
//!
//! The machine's own speed changes by a fifth within minutes, so a long run alone shows nothing of
//! the server. It takes turns with one that was started a moment ago.

use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use super::load::{Manner, Seen, Stop, ask_on, replace_all};
use super::{Holdings, Program, Service};
use crate::process::Snapshot;
use crate::{Error, Result};

/// Clients at work on each server.
const CLIENTS: u64 = 16;

/// Parts of the time.
const PARTS: u32 = 6;

/// How long one server is asked before it is the other's turn.
const TURN: Duration = Duration::from_millis(250);

/// How a server did over time.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Steadiness {
    /// Each sixth of the time.
    pub sixths: Vec<Sixth>,
    /// Answers, of all servers.
    pub responses: u64,
    /// Wrong answers and lost connections.
    pub wrong: u64,
    /// Some of them, in words.
    pub complaints: Vec<String>,
}

/// A sixth of the time.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sixth {
    /// The server that runs from the beginning.
    pub old: Pace,
    /// One that was started for this sixth, and asked in turn with the other.
    pub fresh: Pace,
    /// What the old one held at the end.
    pub holdings: Holdings,
}

/// How fast a server was while it was asked.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Pace {
    /// Body bytes per second.
    pub bytes_per_second: f64,
    /// The server's processor time per GiB, in seconds.
    pub processor_per_gib: f64,
}

impl Steadiness {
    fn note(&mut self, seen: &Seen) {
        self.responses += seen.responses.load(Relaxed);
        self.wrong += seen.wrong.load(Relaxed);
        self.complaints.extend(seen.complaints());
    }

    /// The old server's throughput by that of the fresh one, of the last sixth and of the first. The
    /// memory of each start lies differently, which was worth 1 to 4 % of the throughput.
    pub fn last_and_first(&self) -> Option<(f64, f64)> {
        let relative = |sixth: &Sixth| sixth.old.bytes_per_second / sixth.fresh.bytes_per_second;
        Some((
            relative(self.sixths.last()?),
            relative(self.sixths.first()?),
        ))
    }
}

/// Asks a server for files from 1 KiB to 4 MiB on 16 connections that come and go, for `time` after
/// a warm-up of a tenth of it; in each sixth of the time in turn with a server just started, which
/// is asked the same.
///
/// # Errors
///
/// [`crate::Kind::System`] if files cannot be written; [`crate::Kind::Disqualified`] if a server sends
/// nothing in its turns.
///
/// # Panics
///
/// If a client's thread does.
pub fn steady(program: &Program, time: Duration) -> Result<Steadiness> {
    let old = Asked::start(program)?;
    let mut steadiness = Steadiness {
        sixths: Vec::new(),
        responses: 0,
        wrong: 0,
        complaints: Vec::new(),
    };
    thread::scope(|scope| {
        let _over = Stop(&old.seen);
        old.send_clients(scope);
        thread::sleep(time / 10);
        for _ in 0..PARTS {
            let fresh = Asked::start(program)?;
            let sixth = sixth(&old, &fresh, time / PARTS)?;
            steadiness.sixths.push(sixth);
            steadiness.note(&fresh.seen);
        }
        Ok::<_, Error>(())
    })?;
    steadiness.note(&old.seen);
    Ok(steadiness)
}

fn sixth(old: &Asked, fresh: &Asked, time: Duration) -> Result<Sixth> {
    thread::scope(|scope| {
        let _over = Stop(&fresh.seen);
        fresh.send_clients(scope);
        take_turns(old, fresh, time / 10);
        let (old_before, fresh_before) = (Books::of(old)?, Books::of(fresh)?);
        let asked_for = take_turns(old, fresh, time);
        let sixth = Sixth {
            old: Books::of(old)?.since(&old_before, asked_for)?,
            fresh: Books::of(fresh)?.since(&fresh_before, asked_for)?,
            holdings: old.service.holdings()?,
        };
        old.seen.pause(false);
        Ok(sixth)
    })
}

/// Has each of them asked for half of the time; how long that really was.
fn take_turns(old: &Asked, fresh: &Asked, time: Duration) -> Duration {
    let begun = Instant::now();
    while begun.elapsed() < time {
        for (asked, rests) in [(fresh, old), (old, fresh)] {
            rests.seen.pause(true);
            asked.seen.pause(false);
            thread::sleep(TURN);
        }
    }
    begun.elapsed() / 2
}

/// A server, and what its clients have seen.
struct Asked {
    service: Service,
    seen: Seen,
}

impl Asked {
    fn start(program: &Program) -> Result<Self> {
        let service = Service::start(program, &[])?;
        replace_all(service.directory.path(), 0)
            .map_err(|error| Error::system("writing the files", error))?;
        Ok(Self {
            service,
            seen: Seen::default(),
        })
    }

    fn send_clients<'scope>(&'scope self, scope: &'scope thread::Scope<'scope, '_>) {
        for client in 0..CLIENTS {
            let (address, seen) = (self.service.address(), &self.seen);
            scope.spawn(move || ask_on(address, client, Manner::Plain, seen));
        }
    }
}

/// What was sent, and what that took.
struct Books {
    bytes: u64,
    used: Snapshot,
}

impl Books {
    fn of(asked: &Asked) -> Result<Self> {
        Ok(Self {
            bytes: asked.seen.bytes.load(Relaxed),
            used: Snapshot::of(asked.service.server.pid())?,
        })
    }

    fn since(&self, before: &Self, time: Duration) -> Result<Pace> {
        if self.bytes == before.bytes {
            return Err(Error::disqualified("a server sent nothing in its turns"));
        }
        #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
        let bytes = (self.bytes - before.bytes) as f64;
        let used = self.used.since(&before.used).processor();
        Ok(Pace {
            bytes_per_second: bytes / time.as_secs_f64(),
            processor_per_gib: used.as_secs_f64() / (bytes / f64::from(1 << 30)),
        })
    }
}
