//! Aborts, reloads and replaced files: does anything grow, is any byte wrong?

use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use rustix::process::{Pid, Signal, kill_process};

use super::client::probe;
use super::load::{Manner, Seen, Stop, ask_on, replace_all};
use super::{Holdings, PATIENCE, Program, Service};
use crate::{Error, Result};

/// Clients at work.
const CLIENTS: u64 = 24;

/// Between two replacements of all files, and of reloads.
const REPLACE_PAUSE: Duration = Duration::from_millis(700);

/// A look at the server's holdings in so many replacements.
const LOOKS: u64 = 3;

/// What a soak has shown.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Soaked {
    /// Answers that were taken whole, each of whose bytes was checked.
    pub responses: u64,
    /// Answers that were left in the middle.
    pub aborted: u64,
    /// Wrong answers and lost connections.
    pub wrong: u64,
    /// Some of them, in words.
    pub complaints: Vec<String>,
    /// Times every file was replaced and the server told to reload.
    pub reloads: u64,
    /// What the server held, every two seconds or so, warm-up (a tenth of the time) left out.
    pub under_way: Vec<Holdings>,
    /// What it held at rest after the warm-up, and at the end.
    pub at_rest: [Holdings; 2],
}

impl Soaked {
    /// Medians of a figure over the first and the last third of the samples.
    pub fn thirds(&self, figure: impl Fn(&Holdings) -> u64) -> Option<[u64; 2]> {
        let third = self.under_way.len() / 3;
        let median = |part: &[Holdings]| {
            let mut figures: Vec<u64> = part.iter().map(&figure).collect();
            figures.sort_unstable();
            figures.get(figures.len() / 2).copied()
        };
        let last = self.under_way.len() - third;
        Some([
            median(&self.under_way[..third])?,
            median(&self.under_way[last..])?,
        ])
    }
}

/// Soaks a server for `time`.
///
/// # Errors
///
/// [`crate::Kind::System`] if files cannot be written; [`crate::Kind::Disqualified`] if the server
/// ends or never comes to rest.
///
/// # Panics
///
/// If a client's thread does.
pub fn soak(program: &Program, time: Duration) -> Result<Soaked> {
    let logs = tempfile::tempdir().map_err(|error| Error::system("a directory", error))?;
    let log = logs.path().join("access.log");
    let service = Service::start(program, &["--access-log", &log.to_string_lossy()])?;
    let directory = service.directory.path().to_owned();
    let writing = |error| Error::system("replacing the files", error);
    replace_all(&directory, 0).map_err(writing)?;
    let seen = Seen::default();
    let mut reloads = 0;
    let mut under_way = Vec::new();
    // Replaces and reloads for a while, with clients at work; then waits until all is quiet.
    let mut work = |time: Duration, mut look: Option<&mut Vec<Holdings>>| -> Result<Holdings> {
        seen.stop.store(false, Relaxed);
        thread::scope(|scope| {
            let _over = Stop(&seen);
            for client in 0..CLIENTS {
                let (address, seen) = (service.address(), &seen);
                let seed = reloads * CLIENTS + client;
                scope.spawn(move || ask_on(address, seed, Manner::Rough, seen));
            }
            let begun = Instant::now();
            while begun.elapsed() < time {
                thread::sleep(REPLACE_PAUSE.min(time / 8));
                reloads += 1;
                replace_all(&directory, reloads).map_err(writing)?;
                // As an operator rotates it; the file must not fill the disk.
                match fs::remove_file(&log) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(Error::system("removing the log", error));
                    }
                    _ => {}
                }
                reload(&service)?;
                if let Some(samples) = &mut look
                    && reloads % LOOKS == 0
                {
                    samples.push(service.holdings()?);
                }
            }
            Ok(())
        })?;
        at_rest(&service)
    };
    let before = work(time / 10, None)?;
    let after = work(time - time / 10, Some(&mut under_way))?;
    Ok(Soaked {
        responses: seen.responses.load(Relaxed),
        aborted: seen.aborted.load(Relaxed),
        wrong: seen.wrong.load(Relaxed),
        complaints: seen.complaints(),
        reloads,
        under_way,
        at_rest: [before, after],
    })
}

fn reload(service: &Service) -> Result<()> {
    let pid = i32::try_from(service.server.pid()).ok();
    let pid = pid.and_then(Pid::from_raw).expect("a child's id");
    kill_process(pid, Signal::HUP).map_err(|error| Error::system("a reload", error))
}

/// Waits until the connections have gone and what was kept of replaced files is given up, which
/// takes a second and a request.
fn at_rest(service: &Service) -> Result<Holdings> {
    let begun = Instant::now();
    let mut last = service.holdings()?;
    let mut same = 0;
    while same < 4 {
        if begun.elapsed() > PATIENCE {
            return Err(Error::disqualified(format!(
                "it never comes to rest; it holds {last:?}"
            )));
        }
        probe(service.address())
            .map_err(|error| Error::disqualified(format!("after the soak: {error}")))?;
        // Behind the probe, whose connection the server gives up a little later than we do.
        thread::sleep(Duration::from_millis(500));
        let now = service.holdings()?;
        let still = (now.descriptors, now.mappings) == (last.descriptors, last.mappings);
        same = if still { same + 1 } else { 0 };
        last = now;
    }
    Ok(last)
}
