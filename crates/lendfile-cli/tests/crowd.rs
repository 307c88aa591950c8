//! Crowds and long runs, small ones: `crowd` in the benches sends large ones and has the strict
//! bounds. The tests take turns, since each wants the machine for itself.
#![forbid(unsafe_code)]

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lendfile_bench::crowd::{self, Attack, Holdings, Kind, Probes, Program};

/// Far above what a probe waits for, however busy the machine, and far below any clock.
const PROBE_BOUND: Duration = Duration::from_secs(2);

/// What memory may grow by: a leak per request or connection would take many times as much.
const MEMORY_SLACK: u64 = 16 << 20;

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn program() -> Program {
    Program::new(env!("CARGO_BIN_EXE_lendfile"))
}

#[test]
fn attackers_are_cut_by_their_clocks_and_others_do_not_notice() {
    let _turn = turn();
    let clock = Duration::from_secs(2);
    let attack = Attack {
        each: 100,
        time: Duration::from_secs(8),
        arrival: Duration::ZERO,
        clock,
    };
    let assault = crowd::attack(&program(), &attack).unwrap();
    let probes: &Probes = &assault.probes;
    let worst = probes.quantile(1.0).expect("probes");
    assert!(worst < PROBE_BOUND, "a probe waited for {worst:?}");
    assert_eq!(probes.failed, 0);
    for kind in [Kind::SlowHead, Kind::SlowReader] {
        let ends = assault.ends[kind as usize];
        assert!(ends.ended >= 100, "{kind:?}: {ends:?}");
        assert!(ends.soonest.unwrap() >= clock, "{kind:?}: {ends:?}");
    }
    let (before, after) = (assault.before, assault.after);
    assert!(
        assault.rid_of_all_after.is_some(),
        "some outlived every clock: {before:?} {after:?}"
    );
    assert!(after.resident_bytes <= before.resident_bytes + MEMORY_SLACK);
    assert!(after.threads <= before.threads);
}

#[test]
fn many_idle_and_stalled_connections_hold_little_memory_no_pipe_and_no_thread() {
    let _turn = turn();
    let splice = program().with(["--method", "splice"]);
    for (what, crowd) in [
        ("idle", crowd::idle(&program(), 500)),
        ("stalled", crowd::stalled(&program(), 500)),
        ("stalled, splice", crowd::stalled(&splice, 500)),
    ] {
        let crowd = crowd.unwrap();
        let each = crowd.private_bytes_each();
        assert!(each <= 16 << 10, "{what}: {each} bytes each");
        assert!(crowd.during.pipes <= crowd.before.pipes, "{what}");
        assert!(crowd.during.threads <= crowd.before.threads, "{what}");
        // With splice a thread keeps /dev/null open, to empty its pipes into.
        let kept = crowd.before.threads;
        let (before, after) = (crowd.before.descriptors, crowd.after.descriptors);
        assert!(after <= before + kept, "{what}: {after} after {before}");
    }
}

#[test]
fn a_killed_servers_port_can_be_had_at_once() {
    let _turn = turn();
    let restarts = crowd::restart(&program(), 3).unwrap();
    assert_eq!(restarts.until_answered.len(), 3);
}

#[test]
fn nothing_grows_and_no_byte_is_wrong_while_files_are_replaced() {
    let _turn = turn();
    let soaked = crowd::soak(&program(), Duration::from_secs(10)).unwrap();
    assert_eq!(soaked.wrong, 0, "{:#?}", soaked.complaints);
    assert!(soaked.responses > 0 && soaked.aborted > 0, "{soaked:?}");
    let [early, end] = soaked.at_rest;
    assert_flat(&early, &end);
}

#[test]
fn a_long_run_does_not_slow_down() {
    let _turn = turn();
    let steady = crowd::steady(&program(), Duration::from_secs(12)).unwrap();
    assert_eq!(steady.wrong, 0, "{:#?}", steady.complaints);
    let (last, first) = steady.last_and_first().unwrap();
    // Two seconds for a sixth are short; what degrades with each request takes far more.
    assert!(last > first / 2.0, "{:?}", steady.sixths);
    let [early, end] = [&steady.sixths[0], &steady.sixths[5]].map(|sixth| &sixth.holdings);
    assert!(end.resident_bytes <= early.resident_bytes + MEMORY_SLACK);
}

fn assert_flat(early: &Holdings, end: &Holdings) {
    assert!(
        end.descriptors <= early.descriptors + 8,
        "{early:?} {end:?}"
    );
    assert!(end.mappings <= early.mappings + 8, "{early:?} {end:?}");
    assert!(
        end.private_bytes <= early.private_bytes + MEMORY_SLACK,
        "{early:?} {end:?}"
    );
}
