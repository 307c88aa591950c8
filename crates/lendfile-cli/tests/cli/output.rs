//! What `probe`, `--help` and `--version` print.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::command::{lendfile, run};

/// The standard output of a command that succeeds and has nothing to say on standard error.
fn printed(mut command: Command) -> String {
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    let finished = run(command);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(finished.stderr, "");
    finished.stdout
}

#[test]
fn the_probe_fits_a_terminal_of_80_columns() {
    let text = printed(lendfile(["probe"]));
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn the_probe_says_the_same_as_json() {
    let report: Value = serde_json::from_str(&printed(lendfile(["probe", "--json"]))).unwrap();
    let mut names = BTreeSet::new();
    for section in ["system", "abilities", "limits"] {
        let rows = report[section].as_array().expect("a list");
        assert!(!rows.is_empty(), "{section}");
        for row in rows {
            names.insert(row["name"].as_str().expect("a name").to_owned());
            let said = match section {
                "abilities" => &row["outcome"],
                _ => &row["type"],
            };
            assert!(said.is_string(), "{row}");
        }
    }
    // A row for people is indented by two, its continuations further.
    let text = printed(lendfile(["probe"]));
    let rows: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("  ").filter(|row| !row.starts_with(' ')))
        .collect();
    assert_eq!(rows.len(), names.len(), "{text}");
    for row in rows {
        let known = names.iter().any(|name| row.starts_with(name.as_str()));
        assert!(known, "{row}");
    }
}

#[test]
fn a_reader_of_the_probe_may_stop_reading() {
    let mut child = lendfile(["probe"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
}

#[test]
fn the_help_shows_how_it_is_used() {
    let text = printed(lendfile(["--help"]));
    assert!(text.contains("Examples:\n  lendfile serve ."), "{text}");
    let text = printed(lendfile(["serve", "--help"]));
    for option in [
        "HTTP/1.1 and HTTP/2, in clear or through TLS",
        "--listen",
        "--method",
        "--threads",
        "127.0.0.1:8080",
    ] {
        assert!(text.contains(option), "{option} is not in {text}");
    }
}

#[test]
fn the_version_is_the_packages() {
    let version = concat!("lendfile ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(printed(lendfile(["--version"])), version);
}
