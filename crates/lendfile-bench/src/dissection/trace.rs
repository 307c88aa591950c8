//! System calls by `strace`: which, how many, and how many bytes went where.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{Error, Result};

/// Calls that put bytes into memory.
const READING: [&str; 7] = [
    "read", "readv", "pread64", "preadv", "preadv2", "recvfrom", "recvmsg",
];

/// Calls that take bytes from memory.
const WRITING: [&str; 8] = [
    "write", "writev", "pwrite64", "pwritev", "pwritev2", "sendto", "sendmsg", "sendmmsg",
];

/// What a server did between two moments.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Trace {
    counts: BTreeMap<String, u64>,
    pub(super) read_bytes: u64,
    pub(super) written_bytes: u64,
    pub(super) kernel_bytes: u64,
    /// Of each thread's call that others interrupt in the log, whether it is of those.
    under_way: HashMap<String, bool>,
}

/// `command` under strace, which logs to `log` with a time in each line.
///
/// `-D` makes the server, not strace, the child that is started, so that stopping the child stops
/// both; strace ends with what it traces.
pub(super) fn under_strace(command: &Command, log: &Path) -> Command {
    let mut strace = Command::new("strace");
    strace
        .args([
            "-D",
            "-f",
            "-qqq",
            "-ttt",
            "-s",
            "0",
            "-e",
            "signal=none",
            "-o",
        ])
        .arg(log)
        .arg("--");
    wrapped(strace, command)
}

/// `command` as the arguments of another, in its environment and directory.
pub(super) fn wrapped(mut wrapper: Command, command: &Command) -> Command {
    wrapper.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapper.env(name, value),
            None => wrapper.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        wrapper.current_dir(directory);
    }
    wrapper
}

/// The time as strace writes it.
pub(super) fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

impl Trace {
    /// The calls of a log that began between two moments: what a client has received was sent by one
    /// of those, though strace may learn of the call's end only later.
    pub(super) fn read(log: &Path, begun: Duration, ended: Duration) -> Result<Self> {
        let failed = |error| Error::system("reading strace's log", error);
        let mut trace = Self::default();
        for line in BufReader::new(File::open(log).map_err(failed)?).lines() {
            trace.add(&line.map_err(failed)?, begun, ended);
        }
        Ok(trace)
    }

    /// `PID SECONDS name(arguments) = result …`; a call that others interrupt is split in
    /// `name(… <unfinished ...>` and `<... name resumed>…) = result`.
    fn add(&mut self, line: &str, begun: Duration, ended: Duration) {
        let parts = line
            .split_once(' ')
            .map(|(pid, rest)| (pid, rest.trim_start()));
        let Some((pid, (time, call))) = parts
            .filter(|(pid, _)| pid.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|(pid, rest)| Some((pid, rest.split_once(' ')?)))
        else {
            return;
        };
        let resumed = call.strip_prefix("<... ");
        let is_within = match resumed {
            Some(_) => self.under_way.remove(pid).unwrap_or(false),
            None => time
                .parse()
                .ok()
                .and_then(|at| Duration::try_from_secs_f64(at).ok())
                .is_some_and(|at| (begun..=ended).contains(&at)),
        };
        if call.ends_with("<unfinished ...>") {
            self.under_way.insert(pid.to_owned(), is_within);
            return;
        }
        if !is_within {
            return;
        }
        let name = match resumed {
            Some(resumed) => resumed.split(' ').next(),
            None => call.split('(').next(),
        };
        let (Some(name), Some((_, result))) = (name, call.rsplit_once(" = ")) else {
            return;
        };
        *self.counts.entry(name.to_owned()).or_default() += 1;
        let result = result.split(' ').next().unwrap_or_default();
        // Errors and addresses are no counts of bytes.
        let bytes = result.parse::<u64>().unwrap_or(0);
        if READING.contains(&name) {
            self.read_bytes += bytes;
        } else if WRITING.contains(&name) {
            self.written_bytes += bytes;
        } else if name == "sendfile" {
            self.kernel_bytes += bytes;
        } else if name == "splice" && !names_an_offset(call) {
            // Into a pipe with an offset of the file's; out of it, to a socket, without.
            self.kernel_bytes += bytes;
        }
    }

    pub(super) fn calls(&self) -> u64 {
        self.counts.values().sum()
    }

    pub(super) fn most_frequent(&self, most: usize) -> Vec<(String, u64)> {
        let mut counts: Vec<_> = self.counts.clone().into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counts.truncate(most);
        counts
    }
}

/// Whether a splice's first offset is given: strace writes it as `[n]`, or `[n] => [m]`.
fn names_an_offset(call: &str) -> bool {
    call.contains(", [")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
7 10.5 sendfile(9, 8, [0] => [1048576], 1048576) = 1048576
7 10.6 sendfile(9, 8, [1048576], 4096) = -1 EAGAIN (Resource temporarily unavailable)
7 10.7 splice(8, [0] => [65536], 4, NULL, 65536, SPLICE_F_NONBLOCK) = 65536
7 10.8 splice(3, NULL, 9, NULL, 65536, SPLICE_F_MOVE) = 65536
8 10.8 pread64(8,  <unfinished ...>
7 10.9 sendmsg(9, {msg_name=NULL, msg_flags=0}, MSG_NOSIGNAL) = 120
8 12.0 <... pread64 resumed>\"\"..., 4096, 0) = 4096
9 9.9 pread64(8,  <unfinished ...>
9 10.1 <... pread64 resumed>\"\"..., 8192, 0) = 8192
7 10.9 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x7f0000000000
7 99.0 write(1, \"\"..., 5) = 5
7 10.9 exit_group(0) = ?
garbage
";

    #[test]
    fn bytes_are_counted_by_where_they_went_and_only_if_the_call_began_in_the_window() {
        let mut trace = Trace::default();
        for line in LOG.lines() {
            trace.add(line, Duration::from_secs(10), Duration::from_secs(11));
        }
        assert_eq!(trace.kernel_bytes, 1_048_576 + 65_536);
        assert_eq!((trace.read_bytes, trace.written_bytes), (4096, 120));
        assert_eq!(trace.calls(), 8);
        assert_eq!(trace.most_frequent(1), [("sendfile".to_owned(), 2)]);
    }
}
