//! Mixed lengths, for long: does it slow down?

use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use super::load::{Manner, Seen, Stop, ask_on, replace_all};
use super::{Holdings, Program, Service};
use crate::process::Snapshot;
use crate::{Error, Result};

/// Clients at work.
const CLIENTS: u64 = 16;

/// Parts of the time.
const PARTS: u32 = 6;

/// How a server did over time.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Steadiness {
    /// Body bytes per second in each sixth of the time.
    pub bytes_per_second: Vec<f64>,
    /// The server's processor time per GiB in each, in seconds.
    pub processor_per_gib: Vec<f64>,
    /// What it held at the end of each.
    pub holdings: Vec<Holdings>,
    /// Answers.
    pub responses: u64,
    /// Wrong answers and lost connections.
    pub wrong: u64,
    /// Some of them, in words.
    pub complaints: Vec<String>,
}

/// Asks a server for files from 1 KiB to 4 MiB on 16 connections that come and go, for `time` after
/// a warm-up of a tenth of it.
///
/// # Errors
///
/// [`crate::Kind::System`] if files cannot be written or the server has ended.
///
/// # Panics
///
/// If a client's thread does.
pub fn steady(program: &Program, time: Duration) -> Result<Steadiness> {
    let service = Service::start(program, &[])?;
    replace_all(service.directory.path(), 0)
        .map_err(|error| Error::system("writing the files", error))?;
    let seen = Seen::default();
    let mut steadiness = Steadiness {
        bytes_per_second: Vec::new(),
        processor_per_gib: Vec::new(),
        holdings: Vec::new(),
        responses: 0,
        wrong: 0,
        complaints: Vec::new(),
    };
    thread::scope(|scope| {
        let _over = Stop(&seen);
        for client in 0..CLIENTS {
            let (address, seen) = (service.address(), &seen);
            scope.spawn(move || ask_on(address, client, Manner::Plain, seen));
        }
        thread::sleep(time / 10);
        for _ in 0..PARTS {
            let used = Snapshot::of(service.server.pid())?;
            let (begun, from) = (Instant::now(), seen.bytes.load(Relaxed));
            thread::sleep(time / PARTS);
            #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
            let bytes = (seen.bytes.load(Relaxed) - from) as f64;
            let elapsed = begun.elapsed().as_secs_f64();
            let used = Snapshot::of(service.server.pid())?.since(&used).processor();
            steadiness.bytes_per_second.push(bytes / elapsed);
            let gib = bytes / f64::from(1 << 30);
            steadiness.processor_per_gib.push(used.as_secs_f64() / gib);
            steadiness.holdings.push(service.holdings()?);
        }
        Ok::<_, Error>(())
    })?;
    steadiness.responses = seen.responses.load(Relaxed);
    steadiness.wrong = seen.wrong.load(Relaxed);
    steadiness.complaints = seen.complaints();
    Ok(steadiness)
}
