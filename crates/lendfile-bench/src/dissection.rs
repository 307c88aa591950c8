//! A dissection: what a way of sending does, found by looking at it instead of at its speed.
//!
//! Four looks at each contestant, each with a server of its own: under `strace`, which system
//! calls it makes and how many bytes pass through its memory by them (`trace`); the page-identity
//! test, whether the socket holds the file's own pages (`identity`); under `callgrind`, how many
//! instructions an answer takes in user space; and undisturbed, what it costs. Slowed down by
//! tracing, it may make somewhat other calls than in a race: a slower server waits less often.

mod identity;
mod instructions;
mod trace;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::client::{self, Until};
use crate::contest::{self, Contestant, Course, Launch, Plan};
use crate::files::TestFile;
use crate::report::size;
use crate::server::Server;
use crate::{Error, Result};

pub use identity::Pages;
use trace::Trace;

/// How much is sent under `strace`.
const TRACED_BYTES: u64 = 64 << 20;

/// The same, if the file is small: calls, not bytes, take the time then.
const TRACED_ANSWERS: u64 = 500;

/// What each way of sending does with one file.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Dissection {
    /// The file's length.
    pub file_bytes: u64,
    /// Keep-alive connections.
    pub connections: usize,
    /// The congestion control of both ends.
    pub congestion_control: String,
    /// A line for each contestant.
    pub rows: Vec<Row>,
}

/// A contestant's line.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Row {
    /// The contestant's name.
    pub name: String,
    /// The copies by CPU that the founding article says its way makes.
    pub article: Option<String>,
    /// What was found, or why nothing was.
    pub findings: std::result::Result<Findings, String>,
}

/// What was found of one contestant.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Findings {
    /// Whether the socket holds the file's own pages.
    pub pages: Pages,
    /// Bytes that read calls put into the server's memory, per byte of body.
    pub read_share: f64,
    /// Bytes that write and send calls took from the server's memory, per byte of body.
    pub written_share: f64,
    /// Bytes that sendfile and splice passed on to a socket in the kernel, per byte of body. What a
    /// ring does is in none of the three: tracing does not see it.
    pub kernel_share: f64,
    /// Instructions in user space per answer, if `valgrind` is there and the contestant runs in it.
    pub instructions_per_answer: Option<f64>,
    /// Why that figure is missing, if it is.
    pub instructions_missing: Option<String>,
    /// System calls per MiB of body.
    pub calls_per_mib: f64,
    /// The most frequent calls, per MiB of body.
    pub calls: Vec<(String, f64)>,
    /// Context switches per MiB of body, untraced.
    pub switches_per_mib: f64,
    /// Page faults per MiB of body, untraced.
    pub faults_per_mib: f64,
    /// The server's processor seconds per GiB of body, untraced.
    pub processor_seconds_per_gib: f64,
}

impl Dissection {
    /// The conditions in one line.
    pub fn title(&self) -> String {
        format!(
            "{}, {} connections, {}",
            size(self.file_bytes),
            self.connections,
            self.congestion_control
        )
    }

    /// Why instructions were not counted, and of whom: a line for each reason.
    pub fn instructions_missing(&self) -> Vec<String> {
        let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for row in &self.rows {
            if let Ok(found) = &row.findings
                && let Some(reason) = &found.instructions_missing
            {
                names.entry(reason).or_default().push(&row.name);
            }
        }
        let lines = names.into_iter().map(|(reason, names)| {
            let names = names.join(", ");
            format!("Instructions of {names} were not counted: {reason}")
        });
        lines.collect()
    }
}

impl Findings {
    /// The most frequent calls in one line.
    pub fn calls_by_name(&self) -> String {
        let calls = self
            .calls
            .iter()
            .map(|(name, count)| format!("{name} {count:.1}"));
        calls.collect::<Vec<_>>().join(", ")
    }
}

/// Looks at each contestant while it serves the course's first target. `article` says what the founding article has
/// to say of a contestant of that name.
///
/// # Panics
///
/// If the course has no target.
pub fn run(
    course: &Course<'_>,
    congestion_control: &str,
    plan: &Plan,
    contestants: &[&dyn Contestant],
    article: &dyn Fn(&str) -> Option<String>,
    progress: &mut dyn FnMut(&str),
) -> Dissection {
    let rows = contestants
        .iter()
        .enumerate()
        .map(|(index, contestant)| {
            progress(contestant.name());
            let subject = Subject {
                course: Course {
                    targets: &course.targets[..1],
                    ..*course
                },
                plan,
                contestant: *contestant,
                index,
            };
            Row {
                name: contestant.name().to_owned(),
                article: article(contestant.name()),
                findings: subject.findings().map_err(|error| error.to_string()),
            }
        })
        .collect();
    Dissection {
        file_bytes: course.targets[0].digest.length,
        connections: plan.connections,
        congestion_control: congestion_control.to_owned(),
        rows,
    }
}

struct Subject<'a> {
    /// With one target.
    course: Course<'a>,
    plan: &'a Plan,
    contestant: &'a dyn Contestant,
    index: usize,
}

impl Subject<'_> {
    fn findings(&self) -> Result<Findings> {
        let round = self.undisturbed()?;
        let traced = self.traced()?;
        let pages = self.pages()?;
        // Without valgrind, or of a server that does not run in it, this one figure is missing.
        let (instructions_per_answer, instructions_missing) = match self.instructions() {
            Ok(count) => (Some(count), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let body = traced.body_bytes as f64;
        let mib = body / f64::from(1 << 20);
        let round_mib = round.bytes.max(1) as f64 / f64::from(1 << 20);
        Ok(Findings {
            pages,
            read_share: traced.trace.read_bytes as f64 / body,
            written_share: traced.trace.written_bytes as f64 / body,
            kernel_share: traced.trace.kernel_bytes as f64 / body,
            instructions_per_answer,
            instructions_missing,
            calls_per_mib: traced.trace.calls() as f64 / mib,
            calls: traced
                .trace
                .most_frequent(6)
                .into_iter()
                .map(|(name, count)| (name, count as f64 / mib))
                .collect(),
            switches_per_mib: round.usage.switches() as f64 / round_mib,
            faults_per_mib: (round.usage.minor_faults + round.usage.major_faults) as f64
                / round_mib,
            processor_seconds_per_gib: round.processor_seconds_per_gib(),
        })
    }

    fn undisturbed(&self) -> Result<contest::Round> {
        let Course {
            network, targets, ..
        } = self.course;
        let server = contest::start(&self.course, self.plan, self.contestant, self.index)?;
        let mut load = self.plan.load(server.address(), targets);
        load.until = Until::Elapsed(self.plan.warm_up);
        contest::measure(network, &load, &server)?;
        load.until = Until::Elapsed(self.plan.turn);
        Ok(contest::measure(network, &load, &server)?.round)
    }

    fn launch(&self, target: &TestFile) -> Result<Launch> {
        let course = Course {
            targets: std::slice::from_ref(target),
            ..self.course
        };
        contest::launch(&course, self.plan, self.contestant, self.index)
    }

    fn start(&self, launch: Launch) -> Result<Server> {
        let Launch {
            mut command,
            address,
        } = launch;
        let network = self.course.network;
        let client = network.client_place();
        let place = network.server_place();
        Server::start_within(START_LIMIT, &place, &client, &mut command, address)
    }

    fn traced(&self) -> Result<Traced> {
        let log = self
            .course
            .files
            .scratch()
            .join(format!("trace-{}", self.index));
        let mut launch = self.launch(&self.course.targets[0])?;
        launch.command = trace::under_strace(&launch.command, &log);
        let server = self.start(launch)?;
        let length = self.course.targets[0].digest.length;
        let mut load = self.plan.load(server.address(), self.course.targets);
        load.until = Until::Answered(
            (TRACED_BYTES / length.max(1)).clamp(self.plan.connections as u64, TRACED_ANSWERS),
        );
        let client = self.course.network.client_place();
        // What is done only once, such as opening the file, is done before.
        client.run(|| client::drain(&load))??;
        let begun = trace::now();
        let outcome = client.run(|| client::drain(&load))??;
        let ended = trace::now();
        // When this is answered, the calls that answered what came before have ended, too.
        load.until = Until::Answered(load.connections as u64);
        client.run(|| client::drain(&load))??;
        drop(server);
        let trace = Trace::read(&log, begun, ended)?;
        if trace.calls() == 0 {
            return Err(Error::unavailable("strace has seen no system call"));
        }
        Ok(Traced {
            trace,
            body_bytes: outcome.bytes.max(1),
        })
    }

    /// The difference between a run with few answers and one with many.
    fn instructions(&self) -> Result<f64> {
        let mut counts = [0; 2];
        for (count, answers) in counts.iter_mut().zip(instructions::ANSWERS) {
            let out = self
                .course
                .files
                .scratch()
                .join(format!("callgrind-{}", self.index));
            let mut launch = self.launch(&self.course.targets[0])?;
            launch.command = instructions::under_callgrind(&launch.command, &out);
            let server = self.start(launch)?;
            let mut load = self.plan.load(server.address(), self.course.targets);
            load.connections = 1;
            load.until = Until::Answered(answers);
            self.course
                .network
                .client_place()
                .run(|| client::drain(&load))??;
            server.stop();
            *count = instructions::counted(&out)?;
        }
        let [few, many] = counts;
        let answers = instructions::ANSWERS[1] - instructions::ANSWERS[0];
        Ok(many.saturating_sub(few) as f64 / answers as f64)
    }

    fn pages(&self) -> Result<Pages> {
        let name = format!("identity-{}.bin", self.index);
        let target = self
            .course
            .files
            .create_named(&name, identity::FILE_BYTES)?;
        let server = self.start(self.launch(&target)?)?;
        let path = self.course.files.directory().join(&target.name);
        let client = self.course.network.client_place();
        let pages = client.run(|| identity::look(server.address(), &target, &path))?;
        // Removing fails only if somebody else has removed it.
        let _ = std::fs::remove_file(path);
        pages
    }
}

struct Traced {
    trace: Trace,
    body_bytes: u64,
}

/// How long a server may take until it can be reached: under valgrind everything takes dozens of times as
/// long.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long any single wait of a dissection may take.
const PATIENCE: Duration = Duration::from_secs(5);
