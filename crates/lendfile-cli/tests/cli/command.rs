//! Running the binary: every wait is bounded, and what still runs is killed when dropped.

use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use lendfile_tests::PATIENCE;
use lendfile_tests::client::Client;
use lendfile_tests::server::Address;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// The command with these arguments, not yet started.
pub(crate) fn lendfile<I: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lendfile"));
    command.args(args).env_remove("LENDFILE_LOG");
    command.stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn run(command: Command) -> Finished {
    Running::start(command).finish()
}

/// A server on a free port.
pub(crate) fn serve(dir: &Path, options: &[&str]) -> (Running, SocketAddr) {
    let mut command = lendfile(["serve", "--listen", "127.0.0.1:0"]);
    command.args(options).arg(dir);
    let mut running = Running::start(command);
    let line = running.next_line();
    let addr = line
        .strip_prefix("listening on http://")
        .and_then(|addr| addr.parse().ok())
        .unwrap_or_else(|| panic!("the first line is {line:?}"));
    (running, addr)
}

/// A connection to a server.
pub(crate) fn connect(addr: SocketAddr) -> Client {
    Client::connect(&Address::Tcp(addr))
}

/// A process under way.
pub(crate) struct Running {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

/// What a process left behind.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// What of standard output and error had not been taken by then.
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Running {
    pub(crate) fn start(command: Command) -> Self {
        Self::try_start(command).expect("starting the binary")
    }

    pub(crate) fn try_start(mut command: Command) -> io::Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdout = lines(child.stdout.take().expect("piped"));
        let stderr = lines(child.stderr.take().expect("piped"));
        Ok(Self {
            child,
            stdout,
            stderr,
        })
    }

    /// The next line of standard output.
    pub(crate) fn next_line(&mut self) -> String {
        next(&self.stdout, "output")
    }

    /// The next line of standard error.
    pub(crate) fn next_error(&mut self) -> String {
        next(&self.stderr, "error")
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a signal to a child");
    }

    /// Processor time used so far.
    pub(crate) fn processor_time(&self) -> std::time::Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.expect("/proc");
        // Fields are counted behind the name, which ends with the last parenthesis (proc(5)).
        let fields: Vec<_> = stat
            .rsplit_once(')')
            .expect("a name")
            .1
            .split_whitespace()
            .collect();
        let ticks = |i: usize| fields[i].parse::<u64>().expect("ticks");
        std::time::Duration::from_millis(
            (ticks(11) + ticks(12)) * 1000 / rustix::param::clock_ticks_per_second(),
        )
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Waits for the end, and takes what was written.
    pub(crate) fn finish(mut self) -> Finished {
        let pidfd = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()).expect("a pidfd");
        let limit = Timespec::try_from(PATIENCE).expect("seconds");
        let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit));
        assert_eq!(ended, Ok(1), "still running");
        let status = self.child.wait().expect("a child");
        Finished {
            code: status.code(),
            // Both end with the process.
            stdout: self.stdout.iter().collect(),
            stderr: self.stderr.iter().collect(),
        }
    }
}

/// The lines as they come, with their ends.
fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        loop {
            let mut line = String::new();
            match from.read_line(&mut line) {
                Ok(0) => return,
                read => _ = tell.send(read.map(|_| line).expect("UTF-8")),
            }
        }
    });
    told
}

/// The next line, without its end.
fn next(lines: &Receiver<String>, of: &str) -> String {
    match lines.recv_timeout(PATIENCE) {
        Ok(line) => line.trim_end_matches('\n').to_owned(),
        Err(error) => panic!("no line on standard {of}: {error}"),
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail after the process has been waited for.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
