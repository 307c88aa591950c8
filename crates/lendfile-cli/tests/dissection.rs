//! What the race's dissection finds of `lendfile serve`, under each of its tools. By itself, since a
//! server under valgrind needs the machine.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lendfile_bench::contest::{Contestant, Course, Lendfile, Plan};
use lendfile_bench::dissection::{self, Findings, Pages};
use lendfile_bench::files::TestFiles;
use lendfile_bench::network::Network;
use lendfile_tests::process::skip;

/// What a way of sending does with a file of 1 MiB.
fn dissect(method: &str) -> Findings {
    let network = Network::loopback("for a test").unwrap();
    let files = TestFiles::new().unwrap();
    let target = files.create(1 << 20).unwrap();
    let course = Course {
        network: &network,
        files: &files,
        targets: std::slice::from_ref(&target),
    };
    let mut plan = Plan::new();
    plan.connections = 2;
    plan.turn = Duration::from_millis(200);
    plan.warm_up = Duration::from_millis(50);
    let program = Path::new(env!("CARGO_BIN_EXE_lendfile"));
    let lendfile = Lendfile::new(program, method, Some("epoll"));
    let contestants: [&dyn Contestant; 1] = [&lendfile];
    let mut found = dissection::run(&course, "any", &plan, &contestants, &|_| None, &mut |_| ());
    found.rows.remove(0).findings.unwrap()
}

#[test]
fn every_tool_finds_what_sendfile_and_copying_do() {
    for tool in ["strace", "valgrind"] {
        if Command::new(tool).arg("--version").output().is_err() {
            return skip(tool, "it is not installed");
        }
    }
    let [sendfile, copy] = ["sendfile", "copy"].map(dissect);
    assert_eq!(sendfile.pages, Pages::Reference, "{sendfile:?}");
    assert_eq!(copy.pages, Pages::Copied, "{copy:?}");
    // The head goes by another call.
    assert!(sendfile.kernel_share > 0.99, "{sendfile:?}");
    assert!(sendfile.read_share < 0.01, "{sendfile:?}");
    assert!(copy.read_share > 0.99, "{copy:?}");
    for found in [&sendfile, &copy] {
        let instructions = found.instructions_per_answer;
        // A head has to be parsed and written, but nobody looks at the content.
        assert!(
            instructions.is_some_and(|count| (1e3..1e6).contains(&count)),
            "{found:?}"
        );
    }
}
