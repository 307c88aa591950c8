//! How attempts are judged, and that they notice what is wrong.

use super::*;

fn ability(name: &str) -> &'static Ability {
    ALL.iter().find(|ability| ability.name == name).unwrap()
}

fn judged(name: &str, errno: Errno) -> Outcome {
    ability(name).judge(Err(at("step")(errno)))
}

#[test]
fn a_known_refusal_is_a_no_with_its_cure() {
    let Outcome::Unavailable(trouble) = judged("openat2 cached", Errno::INVAL) else {
        panic!("not a refusal");
    };
    assert_eq!(trouble.errno, Some(22));
    assert_eq!(trouble.errno_name, Some("EINVAL"));
    assert_eq!(trouble.cure, Some("kernel >= 5.12"));
}

#[test]
fn an_unknown_errno_is_a_failure_and_never_a_no() {
    for ability in ALL {
        let outcome = judged(ability.name, Errno::IO);
        assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    }
}

#[test]
fn running_out_of_descriptors_is_a_failure_with_a_cure() {
    let Outcome::Failed(trouble) = judged(IO_URING, Errno::MFILE) else {
        panic!("not a failure");
    };
    assert!(trouble.cure.unwrap().contains("RLIMIT_NOFILE"));
}

#[test]
fn every_refusal_has_an_errno_with_a_name() {
    for ability in ALL {
        for (errno, _) in ability.refusals.iter().chain(EXHAUSTED) {
            let number = errno.raw_os_error();
            assert!(errno::name(number).is_some(), "{}: {number}", ability.name);
        }
    }
}

#[test]
fn the_rings_own_verdict_is_taken_over() {
    assert!(matches!(
        by_uring(lendfile_uring::Ability::Untried),
        Err(Setback::Untried(IO_URING))
    ));
    assert!(matches!(by_uring(lendfile_uring::Ability::Works), Ok(None)));
}

#[test]
fn a_refusals_errno_from_another_step_is_a_failure_without_that_cure() {
    let outcome = ability("ring splice").judge(Err(failed("pipe2")(Errno::NOSYS)));
    let Outcome::Failed(trouble) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(trouble.cure, None);
}

#[test]
fn bytes_that_differ_from_the_files_are_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let mut subject = Subject::open(directory.path()).unwrap();
    subject.bytes[0] ^= 1;
    for name in [
        "sendfile to TCP",
        "sendfile to UNIX",
        "splice to TCP",
        "splice to UNIX",
        "preadv2 nowait",
    ] {
        let outcome = ability(name).find_out(&subject).outcome;
        assert!(!matches!(outcome, Outcome::Works { note: None }), "{name}");
    }
}

#[test]
fn a_file_that_ends_early_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let mut subject = Subject::open(directory.path()).unwrap();
    subject.bytes.push(0);
    for name in ["sendfile to TCP", "splice to TCP"] {
        let Outcome::Failed(trouble) = ability(name).find_out(&subject).outcome else {
            panic!("{name}: not a failure");
        };
        assert_eq!(trouble.message, "the file ended early");
    }
}
