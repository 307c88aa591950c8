//! The probe on this machine.

use std::collections::HashSet;
use std::fs;

use super::report::{Outcome, Value};
use super::*;

fn outcome<'a>(report: &'a Report, name: &str) -> &'a Outcome {
    let finding = report.abilities.iter().find(|finding| finding.name == name);
    &finding.unwrap().outcome
}

#[test]
fn the_probe_runs_here_and_every_row_has_an_outcome() {
    let directory = tempfile::tempdir().unwrap();
    let report = collect(directory.path()).unwrap();

    let names: HashSet<_> = report
        .abilities
        .iter()
        .map(|finding| finding.name)
        .collect();
    assert_eq!(names.len(), abilities::ALL.len(), "a name is there twice");
    // Whatever else a sandbox denies, there is no machine to test lendfile on without these.
    for name in [
        "sendfile to TCP",
        "sendfile to UNIX",
        "splice to TCP",
        "splice to UNIX",
    ] {
        let outcome = outcome(&report, name);
        assert!(
            matches!(outcome, Outcome::Works { .. }),
            "{name}: {outcome:?}"
        );
    }
    // A "no" is an answer; a failure is not.
    for finding in &report.abilities {
        assert!(
            !matches!(finding.outcome, Outcome::Failed(_)),
            "{finding:?}"
        );
    }
    let text = render::human(&report);
    for finding in &report.abilities {
        assert!(text.contains(finding.name), "{text}");
    }
    render::json(&report).unwrap();
}

#[test]
#[allow(
    clippy::print_stderr,
    reason = "a skipped test has to say so, and libtest has no other channel"
)]
fn io_uring_works_where_it_is_required() {
    let required = std::env::var("LENDFILE_REQUIRE")
        .is_ok_and(|list| list.split(',').any(|word| word.trim() == "uring"));
    let report = collect(Path::new(".")).unwrap();
    for name in ["io_uring", "ring splice", "ring workers", "ring buffers"] {
        let outcome = outcome(&report, name);
        let works = matches!(outcome, Outcome::Works { .. });
        assert!(works || !required, "{name}: {outcome:?}");
        if !works {
            eprintln!("skipped: {name}: {outcome:?}");
        }
    }
}

#[test]
fn landlock_is_told_with_its_version_and_this_thread_stays_free() {
    let directory = tempfile::tempdir().unwrap();
    let report = collect(directory.path()).unwrap();
    match outcome(&report, "Landlock") {
        Outcome::Works { note: Some(note) } => assert!(
            note.starts_with("ABI ") && note.contains("--sandbox"),
            "{note}"
        ),
        Outcome::Unavailable(trouble) => {
            assert!(trouble.cure.is_some_and(|cure| cure.contains("--sandbox")));
        }
        other => panic!("{other:?}"),
    }
    fs::write(directory.path().join("file"), b"as before").unwrap();
}

#[test]
fn a_file_that_is_there_is_preferred_and_the_directory_is_left_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let entries = || fs::read_dir(directory.path()).unwrap().count();

    let subject = Subject::open(directory.path()).unwrap();
    assert_eq!(subject.bytes.len(), 8192);
    assert_eq!(entries(), 0);

    fs::write(directory.path().join("empty"), b"").unwrap();
    fs::write(directory.path().join("short"), b"short").unwrap();
    let report = collect(directory.path()).unwrap();
    let file = report
        .system
        .iter()
        .find(|fact| fact.name == "file")
        .unwrap();
    assert_eq!(file.value, Value::Text("\"short\", found there".to_owned()));
    assert_eq!(entries(), 2);
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let error = collect(&directory.path().join("missing")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}
