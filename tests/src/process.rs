#![allow(clippy::print_stdout, reason = "a skip must be seen")]
//! What this process holds: descriptors, mappings, and children of itself for what would spoil it.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;
use std::{env, fs, thread};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use crate::PATIENCE;

/// Open descriptors of this process.
///
/// # Panics
///
/// Without `/proc`.
pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc").count()
}

/// Lowers this process' limit to `limit` descriptors and takes all that are left; they are free again
/// when dropped. For children only.
///
/// # Panics
///
/// If the limit is refused.
pub fn take_descriptors(limit: u64) -> Vec<File> {
    let limit = Rlimit {
        current: Some(limit),
        ..getrlimit(Resource::Nofile)
    };
    setrlimit(Resource::Nofile, limit).expect("a lower limit");
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

/// Resident bytes of this process.
///
/// # Panics
///
/// Without `/proc`.
pub fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.expect("VmRSS").trim().trim_end_matches(" kB");
    kib.parse::<u64>().expect("a number") * 1024
}

/// Resident bytes of each mapping of `path` in this process.
///
/// # Panics
///
/// Without `/proc`.
pub fn resident_of(path: &Path) -> Vec<u64> {
    let smaps = fs::read_to_string("/proc/self/smaps").expect("/proc");
    let name = path.to_str().expect("UTF-8");
    let mut found = Vec::new();
    let mut inside = false;
    for line in smaps.lines() {
        if let Some((range, _)) = line.split_once(' ')
            && range.contains('-')
            && !range.contains(':')
        {
            inside = line.contains(name);
        } else if let Some(rss) = line.strip_prefix("Rss:").filter(|_| inside) {
            let kib = rss.trim().trim_end_matches(" kB");
            found.push(kib.parse::<u64>().expect("a number") * 1024);
        }
    }
    found
}

/// Waits until `condition` holds.
///
/// # Panics
///
/// If it does not within [`PATIENCE`].
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::yield_now();
    }
}

/// Runs the test `name` of this test binary alone in a process of its own, with `LENDFILE_CHILD`
/// set to `role`.
///
/// # Panics
///
/// If it cannot be run.
pub fn in_child(name: &str, role: &str) -> Output {
    Command::new(env::current_exe().expect("the test's own path"))
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env("LENDFILE_CHILD", role)
        .output()
        .expect("running the test binary")
}

/// The same by a user who owns nothing and may do nothing, with these variables set.
///
/// # Panics
///
/// If it cannot be run; only root can become somebody else.
pub fn in_unprivileged_child(name: &str, role: &str, variables: &[(&str, &str)]) -> Output {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;

    const NOBODY: u32 = 65534;
    // The test's own path may lead through directories that others may not enter.
    let dir = tempfile::tempdir().expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
    let program = dir.path().join("test");
    fs::copy(env::current_exe().expect("the test's own path"), &program).expect("a copy");
    Command::new(program)
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env("LENDFILE_CHILD", role)
        .envs(variables.iter().copied())
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .expect("running the copy")
}

/// The role of this process, if it is a child.
pub fn child_role() -> Option<String> {
    env::var("LENDFILE_CHILD").ok()
}

/// Checks that a child ran its one test and passed.
///
/// # Panics
///
/// If not, with its output.
pub fn assert_passed(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{:?}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Says that a test is passed over, and why.
///
/// # Panics
///
/// If `LENDFILE_REQUIRE`, a list separated by commas, contains `what`: CI sets what it has.
pub fn skip(what: &str, why: &str) {
    let required = env::var("LENDFILE_REQUIRE").unwrap_or_default();
    assert!(
        !required.split(',').any(|one| one == what),
        "{what} is required here, but {why}"
    );
    println!("SKIPPED ({what}): {why}");
}

/// Answers system calls with an errno from now on, in all threads. For children only: a filter
/// cannot be taken off.
///
/// # Panics
///
/// If the filter is refused.
pub fn deny(calls: impl IntoIterator<Item = libc::c_long>, errno: rustix::io::Errno) {
    let denied = calls.into_iter().map(|call| (call, Vec::new())).collect();
    let answer = SeccompAction::Errno(errno.raw_os_error().unsigned_abs());
    let arch = env::consts::ARCH
        .try_into()
        .expect("an architecture that seccompiler knows");
    let filter = SeccompFilter::new(denied, SeccompAction::Allow, answer, arch);
    let program: BpfProgram = filter.expect("a filter").try_into().expect("a program");
    seccompiler::apply_filter_all_threads(&program).expect("to be filtered");
}
