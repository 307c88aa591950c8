//! `--backend`: by a ring, and what happens where there is none.

use std::os::unix::process::CommandExt;
use std::process::Command;

use lendfile_tests::content;
use lendfile_tests::process::skip;
use lendfile_tests::uring::{BY_RING, denied_rings, runtime_or_skip};
use lendfile_uring::Options;

use crate::command::{connect, lendfile, run, serve};
use crate::failures::{UNPRIVILEGED, assert_line, readable_by_all};
use crate::serve::sends_the_right_bytes;

/// What is said when there is no ring.
const EPOLL: &str = "serving with epoll";

#[test]
fn the_ring_sends_the_right_bytes_by_every_method() {
    if runtime_or_skip(Options::default()).is_none() {
        return;
    }
    let methods = BY_RING.map(lendfile::Method::name);
    for method in methods.into_iter().chain(["auto", "sendfile", "copy"]) {
        let options = ["--backend", "uring", "--method", method, "--threads", "2"];
        sends_the_right_bytes(&options);
    }
}

#[test]
fn where_rings_are_denied_auto_serves_with_epoll_and_says_so_once() {
    let dir = tempfile::tempdir().unwrap();
    content::write(&dir.path().join("file"), 1, 100_000).unwrap();
    denied_rings(|| {
        let (server, addr) = serve(dir.path(), &["--backend", "auto", "--threads", "2"]);
        assert_eq!(connect(addr).get("/file", "").len, 100_000);
        server.signal(rustix::process::Signal::TERM);
        let finished = server.finish();
        assert_eq!(finished.stderr.matches(EPOLL).count(), 1, "{finished:?}");
        assert!(finished.stderr.contains("seccomp"), "{finished:?}");
    });
}

#[test]
fn where_rings_are_denied_asking_for_one_fails_with_the_cure() {
    let dir = tempfile::tempdir().unwrap();
    denied_rings(|| {
        for options in [["--backend", "uring"], ["--method", "ring-hybrid"]] {
            let mut command = lendfile(["serve", "--listen", "127.0.0.1:0"]);
            command.args(options).arg(dir.path());
            let finished = run(command);
            assert_eq!(finished.code, Some(1), "{finished:?}");
            assert_eq!(finished.stdout, "");
            assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
            for part in ["cannot serve by a ring", "seccomp", "use the epoll backend"] {
                assert!(finished.stderr.contains(part), "{part}: {finished:?}");
            }
        }
    });
}

#[test]
fn a_ring_without_memory_for_its_buffers_fails_with_the_cure() {
    if runtime_or_skip(Options::default()).is_none() {
        return;
    }
    // 1 leaves rings to root, and what is tried here is not. Before Linux 6.6 there is no such sysctl.
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let disabled = disabled.as_deref().map_or("0", str::trim);
    if disabled != "0" {
        let why =
            format!("kernel.io_uring_disabled is {disabled}, which denies rings to other users");
        return skip("uring", &why);
    }
    let dir = tempfile::tempdir().unwrap();
    let program = readable_by_all(dir.path());
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -l 64 && exec \"$@\"", "sh"])
        .arg(program)
        .args(["serve", "--listen", "127.0.0.1:0", "--threads", "1"])
        .args(["--method", "ring-fixed"])
        .arg(dir.path());
    if rustix::process::geteuid().is_root() {
        // Whose memory is not counted.
        command.uid(UNPRIVILEGED).gid(UNPRIVILEGED);
    }
    let parts = ["cannot serve by a ring", "ulimit -l", "--method ring-fixed"];
    assert_line(1, &run(command), &parts);
}

#[test]
fn with_epoll_asked_for_or_by_default_nothing_is_said_of_rings() {
    let dir = tempfile::tempdir().unwrap();
    denied_rings(|| {
        for options in [&["--backend", "epoll"][..], &[]] {
            let (server, _) = serve(dir.path(), options);
            server.signal(rustix::process::Signal::TERM);
            assert_eq!(server.finish().stderr, "");
        }
    });
}
