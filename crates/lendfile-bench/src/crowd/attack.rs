//! Attackers of four kinds at once, and a probe that must not notice.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::client::{connect, connect_narrow, probe, warm_up};
use super::{Holdings, Program, SETTLED_WITHIN, Service, allow_descriptors};
use crate::pin::{self, Cores};
use crate::place::Place;
use crate::{Error, Result};

/// An attacker's turn comes once in this time.
const TURN: Duration = Duration::from_millis(500);

/// Parts of a turn, each with its share of the attackers.
const SLICES: usize = 10;

/// Between two probes.
const PROBE_PAUSE: Duration = Duration::from_millis(20);

/// Between two looks at what the server holds.
const LOOK_PAUSE: Duration = Duration::from_millis(250);

/// Descriptors that the server may have beside the crowd's.
const OTHER_DESCRIPTORS: u64 = 512;

/// Attackers of each kind before the attack proper.
const FEW: usize = 10;

/// What a clock may be late by: a quarter of the shortest of them, and what a crowded machine adds.
const LATE: Duration = Duration::from_secs(20);

/// What an attacker does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// Sends a head byte by byte.
    SlowHead,
    /// Announces a long body and sends it byte by byte.
    SlowBody,
    /// Asks for 1 GiB and reads nothing. Every second one goes on sending.
    SlowReader,
    /// Asks for ten thousand ranges, of several kinds, reads a little, and comes again.
    Ranges,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::SlowHead,
        Self::SlowBody,
        Self::SlowReader,
        Self::Ranges,
    ];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::SlowHead => "slow heads",
            Self::SlowBody => "slow bodies",
            Self::SlowReader => "slow readers",
            Self::Ranges => "hostile ranges",
        }
    }
}

/// How to attack.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// Connections of each kind at a time: who is cut comes again.
    pub each: usize,
    /// For how long.
    pub time: Duration,
    /// Within which they arrive the first time, one after the other; half a second at least.
    pub arrival: Duration,
    /// The server's header, idle and progress timeouts.
    pub clock: Duration,
}

/// What came of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Assault {
    /// What the probes saw.
    pub probes: Probes,
    /// How each kind's connections were ended by the server, in the order of [`Kind::ALL`].
    pub ends: [Ends; 4],
    /// From the attackers' last move, all their connections kept open, until the server had none of
    /// them any more; `None` if some outlived every clock.
    pub rid_of_all_after: Option<Duration>,
    /// What the server held before: it had seen ten attackers of each kind, and got rid of them.
    pub before: Holdings,
    /// The most of each that was seen meanwhile.
    pub most: Holdings,
    /// What it held within ten seconds from when it had got rid of all attackers.
    pub after: Holdings,
}

/// Requests for a small file in the middle of an attack, each on a connection of its own.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Probes {
    /// Latencies, the shortest first.
    pub waits: Vec<Duration>,
    /// When the slowest was sent, from the attack's beginning.
    pub worst_at: Duration,
    /// Those that were not answered.
    pub failed: u64,
    /// Whether they ran before the attackers on the core that they share (which takes root): else their
    /// latencies are the crowd's, too.
    pub first: bool,
}

/// Connections that the server ended.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Ends {
    /// Connections begun.
    pub begun: u64,
    /// Of them, those that could not be had.
    pub refused: u64,
    /// How many were ended.
    pub ended: u64,
    /// The shortest time from a connection's beginning to its end.
    pub soonest: Option<Duration>,
    /// The longest.
    pub latest: Option<Duration>,
}

impl Probes {
    /// The latency below which a share of the probes stayed.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index below the length"
        )]
        let index = (self.waits.len() as f64 * share) as usize;
        let index = index.min(self.waits.len().checked_sub(1)?);
        self.waits.get(index).copied()
    }
}

/// Attacks a server while probing it.
///
/// # Errors
///
/// [`crate::Kind::Unavailable`] if there are not enough descriptors; [`crate::Kind::Disqualified`]
/// if the server does not answer before the attack, or ends.
///
/// # Panics
///
/// If a thread of the attack does.
pub fn attack(program: &Program, attack: &Attack) -> Result<Assault> {
    allow_descriptors((attack.each as u64 * 4 + OTHER_DESCRIPTORS) * 4 / 3)?;
    let clock = format!("{}ms", attack.clock.as_millis());
    let options = ["--header-timeout", "--idle-timeout", "--progress-timeout"]
        .map(|name| [name, clock.as_str()]);
    // The server has a core of its own, as it has where its attackers are elsewhere.
    let cores = pin::choose()?;
    let place = |side: fn(Cores) -> usize| Place {
        core: cores.map(side),
        namespace: None,
    };
    let servers = place(|cores| cores.server);
    let service = Service::start_in(&servers, program, options.as_flattened())?;
    warm_up(service.address())
        .map_err(|error| Error::disqualified(format!("before the attack: {error}")))?;
    // The program's pages that only attackers use are not what an attack leaves behind.
    let few = Attack {
        each: attack.each.min(FEW),
        time: attack.clock * 2,
        ..*attack
    };
    place(|cores| cores.client).run(|| {
        assail(&service, &few)?;
        assail(&service, attack)
    })?
}

fn assail(service: &Service, attack: &Attack) -> Result<Assault> {
    let address = service.address();
    let before = service.holdings()?;
    let mut most = before;
    let (attacking, there) = (AtomicBool::new(true), AtomicBool::new(true));
    let (probes, ends, rid_of_all_after, after) = thread::scope(|scope| {
        // Whatever goes wrong here, the threads are told to stop.
        let _over = [Lower(&attacking), Lower(&there)];
        let crowds = Kind::ALL.map(|kind| {
            let crowd = Attackers::new(kind, address, attack);
            let (attacking, there) = (&attacking, &there);
            scope.spawn(move || crowd.run(attacking, there))
        });
        let prober = scope.spawn(|| probe_while(address, &attacking));
        let begun = Instant::now();
        while begun.elapsed() < attack.time {
            thread::sleep(LOOK_PAUSE);
            most = most.max(service.holdings()?);
        }
        attacking.store(false, Relaxed);
        let probes = prober.join().expect("the probing thread");
        let silent = Instant::now();
        let rid_of_all_after = loop {
            let waited = silent.elapsed();
            if service.holdings()?.descriptors <= before.descriptors {
                break Some(waited);
            }
            if waited > attack.clock + LATE {
                break None;
            }
            thread::sleep(LOOK_PAUSE);
        };
        there.store(false, Relaxed);
        let ends = crowds.map(|crowd| crowd.join().expect("a crowd's thread"));
        Ok::<_, Error>((probes, ends, rid_of_all_after, settled(service, &before)?))
    })?;
    Ok(Assault {
        probes,
        ends,
        rid_of_all_after,
        before,
        most,
        after,
    })
}

/// What the server holds some seconds later, a request now and then in between: allocators give
/// memory back late, and some only when they are used.
fn settled(service: &Service, before: &Holdings) -> Result<Holdings> {
    let begun = Instant::now();
    loop {
        let now = service.holdings()?;
        if now.resident_bytes <= before.resident_bytes || begun.elapsed() > SETTLED_WITHIN {
            return Ok(now);
        }
        probe(service.address())
            .map_err(|error| Error::disqualified(format!("after the attack: {error}")))?;
        thread::sleep(PROBE_PAUSE);
    }
}

/// Set to false when dropped.
struct Lower<'a>(&'a AtomicBool);

impl Drop for Lower<'_> {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

fn probe_while(address: SocketAddr, attacking: &AtomicBool) -> Probes {
    let first = Instant::now();
    let mut probes = Probes {
        // Of this thread alone (NOTES of nice(2)).
        first: rustix::process::nice(-20).is_ok(),
        ..Probes::default()
    };
    let mut worst = (Duration::ZERO, Duration::ZERO);
    while attacking.load(Relaxed) {
        let begun = Instant::now();
        match probe(address) {
            Ok(()) => {
                probes.waits.push(begun.elapsed());
                worst = worst.max((begun.elapsed(), begun - first));
            }
            Err(_) => probes.failed += 1,
        }
        thread::sleep(PROBE_PAUSE.saturating_sub(begun.elapsed()));
    }
    probes.worst_at = worst.1;
    probes.waits.sort_unstable();
    probes
}

/// All attackers of a kind.
struct Attackers {
    kind: Kind,
    address: SocketAddr,
    clock: Duration,
    arrival: Duration,
    attackers: Vec<Option<Attacker>>,
    ends: Ends,
}

struct Attacker {
    stream: TcpStream,
    since: Instant,
    turns: u64,
}

impl Attackers {
    fn new(kind: Kind, address: SocketAddr, attack: &Attack) -> Self {
        Self {
            kind,
            address,
            clock: attack.clock,
            arrival: attack.arrival,
            attackers: (0..attack.each).map(|_| None).collect(),
            ends: Ends::default(),
        }
    }

    /// Attacks, then stays connected and silent until `there` is over.
    fn run(mut self, attacking: &AtomicBool, there: &AtomicBool) -> Ends {
        let slice = TURN / u32::try_from(SLICES).unwrap_or(1);
        let first = Instant::now();
        for turn in 0.. {
            if !attacking.load(Relaxed) {
                break;
            }
            let begun = Instant::now();
            self.note_ends();
            let present = self.present_after(first.elapsed());
            for index in (turn % SLICES..present).step_by(SLICES) {
                self.turn(index);
            }
            thread::sleep(slice.saturating_sub(begun.elapsed()));
        }
        while there.load(Relaxed) {
            self.note_ends();
            thread::sleep(slice);
        }
        self.ends
    }

    /// How many have come some time after the first.
    fn present_after(&self, elapsed: Duration) -> usize {
        let all = self.attackers.len();
        let part = (elapsed + TURN).as_micros() * all as u128 / self.arrival.max(TURN).as_micros();
        usize::try_from(part).map_or(all, |part| part.min(all))
    }

    /// Takes leave of those whose connection the server has ended.
    fn note_ends(&mut self) {
        let there = || self.attackers.iter().flatten();
        let mut fds: Vec<_> = there()
            .map(|attacker| PollFd::new(&attacker.stream, PollFlags::RDHUP))
            .collect();
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        if poll(&mut fds, Some(&now)).is_err() {
            // Interrupted: the next look will do.
            return;
        }
        let ended: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let places = self.attackers.iter_mut().filter(|place| place.is_some());
        for (place, _) in places.zip(ended).filter(|(_, ended)| *ended) {
            if let Some(attacker) = place.take() {
                self.ends.note(attacker.since.elapsed());
            }
        }
    }

    fn turn(&mut self, index: usize) {
        if let Some(attacker) = &mut self.attackers[index] {
            match attacker.go_on(self.kind, self.clock, index) {
                Ok(true) => {}
                Ok(false) => self.attackers[index] = None,
                Err(_) => {
                    self.ends.note(attacker.since.elapsed());
                    self.attackers[index] = None;
                }
            }
            return;
        }
        self.ends.begun += 1;
        match Attacker::begin(self.kind, self.address, index) {
            Ok(attacker) => self.attackers[index] = Some(attacker),
            Err(_) => self.ends.refused += 1,
        }
    }
}

impl Ends {
    fn note(&mut self, age: Duration) {
        self.ended += 1;
        self.soonest = Some(self.soonest.map_or(age, |soonest| soonest.min(age)));
        self.latest = self.latest.max(Some(age));
    }
}

impl Attacker {
    fn begin(kind: Kind, address: SocketAddr, index: usize) -> io::Result<Self> {
        let since = Instant::now();
        let mut stream = match kind {
            Kind::SlowReader => connect_narrow(address, index)?,
            _ => connect(address, index)?,
        };
        let request = match (kind, index % 2) {
            (Kind::SlowHead, _) => "GET /small HTTP/1.1\r\nhost: a\r\nx: ",
            (Kind::SlowBody, 0) => {
                "POST /small HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n"
            }
            (Kind::SlowBody, _) => {
                "GET /small HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n10000\r\n"
            }
            (Kind::SlowReader, _) => "GET /large HTTP/1.1\r\nhost: a\r\n\r\n",
            (Kind::Ranges, _) => &RANGES[index % RANGES.len()],
        };
        stream.write_all(request.as_bytes())?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            since,
            turns: 0,
        })
    }

    /// Makes its move; whether it wants another.
    fn go_on(&mut self, kind: Kind, clock: Duration, index: usize) -> io::Result<bool> {
        self.turns += 1;
        match kind {
            Kind::SlowHead | Kind::SlowBody => self.send_a_byte()?,
            // A connection that the server has given up without a word is known by its answer to
            // what is sent: so the silent ones send once, when they should be long gone.
            Kind::SlowReader => {
                let silent =
                    index.is_multiple_of(2) && self.since.elapsed() < clock + clock / 2 + TURN * 2;
                if !silent {
                    self.send_a_byte()?;
                }
            }
            Kind::Ranges => {
                match self.stream.read(&mut [0; 4096]) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
                return Ok(self.turns < 4);
            }
        }
        Ok(true)
    }

    fn send_a_byte(&mut self) -> io::Result<()> {
        match self.stream.write(b"x") {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Requests for ten thousand ranges, or as many as a head of 64 KiB holds, or more than it may be
/// long. Made once, so that the attack does not take the server's processor time for it.
static RANGES: LazyLock<[String; 5]> = LazyLock::new(|| {
    let apart = |count: u64| {
        (0..count)
            .map(|k| format!("{0}-{0}", 1000 + 2 * k))
            .collect()
    };
    let lists: [Vec<String>; 5] = [
        vec!["-1".to_owned(); 10_000],
        vec!["0-".to_owned(); 10_000],
        vec!["x".to_owned(); 10_000],
        apart(5_500),
        apart(10_000),
    ];
    lists.map(|list| {
        let list = list.join(",");
        format!("GET /large HTTP/1.1\r\nhost: a\r\nrange: bytes={list}\r\n\r\n")
    })
});
