//! What a server process has used: processor time, context switches, page faults, memory.
//!
//! Read from `/proc`, for the process, its threads and its descendants. Processor time has the
//! resolution of the kernel's ticks there (10 ms), and holds the interrupt work done in the
//! process's name unless the kernel is built with `CONFIG_IRQ_TIME_ACCOUNTING`.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use serde::Serialize;

use crate::{Error, Result};

/// The counters of a process and its descendants at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    processes: BTreeMap<u32, Times>,
    tasks: BTreeMap<(u32, u32), Switches>,
    peak_resident_bytes: u64,
}

/// What was used between two snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Usage {
    /// Processor time in user mode.
    pub user: Duration,
    /// Processor time in the kernel.
    pub system: Duration,
    /// Times a thread gave up the processor to wait. Threads that ended meanwhile are not counted.
    pub voluntary_switches: u64,
    /// Times a thread was made to give up the processor.
    pub involuntary_switches: u64,
    /// Page faults served without the disk.
    pub minor_faults: u64,
    /// Page faults that waited for the disk.
    pub major_faults: u64,
    /// The largest resident memory so far, summed over the processes: not a difference.
    pub peak_resident_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Times {
    user_ticks: u64,
    system_ticks: u64,
    minor_faults: u64,
    major_faults: u64,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Switches {
    voluntary: u64,
    involuntary: u64,
}

impl Snapshot {
    /// Reads the counters now.
    ///
    /// # Errors
    ///
    /// [`crate::Kind::System`] if the process does not exist or cannot be looked at.
    pub fn of(pid: u32) -> Result<Self> {
        let mut snapshot = Self {
            processes: BTreeMap::new(),
            tasks: BTreeMap::new(),
            peak_resident_bytes: 0,
        };
        snapshot.add(pid)?;
        Ok(snapshot)
    }

    /// What was used since `earlier`.
    pub fn since(&self, earlier: &Self) -> Usage {
        let mut usage = Usage {
            peak_resident_bytes: self.peak_resident_bytes,
            ..Usage::default()
        };
        for (pid, now) in &self.processes {
            let then = earlier.processes.get(pid).copied().unwrap_or_default();
            usage.user += ticks(now.user_ticks.saturating_sub(then.user_ticks));
            usage.system += ticks(now.system_ticks.saturating_sub(then.system_ticks));
            usage.minor_faults += now.minor_faults.saturating_sub(then.minor_faults);
            usage.major_faults += now.major_faults.saturating_sub(then.major_faults);
        }
        for (task, now) in &self.tasks {
            let then = earlier.tasks.get(task).copied().unwrap_or_default();
            usage.voluntary_switches += now.voluntary.saturating_sub(then.voluntary);
            usage.involuntary_switches += now.involuntary.saturating_sub(then.involuntary);
        }
        usage
    }

    fn add(&mut self, pid: u32) -> Result<()> {
        let read = |name: &str| {
            fs::read_to_string(format!("/proc/{pid}/{name}"))
                .map_err(|error| Error::system(format!("reading {name} of process {pid}"), error))
        };
        let malformed = |name: &str| {
            Error::system(
                format!("reading {name} of process {pid}"),
                ErrorKind::InvalidData,
            )
        };
        let times = parse_stat(&read("stat")?).ok_or_else(|| malformed("stat"))?;
        self.processes.insert(pid, times);
        // A process that is about to end has no memory and no such line.
        self.peak_resident_bytes += field(&read("status")?, "VmHWM:").unwrap_or(0) << 10;

        let tasks = fs::read_dir(format!("/proc/{pid}/task"))
            .map_err(|error| Error::system(format!("reading the threads of {pid}"), error))?;
        for task in tasks.flatten() {
            let Some(tid) = task.file_name().to_str().and_then(|tid| tid.parse().ok()) else {
                continue;
            };
            // A thread may end between the two reads; it is then left out, as Usage says.
            if let Ok(status) = fs::read_to_string(task.path().join("status")) {
                let switches = Switches {
                    voluntary: field(&status, "voluntary_ctxt_switches:").unwrap_or(0),
                    involuntary: field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0),
                };
                self.tasks.insert((pid, tid), switches);
            }
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in children.split_whitespace().flat_map(str::parse) {
                // So may a child.
                let _ = self.add(child);
            }
        }
        Ok(())
    }
}

impl Usage {
    /// Processor time in all.
    pub fn processor(&self) -> Duration {
        self.user + self.system
    }

    /// Context switches in all.
    pub fn switches(&self) -> u64 {
        self.voluntary_switches + self.involuntary_switches
    }
}

/// How long a core has been doing anything since the machine started, for whomever; time taken by
/// the hypervisor counts.
///
/// # Errors
///
/// [`crate::Kind::System`] if `/proc/stat` cannot be read or does not name the core.
pub fn core_busy(core: usize) -> Result<Duration> {
    let what = || format!("reading what core {core} has done");
    let stat = fs::read_to_string("/proc/stat").map_err(|error| Error::system(what(), error))?;
    parse_core_busy(&stat, core)
        .map(ticks)
        .ok_or_else(|| Error::system(what(), ErrorKind::InvalidData))
}

/// proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal; guest time is within user's.
fn parse_core_busy(stat: &str, core: usize) -> Option<u64> {
    let name = format!("cpu{core} ");
    let line = stat.lines().find_map(|line| line.strip_prefix(&name))?;
    let fields: Vec<u64> = line.split_whitespace().flat_map(str::parse).collect();
    Some(fields.get(..3)?.iter().sum::<u64>() + fields.get(5..8)?.iter().sum::<u64>())
}

fn ticks(count: u64) -> Duration {
    // 100 on every architecture Linux runs on today.
    let per_second = u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100);
    Duration::from_secs(count) / per_second
}

/// proc_pid_stat(5). The second field, the program's name in parentheses, may hold anything.
fn parse_stat(stat: &str) -> Option<Times> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    // `after_name` begins with field 3.
    let field = |number: usize| fields.get(number - 3)?.parse().ok();
    Some(Times {
        user_ticks: field(14)?,
        system_ticks: field(15)?,
        minor_faults: field(10)?,
        major_faults: field(12)?,
    })
}

/// The first number after `name` at a line's beginning.
fn field(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::time::{ClockId, clock_gettime};
    use std::process::{self, Command};

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 101 102 103 104 105 106 107 108 20 0 1";
        let times = Times {
            user_ticks: 105,
            system_ticks: 106,
            minor_faults: 101,
            major_faults: 103,
        };
        assert_eq!(parse_stat(stat), Some(times));
        assert_eq!(parse_stat("42 (short) S 1"), None);
    }

    #[test]
    fn a_core_is_busy_when_it_is_neither_idle_nor_waiting() {
        let stat = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 7 7 7 7 7 7 7 7 7 7\n\
                    cpu1 1 2 4 1000 1000 8 16 32 1 0\ncpu10 0 0 0 0 0 0 0 0 0 0\nintr 5";
        assert_eq!(parse_core_busy(stat, 1), Some(63));
        assert_eq!(parse_core_busy(stat, 2), None);
    }

    #[test]
    fn spinning_shows_as_user_time_and_waiting_as_voluntary_switches() {
        let before = Snapshot::of(process::id()).unwrap();
        // Not for a while: on a busy machine this thread may hardly run meanwhile.
        let used = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
        let begun = used();
        while used() - begun < Duration::from_millis(50) {}
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let usage = Snapshot::of(process::id()).unwrap().since(&before);
        assert!(usage.processor() >= Duration::from_millis(20), "{usage:?}");
        assert!(usage.voluntary_switches >= 20, "{usage:?}");
        assert!(usage.peak_resident_bytes > 0, "{usage:?}");
    }

    #[test]
    fn a_child_is_counted_with_its_parent() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let snapshot = Snapshot::of(process::id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(snapshot.processes.contains_key(&child.id()));
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(Snapshot::of(child.id()).is_err());
    }
}
