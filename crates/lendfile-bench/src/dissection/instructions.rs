//! Instructions by `callgrind`: the figure that does not drift with the machine.
//!
//! Only user space is counted; what the kernel does in a system call is not. A server is run twice,
//! with few answers and with many, so that its start and end cancel out. System calls that are newer
//! than valgrind fail with ENOSYS under it (3.19: `openat2`, `cachestat`): a server counts with what
//! it does instead.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::trace::wrapped;
use crate::{Error, Result};

/// Answers of the two runs.
pub(super) const ANSWERS: [u64; 2] = [50, 450];

/// `command` under callgrind, which writes its counts to `out` when the server ends.
pub(super) fn under_callgrind(command: &Command, out: &Path) -> Command {
    let mut callgrind = Command::new("valgrind");
    callgrind
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", out.display()));
    wrapped(callgrind, command)
}

/// Instructions in callgrind's file.
pub(super) fn counted(out: &Path) -> Result<u64> {
    let text = fs::read_to_string(out)
        .map_err(|error| Error::system("reading what callgrind has counted", error))?;
    parse(&text).ok_or_else(|| Error::unavailable("callgrind has counted nothing"))
}

/// One line for all threads together: `summary: N` or `totals: N`.
fn parse(text: &str) -> Option<u64> {
    let line = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name))?;
        value.split_whitespace().next()?.parse().ok()
    };
    line("totals:")
        .or_else(|| line("summary:"))
        .filter(|count| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_in_the_last_lines() {
        assert_eq!(
            parse("events: Ir\nfn=main\n1 2\ntotals: 12345\n"),
            Some(12345)
        );
        assert_eq!(parse("summary: 7\n"), Some(7));
        assert_eq!(parse("events: Ir\n"), None);
    }
}
