//! What a process holds at one moment.

use std::fs;
use std::io::{self, ErrorKind};

use crate::{Error, Result};

/// What a process holds. Memory is read from `smaps_rollup`, which counts pages: the sums in
/// `status` are late by up to 64 pages for each thread.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Holdings {
    /// Resident memory in bytes: its own, its program's, and pages of files that it has touched.
    pub resident_bytes: u64,
    /// Of it what no file holds: heap and stacks. (`Private_Dirty` counts pages of a program that
    /// was built a moment ago, too, until the disk has them.)
    pub private_bytes: u64,
    /// Open descriptors.
    pub descriptors: usize,
    /// Descriptors of them that are an end of a pipe.
    pub pipes: usize,
    /// Mappings.
    pub mappings: usize,
    /// Threads.
    pub threads: usize,
    /// What the buffers of all TCP sockets of this network namespace are charged with, in bytes,
    /// both ends' of each connection.
    pub tcp_bytes: u64,
}

impl Holdings {
    /// Looks at a process.
    ///
    /// # Errors
    ///
    /// [`crate::Kind::System`] if it does not exist or may not be looked at.
    pub fn of(pid: u32) -> Result<Self> {
        read(pid).map_err(|error| Error::system(format!("looking at process {pid}"), error))
    }

    /// The larger of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            resident_bytes: self.resident_bytes.max(other.resident_bytes),
            private_bytes: self.private_bytes.max(other.private_bytes),
            descriptors: self.descriptors.max(other.descriptors),
            pipes: self.pipes.max(other.pipes),
            mappings: self.mappings.max(other.mappings),
            threads: self.threads.max(other.threads),
            tcp_bytes: self.tcp_bytes.max(other.tcp_bytes),
        }
    }
}

fn read(pid: u32) -> io::Result<Holdings> {
    let text = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}"));
    let memory = text("smaps_rollup")?;
    let mut descriptors = 0;
    let mut pipes = 0;
    for fd in fs::read_dir(format!("/proc/{pid}/fd"))? {
        descriptors += 1;
        // It may have been closed since.
        if let Ok(link) = fs::read_link(fd?.path())
            && link.as_os_str().as_encoded_bytes().starts_with(b"pipe:")
        {
            pipes += 1;
        }
    }
    let sockets = fs::read_to_string("/proc/net/sockstat")?;
    let tcp = sockets.lines().find_map(|line| line.strip_prefix("TCP:"));
    let pages = tcp.and_then(|tcp| tcp.rsplit_once("mem ")?.1.trim().parse::<u64>().ok());
    Ok(Holdings {
        resident_bytes: kib(&memory, "Rss:")? << 10,
        private_bytes: kib(&memory, "Anonymous:")? << 10,
        descriptors,
        pipes,
        mappings: text("maps")?.lines().count(),
        threads: fs::read_dir(format!("/proc/{pid}/task"))?.count(),
        tcp_bytes: pages.ok_or(ErrorKind::InvalidData)? * rustix::param::page_size() as u64,
    })
}

fn kib(text: &str, name: &str) -> io::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, format!("no {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_and_memory_are_seen_while_they_are_held() {
        // Other tests of this process may hold something, too, so it is another that is looked at.
        let mut cat = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let holdings = Holdings::of(cat.id()).unwrap();
        drop(cat.stdin.take());
        cat.wait().unwrap();
        assert!(holdings.pipes >= 1, "{holdings:?}");
        assert!(holdings.descriptors >= 3 && holdings.threads == 1);
        assert!(holdings.resident_bytes >= holdings.private_bytes && holdings.private_bytes > 0);
        assert!(Holdings::of(cat.id()).is_err(), "it has ended");
    }
}
