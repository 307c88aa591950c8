//! Contests between servers that do wrong, and one that does not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;

use super::*;
use crate::server::Address;

/// What a contestant does with a request, given how many there were before.
type Answer = fn(content: &[u8], before: usize) -> Vec<u8>;

/// A server of this process, with a child that only lives.
struct Scripted {
    name: &'static str,
    role: Role,
    answer: Answer,
    requests: Arc<AtomicUsize>,
}

impl Contestant for Scripted {
    fn name(&self) -> &str {
        self.name
    }

    fn role(&self) -> Role {
        self.role
    }

    fn launch(&self, site: &Site<'_>) -> Result<Launch> {
        let content = std::fs::read(site.directory.join(&site.targets[0].name)).unwrap();
        let address = serve(content, self.answer, Arc::clone(&self.requests));
        let mut command = std::process::Command::new("sh");
        command.args([
            "-c",
            &format!("echo listening on http://{address}; exec sleep 60"),
        ]);
        Ok(Launch {
            command,
            address: Address::Announced,
        })
    }
}

fn serve(content: Vec<u8>, answer: Answer, requests: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (content, requests) = (content.clone(), Arc::clone(&requests));
            thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut request = [0; 1024];
                while stream.read(&mut request).is_ok_and(|count| count > 0) {
                    let answer = answer(&content, requests.fetch_add(1, Ordering::Relaxed));
                    if answer.is_empty() || stream.write_all(&answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn right(content: &[u8], _: usize) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
        content.len()
    );
    [head.as_bytes(), content].concat()
}

fn zeros(content: &[u8], before: usize) -> Vec<u8> {
    right(&vec![0; content.len()], before)
}

fn short(content: &[u8], before: usize) -> Vec<u8> {
    right(&content[1..], before)
}

/// Right for the checking round and the warm-up's beginning, then gone.
fn crash(content: &[u8], before: usize) -> Vec<u8> {
    if before < 4 {
        right(content, before)
    } else {
        Vec::new()
    }
}

struct NotInstalled;

impl Contestant for NotInstalled {
    fn name(&self) -> &'static str {
        "absent"
    }

    fn launch(&self, _: &Site<'_>) -> Result<Launch> {
        Err(Error::unavailable("not installed; apt-get install absent"))
    }
}

fn scripted(name: &'static str, role: Role, answer: Answer) -> Scripted {
    Scripted {
        name,
        role,
        answer,
        requests: Arc::default(),
    }
}

fn plan() -> Plan {
    let mut plan = Plan::new();
    plan.connections = 2;
    plan.rounds = 2;
    // On a busy machine, too, everybody gets to answer.
    plan.turn = Duration::from_millis(200);
    plan.warm_up = Duration::from_millis(10);
    plan
}

fn contest(contestants: &[&dyn Contestant], against: &[&str], stop_after: usize) -> Standings {
    let network = Network::loopback("for a test").unwrap();
    let files = TestFiles::new().unwrap();
    let target = files.create(5000).unwrap();
    let stop = AtomicBool::new(false);
    let course = Course {
        network: &network,
        files: &files,
        targets: std::slice::from_ref(&target),
    };
    let against: Vec<_> = against.iter().map(|&name| name.to_owned()).collect();
    run(
        &course,
        &plan(),
        contestants,
        &against,
        &stop,
        &mut |progress| {
            stop.store(progress.done >= stop_after, Ordering::Relaxed);
        },
    )
}

fn reason(standing: &Standing) -> (&'static str, &str) {
    match standing {
        Standing::Failed { reason } => ("failed", reason),
        Standing::Measured(_) => ("measured", ""),
        Standing::Skipped { reason } => ("skipped", reason),
    }
}

#[test]
fn whoever_answers_wrongly_or_dies_is_out_and_the_others_go_on() {
    let standings = contest(
        &[
            &scripted("right", Role::Limit, right),
            &scripted("zeros", Role::Rival, zeros),
            &scripted("short", Role::Rival, short),
            &scripted("crash", Role::Rival, crash),
            &NotInstalled,
        ],
        &[],
        usize::MAX,
    );
    let results: Vec<_> = standings
        .rows
        .iter()
        .map(|row| reason(&row.result))
        .collect();
    let expected = [
        ("measured", ""),
        ("failed", "wrong SHA-256"),
        ("failed", "not 5000 bytes"),
        ("failed", "closed the connection"),
        ("skipped", "apt-get install absent"),
    ];
    for ((how, why), (expected_how, part)) in results.into_iter().zip(expected) {
        assert_eq!(how, expected_how, "{why}");
        assert!(why.contains(part), "{part:?} is not in {why:?}");
    }
    assert_eq!(standings.references, ["right"]);
    let Standing::Measured(figures) = &standings.rows[0].result else {
        panic!("{standings:?}")
    };
    assert_eq!(figures.rounds.len(), 2);
    assert_eq!(figures.comparisons[0].speed.unwrap().median, 1.0);
}

#[test]
fn contestants_can_be_held_against_others_by_name() {
    let (one, other) = (
        scripted("one", Role::Limit, right),
        scripted("other", Role::Rival, right),
    );
    let standings = contest(&[&one, &other], &["other", "nobody", "one"], usize::MAX);
    assert_eq!(standings.references, ["other", "one"]);
    let Standing::Measured(figures) = &standings.rows[1].result else {
        panic!("{standings:?}")
    };
    assert_eq!(figures.comparisons.len(), 2);
    assert_eq!(figures.comparisons[0].speed.unwrap().median, 1.0);
}

#[test]
fn a_contest_that_is_stopped_keeps_what_it_has() {
    let (one, other) = (
        scripted("one", Role::Limit, right),
        scripted("other", Role::Rival, right),
    );
    // Stopped while the first has its first round, after two starts and two warm-ups.
    let standings = contest(&[&one, &other], &[], 4);
    let results: Vec<_> = standings
        .rows
        .iter()
        .map(|row| reason(&row.result))
        .collect();
    assert_eq!(results[0].0, "measured");
    assert_eq!(results[1], ("skipped", "stopped before its first round"));
}
