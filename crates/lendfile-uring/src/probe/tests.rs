//! The probe on this machine, and its judgement on machines that are not at hand.

use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;
use crate::test_support::ring_or_skip;

fn judge_errno(step: &'static str, errno: Errno) -> Ability {
    judge(Err(failed(step, &errno.into())))
}

#[test]
fn this_machine_makes_a_ring_and_splices_through_it() {
    if ring_or_skip().is_none() {
        return;
    }
    let probe = probe();
    assert_eq!(probe.ring, Ability::Works);
    assert_eq!(probe.splice, Ability::Works);
    assert_eq!(probe.buffers, Ability::Works);
    assert_eq!(probe.workers, Ability::Works);
}

#[test]
fn a_denied_or_missing_io_uring_is_unavailable() {
    for errno in [Errno::PERM, Errno::ACCESS, Errno::NOSYS] {
        for step in [SETUP, ENTER] {
            assert!(
                matches!(judge_errno(step, errno), Ability::Unavailable(_)),
                "{step}: {errno:?}"
            );
        }
    }
}

#[test]
fn a_kernel_without_the_operation_or_the_bounded_wait_is_unavailable() {
    assert!(matches!(
        judge_errno(SPLICE, Errno::INVAL),
        Ability::Unavailable(_)
    ));
    let missing = Reason {
        step: "IORING_FEAT_EXT_ARG",
        cause: Cause::Missing,
    };
    assert_eq!(judge(Err(missing)), Ability::Unavailable(missing));
}

#[test]
fn exhaustion_and_unknown_errors_are_failures_not_unavailability() {
    for (step, errno) in [
        (SETUP, Errno::MFILE),
        (SETUP, Errno::NFILE),
        (SETUP, Errno::NOMEM),
        (SETUP, Errno::INVAL),
        (ENTER, Errno::AGAIN),
        ("pipe2", Errno::PERM),
        (SPLICE, Errno::IO),
    ] {
        assert!(
            matches!(judge_errno(step, errno), Ability::Failed(_)),
            "{step}: {errno:?}"
        );
    }
    for cause in [Cause::TimedOut(TIME_LIMIT), Cause::WrongBytes] {
        let reason = Reason {
            step: SPLICE,
            cause,
        };
        assert_eq!(judge(Err(reason)), Ability::Failed(reason));
    }
}

/// Set in the child that has no descriptor left.
const CHILD: &str = "LENDFILE_URING_TEST_CHILD";

#[test]
fn a_process_out_of_descriptors_gets_a_failure_with_emfile() {
    // The limit would hit the other tests of this process, so it is set in a child.
    if std::env::var_os(CHILD).is_some() {
        let maximum = getrlimit(Resource::Nofile).maximum;
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(0),
                maximum,
            },
        )
        .unwrap();
        let probe = probe();
        let emfile = failed(SETUP, &Errno::MFILE.into());
        assert_eq!(probe.ring, Ability::Failed(emfile));
        assert_eq!(probe.splice, Ability::Untried);
        return;
    }
    if ring_or_skip().is_none() {
        return;
    }
    let name = "probe::tests::a_process_out_of_descriptors_gets_a_failure_with_emfile";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "the child ran nothing: {text}");
}

#[test]
fn a_reason_reads_as_step_and_cause() {
    let text = judge_errno(SETUP, Errno::PERM).to_string();
    assert_eq!(
        text,
        "unavailable: io_uring_setup: Operation not permitted (os error 1)"
    );
}
