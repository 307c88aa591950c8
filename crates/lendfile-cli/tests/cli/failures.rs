//! How it fails: one line that says cause and cure, and exit code 1; wrong usage is exit code 2.
//! (What is wrong in files and variables is in `settings`, with certificates in `tls`.)

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use lendfile_tests::process::skip;

use crate::command::{Finished, Running, lendfile, run, serve};

/// A user who owns nothing ("nobody" nearly everywhere).
pub(crate) const UNPRIVILEGED: u32 = 65534;

/// Checks that it failed with one line, which contains all of `parts`.
#[track_caller]
fn assert_one_line(finished: &Finished, parts: &[&str]) {
    assert_line(1, finished, parts);
}

/// The same, with this exit code.
#[track_caller]
pub(crate) fn assert_line(code: i32, finished: &Finished, parts: &[&str]) {
    assert_eq!(finished.code, Some(code), "{finished:?}");
    assert_eq!(finished.stdout, "");
    let line = finished.stderr.strip_suffix('\n').expect("a whole line");
    assert!(!line.contains('\n'), "more than one line: {line}");
    let line = line.strip_prefix("lendfile: ").expect("the command's name");
    for part in parts {
        assert!(line.contains(part), "{part:?} is not in {line:?}");
    }
}

#[test]
fn a_directory_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let name = missing.to_str().unwrap();
    let serve = run(lendfile(["serve", "--listen", "127.0.0.1:0", name]));
    assert_one_line(
        &serve,
        &["cannot serve", name, "No such file", "check the spelling"],
    );
    let probe = run(lendfile(["probe", "--dir", name]));
    assert_one_line(
        &probe,
        &["cannot probe", name, "No such file", "check the spelling"],
    );
}

#[test]
fn a_file_instead_of_a_directory() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let name = file.path().to_str().unwrap();
    let cure = "name the directory that holds the file";
    let serve = run(lendfile(["serve", "--listen", "127.0.0.1:0", name]));
    assert_one_line(&serve, &["cannot serve", name, "Not a directory", cure]);
    let probe = run(lendfile(["probe", "--dir", name]));
    assert_one_line(&probe, &["cannot probe", name, "Not a directory", cure]);
}

#[test]
fn an_address_that_another_server_has() {
    let dir = tempfile::tempdir().unwrap();
    let strangers = TcpListener::bind("127.0.0.1:0").unwrap();
    // One that shares its port among its own threads must not share it with a second server.
    let (_server, ours) = serve(dir.path(), &["--threads", "2"]);
    for addr in [strangers.local_addr().unwrap(), ours] {
        for threads in ["1", "2"] {
            let mut command = lendfile(["serve", "--threads", threads]);
            command
                .args(["--listen", &addr.to_string()])
                .arg(dir.path());
            let parts = ["cannot listen on", &addr.to_string(), "in use", "--listen"];
            assert_one_line(&run(command), &parts);
        }
    }
}

#[test]
fn an_address_of_another_machine() {
    let dir = tempfile::tempdir().unwrap();
    // For documentation only (RFC 5737).
    let mut command = lendfile(["serve", "--listen", "192.0.2.1:0"]);
    command.arg(dir.path());
    assert_one_line(&run(command), &["cannot listen on 192.0.2.1:0", "0.0.0.0"]);
}

#[test]
fn more_threads_than_descriptors() {
    let dir = tempfile::tempdir().unwrap();
    for (threads, cause) in [("200", "cannot listen"), ("30", "cannot start the threads")] {
        let mut command = Command::new("sh");
        command
            .args(["-c", "ulimit -n 60 && exec \"$@\"", "sh"])
            .arg(env!("CARGO_BIN_EXE_lendfile"))
            .args(["serve", "--listen", "127.0.0.1:0", "--threads", threads])
            .arg(dir.path());
        let parts = [cause, "Too many open files", "--threads", "ulimit -n"];
        assert_one_line(&run(command), &parts);
    }
}

#[test]
fn a_privileged_port_without_the_privilege() {
    const WHAT: &str = "privileged-ports";
    let first_free = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if first_free.trim().parse::<u16>().unwrap() <= 1 {
        return skip(
            WHAT,
            "net.ipv4.ip_unprivileged_port_start leaves no port privileged",
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new(readable_by_all(dir.path()));
        command.uid(UNPRIVILEGED).gid(UNPRIVILEGED);
        command
    } else {
        if TcpListener::bind("127.0.0.1:1").is_ok() {
            return skip(WHAT, "this user may listen on port 1");
        }
        Command::new(env!("CARGO_BIN_EXE_lendfile"))
    };
    command
        .args(["serve", "--listen", "127.0.0.1:1"])
        .arg(dir.path());
    match Running::try_start(command) {
        Ok(running) => assert_one_line(
            &running.finish(),
            &[
                "cannot listen on 127.0.0.1:1",
                "denied",
                "privileged",
                "--listen",
            ],
        ),
        Err(error) => skip(WHAT, &format!("cannot run as user {UNPRIVILEGED}: {error}")),
    }
}

/// A copy of the binary in `dir` that other users may run, wherever the original is.
pub(crate) fn readable_by_all(dir: &Path) -> std::path::PathBuf {
    let copy = dir.join("lendfile");
    fs::copy(env!("CARGO_BIN_EXE_lendfile"), &copy).unwrap();
    for path in [dir, &copy] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    copy
}

#[test]
fn a_unix_socket_where_something_else_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "precious").unwrap();
    for path in [&file, dir.path()] {
        let listen = format!("unix:{}", path.display());
        let mut command = lendfile(["serve", "--listen", &listen]);
        command.arg(dir.path());
        let parts = ["cannot listen on", &listen, "exists and is no socket"];
        assert_one_line(&run(command), &parts);
    }
    assert_eq!(fs::read(&file).unwrap(), b"precious");
}

/// What clap cannot know is told by one line.
#[test]
fn what_cannot_be_on_any_machine_is_wrong_usage() {
    const CREDENTIALS: &str = "Access-Control-Allow-Credentials: true";
    const ANY: &str = "Access-Control-Allow-Origin: *";
    for (args, parts) in [
        (
            &["--backend", "epoll", "--method", "ring-hybrid"][..],
            &["--method ring-hybrid", "--backend uring", "sendfile"][..],
        ),
        (&["--tls-cert", "x"], &["--tls-cert needs --tls-key"]),
        (&["--tls-key", "x"], &["--tls-key needs --tls-cert"]),
        (
            &["--cache-control", "[a: no-cache"],
            &["--cache-control", "[a", "*.css"],
        ),
        (
            &["--cors", "--header", CREDENTIALS],
            &["--cors", "Credentials", "--header", "Allow-Origin"],
        ),
        (
            &["--cors", "--header", CREDENTIALS, "--header", ANY],
            &["--cors", "Credentials", "--header", "Allow-Origin"],
        ),
    ] {
        let mut command = lendfile(["serve", "--listen", "127.0.0.1:0", "."]);
        command.args(args);
        assert_line(2, &run(command), parts);
    }
}

#[test]
fn wrong_usage_is_exit_code_2_and_says_what_is_right() {
    for (args, parts) in [
        (
            &["serve", ".", "--method", "teleport"][..],
            &["teleport", "sendfile", "copy"][..],
        ),
        (&["serve", ".", "--frobnicate"], &["--frobnicate", "--help"]),
        (&["serve", ".", "--listen", "here"], &["here", "--listen"]),
        (
            &["serve", ".", "--threads", "0"],
            &["'0'", "--threads", "a whole number from 1 on"],
        ),
        (
            &["serve", ".", "--max-connections", "many"],
            &["'many'", "--max-connections", "from 1 on"],
        ),
        (
            &["serve", ".", "--http2-streams", "1k"],
            &["'1k'", "--http2-streams", "a whole number"],
        ),
        (
            &["serve", ".", "--rate-limit", "x"],
            &["'x'", "--rate-limit", "bytes per second", "10MB/s, or off"],
        ),
        (
            &["serve", ".", "--unsent-bytes", "x"],
            &["'x'", "--unsent-bytes", "64KiB", "or off"],
        ),
        (
            &["serve", ".", "--idle-timeout", "30"],
            &["'30'", "--idle-timeout", "30s", "or off"],
        ),
        (
            &["serve", ".", "--metrics", "here"],
            &["'here'", "--metrics", "127.0.0.1:9100"],
        ),
        (
            &["serve", ".", "--header", "a b: c"],
            &["'a b: c'", "--header", "Name: value"],
        ),
        (
            &["bench", "--methods", "nope"],
            &["'nope'", "--methods", "sendfile"],
        ),
        (
            &["bench", "--backend", "nope"],
            &["'nope'", "--backend", "uring"],
        ),
        (&["serve"], &["<DIR>"]),
        (&[], &["Usage: lendfile"]),
    ] {
        let finished = run(lendfile(args));
        assert_eq!(finished.code, Some(2), "{args:?}: {finished:?}");
        assert_eq!(finished.stdout, "", "{args:?}");
        for part in parts {
            assert!(finished.stderr.contains(part), "{args:?}: {finished:?}");
        }
        // The words of Rust's own types and of libraries.
        for part in [
            "non-zero",
            "ByteSize",
            "invalid digit",
            "HTTP header",
            "socket address",
        ] {
            assert!(!finished.stderr.contains(part), "{args:?}: {finished:?}");
        }
    }
}
