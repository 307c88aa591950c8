//! `lendfile bench`: what it prints, what it writes, how it fails. Turns are too short here for the
//! figures to mean anything.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use lendfile_tests::content;
use lendfile_tests::process::{eventually, skip};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;

use crate::command::{Finished, Running, lendfile, run};
use crate::failures::{UNPRIVILEGED, readable_by_all};

/// Two rounds of almost nothing, unless the options say otherwise.
fn bench(options: &[&str]) -> Command {
    let mut command = lendfile(["bench", "--conns", "2"]);
    for (name, value) in [("--rounds", "2"), ("--seconds", "0.05")] {
        if !options.contains(&name) {
            command.args([name, value]);
        }
    }
    command.args(options);
    command
}

/// A comparison of two methods under way.
fn two_methods(options: &[&str]) -> Running {
    let mut command = bench(options);
    command.args(["--sizes", "64k", "--methods", "auto,copy"]);
    command.args(["--backend", "epoll"]);
    Running::start(command)
}

fn finish(options: &[&str]) -> Finished {
    run(bench(options))
}

#[test]
fn the_table_names_every_way_and_the_fastest_within_80_columns() {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("report.json");
    let mut command = bench(&["--sizes", "1k,100k", "--methods", "all", "--json"]);
    command.arg(&json);
    let finished = run(command);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    for part in [
        "1 KiB, 2 connections",
        "100 KiB, 2 connections",
        "sendfile",
        "copy",
    ] {
        assert!(finished.stdout.contains(part), "{part}: {finished:?}");
    }
    assert_eq!(finished.stdout.matches("Fastest: lendfile ").count(), 2);
    for line in finished.stdout.lines() {
        let prose = line.starts_with("Fastest") || line.starts_with("Disturbed");
        assert!(prose || line.chars().count() <= 80, "{line}");
    }
    let report: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    assert_eq!(report["schema"], 1);
    let tables = report["tables"].as_array().unwrap();
    assert_eq!(tables.len(), 2);
    for row in tables[0]["rows"].as_array().unwrap() {
        let figures = &row["result"]["measured"];
        assert!(
            figures["gigabytes_per_second"].as_f64().unwrap() > 0.0,
            "{row}"
        );
        assert_eq!(figures["rounds"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn a_directory_of_ones_own_is_measured_and_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    for (name, len) in [("a", 5000), ("b", 70_000)] {
        content::write(&dir.path().join(name), len, len).unwrap();
    }
    let name = dir.path().to_str().unwrap();
    let finished = finish(&["--dir", name, "--methods", "auto,copy"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(
        finished.stdout.contains("2 files, 73.2 KiB in all"),
        "{finished:?}"
    );
    let finished = finish(&["--dir", name, "--sizes", "4k", "--methods", "auto"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        2,
        "nothing is left behind"
    );
}

#[test]
fn http2_is_measured_too() {
    let finished = finish(&["--sizes", "64k", "--methods", "auto", "--h2"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stdout.contains("h2c"), "{finished:?}");
}

#[test]
fn cold_files_show_how_long_the_thread_was_blocked() {
    // Where this crate is built there is a disk's filesystem; temporary files may be in memory.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let name = dir.path().to_str().unwrap();
    let finished = finish(&[
        "--dir",
        name,
        "--sizes",
        "2m",
        "--cold",
        "--methods",
        "copy",
    ]);
    if finished.code == Some(1) && finished.stdout.contains("cannot say what is cached") {
        return skip("cold", &finished.stdout);
    }
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stdout.contains("stall"), "{finished:?}");
}

#[test]
fn a_way_that_is_missing_here_is_one_line_and_the_rest_goes_on() {
    let finished = finish(&[
        "--sizes",
        "1k",
        "--methods",
        "copy,ring-hybrid",
        "--backend",
        "epoll",
    ]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(
        finished
            .stderr
            .contains("left out: method ring-hybrid is not to be had"),
        "{finished:?}"
    );
    assert!(
        finished.stdout.contains("Fastest: lendfile"),
        "{finished:?}"
    );
    let finished = finish(&["--sizes", "1k", "--methods", "copy", "--cc", "nonesuch"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(
        finished
            .stderr
            .contains("left out: congestion control nonesuch"),
        "{finished:?}"
    );
}

#[test]
fn a_directory_that_cannot_be_used_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().to_str().unwrap();
    let missing = dir.path().join("missing");
    let missing = missing.to_str().unwrap();
    for (options, parts) in [
        (
            &["--dir", missing][..],
            &["cannot measure in", missing, "No such file"][..],
        ),
        (
            &["--dir", missing, "--sizes", "1k"],
            &["cannot measure in", missing, "No such file"],
        ),
        (&["--dir", empty], &["no readable file", "--sizes"]),
    ] {
        let finished = finish(options);
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
        for part in parts {
            assert!(finished.stderr.contains(part), "{part}: {finished:?}");
        }
    }
}

#[test]
fn a_server_that_dies_is_shown_and_the_others_go_on() {
    let mut running = two_methods(&["--seconds", "1", "--rounds", "3"]);
    let victim = server_of(&mut running);
    kill_process(victim, Signal::KILL).unwrap();
    let finished = running.finish();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert_eq!(
        finished.stdout.matches("failed: ").count(),
        1,
        "{finished:?}"
    );
    assert!(finished.stdout.contains("signal: 9"), "{finished:?}");
    assert!(
        finished.stdout.contains("Fastest: lendfile"),
        "{finished:?}"
    );
}

#[test]
fn ctrl_c_prints_what_there_is() {
    let mut running = two_methods(&["--seconds", "0.2", "--rounds", "100000"]);
    let server = server_of(&mut running);
    // It has been measured once its turns have taken processor time.
    eventually("the server has had its turns", || ticks(server) > 60);
    running.signal(Signal::INT);
    let finished = running.finish();
    assert_eq!(finished.code, Some(130), "{finished:?}");
    assert!(
        finished.stdout.contains("Fastest: lendfile"),
        "{finished:?}"
    );
    let process = format!("/proc/{}", server.as_raw_nonzero());
    assert!(
        !std::path::Path::new(&process).exists(),
        "the server has ended"
    );
}

#[test]
fn an_unprivileged_user_gets_a_network_of_their_own_or_is_told_why_not() {
    if !geteuid().is_root() {
        // Then all of the tests above are about that user.
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let program = readable_by_all(dir.path());
    let files = dir.path().join("files");
    fs::create_dir(&files).unwrap();
    content::write(&files.join("file"), 1, 9000).unwrap();
    fs::set_permissions(&files, Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(program);
    command
        .args([
            "bench",
            "--rounds",
            "2",
            "--seconds",
            "0.05",
            "--methods",
            "auto",
            "--dir",
        ])
        .arg(&files)
        .uid(UNPRIVILEGED)
        .gid(UNPRIVILEGED);
    let finished = run(command);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    if finished.stderr.contains("loopback (") {
        skip("userns", &finished.stderr);
    } else {
        assert!(
            finished.stderr.contains("two network namespaces"),
            "{finished:?}"
        );
    }

    let secret = dir.path().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::set_permissions(&secret, Permissions::from_mode(0o700)).unwrap();
    let mut command = Command::new(dir.path().join("lendfile"));
    command
        .args(["bench", "--loopback", "--dir"])
        .arg(&secret)
        .uid(UNPRIVILEGED)
        .gid(UNPRIVILEGED);
    let finished = run(command);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
    assert!(
        finished.stderr.contains("Permission denied"),
        "{finished:?}"
    );
}

/// A server that the command has started.
fn server_of(running: &mut Running) -> Pid {
    let mut found = None;
    let parent = running.pid();
    eventually("a server is started", || {
        found = children(parent).into_iter().find(|pid| {
            let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
            line.is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == b"serve"))
        });
        found.is_some()
    });
    found.expect("found")
}

fn children(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero().to_string();
    let stats = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // After the name in parentheses: state, parent.
            let (_, rest) = stat.rsplit_once(')')?;
            (rest.split_whitespace().nth(1)? == parent).then(|| Pid::from_raw(pid))?
        });
    stats.collect()
}

/// Processor time that a process has used, in ticks.
fn ticks(pid: Pid) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let stat = stat.unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields = fields.split_whitespace().skip(11).take(2);
    fields.flat_map(str::parse::<u64>).sum()
}
