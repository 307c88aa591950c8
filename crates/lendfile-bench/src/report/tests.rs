//! What reports say, and that their JSON is described.

use std::time::Duration;

use super::*;
use crate::contest::{Comparison, Disturbance, Figures, Role, Round, Row, Standing};
use crate::dissection::{self, Pages};
use crate::process::Usage;

mod page;

fn table(rows: Vec<Row>) -> Table {
    Table {
        conditions: Conditions {
            congestion_control: "cubic".to_owned(),
            files: 1,
            file_bytes: 1 << 20,
            total_bytes: 1 << 20,
            connections: 8,
            protocol: "http/1.1",
            bodies: "discarded",
            temperature: Temperature::Warm,
            rounds: 5,
            turn_seconds: 0.5,
        },
        standings: Standings {
            references: vec!["limit".to_owned()],
            rows,
        },
    }
}

#[test]
fn a_failed_contestant_keeps_its_line_and_its_cell() {
    let text = table(vec![Row {
        name: "nobody".to_owned(),
        role: Role::Rival,
        result: Standing::Failed {
            reason: "a|b\nc".to_owned(),
        },
    }])
    .to_markdown();
    let heading = "### 1 MiB, 8 connections, cubic, 5 rounds of 0.5 s\n";
    assert!(text.starts_with(heading), "{text}");
    assert!(
        text.ends_with("| nobody | **failed**: a\\|b c |\n"),
        "{text}"
    );
}

#[test]
fn one_round_is_not_many() {
    let mut conditions = table(Vec::new()).conditions;
    conditions.rounds = 1;
    assert_eq!(conditions.rounds(), "1 round of 0.5 s");
    conditions.temperature = Temperature::Cold;
    assert_eq!(conditions.rounds(), "1 round, each file once");
}

#[test]
fn lengths_are_named_by_the_largest_unit() {
    assert_eq!(size(1 << 30), "1 GiB");
    assert_eq!(size(3 << 20), "3 MiB");
    assert_eq!(size((1 << 20) + (1 << 19)), "1.5 MiB");
    assert_eq!(size(1023), "1023 B");
    assert_eq!(size(0), "0 B");
}

#[test]
fn the_command_line_can_be_repeated_and_does_not_name_the_programs_directory() {
    let arguments = ["/somewhere/target/race", "--only", "bare memory"].map(str::to_owned);
    assert_eq!(
        command_line(arguments.into_iter()),
        "race --only 'bare memory'"
    );
}

#[test]
fn the_machine_has_a_kernel_and_memory() {
    let machine = Machine::this();
    assert!(
        machine.kernel.contains('.') && machine.memory_bytes > 0,
        "{machine:?}"
    );
}

#[test]
fn figures_are_rounded_and_counts_are_not() {
    let mut value = serde_json::json!({"a": [1.234_567_89, 0.000_123_456_7], "b": 1_234_567_u64});
    round(&mut value);
    assert_eq!(
        value.to_string(),
        r#"{"a":[1.2346,0.00012346],"b":1234567}"#
    );
}

/// A report with everything that a report can have.
fn example() -> Report {
    let row = |name: &str, role, result| Row {
        name: name.to_owned(),
        role,
        result,
    };
    let mut tables: Vec<Table> = [Temperature::Warm, Temperature::Cold]
        .map(|temperature| {
            let stall = match temperature {
                Temperature::Cold => 7,
                Temperature::Warm => 0,
            };
            let mut table = table(vec![
                row("limit", Role::Limit, measured(6.0, 0)),
                row("lendfile epoll sendfile", Role::Rival, measured(5.9, stall)),
                row(
                    "lendfile uring ring-hybrid",
                    Role::Rival,
                    measured(5.0, stall),
                ),
                row("bare sendfile+cork", Role::Rival, measured(5.5, 0)),
                row("tower-http ServeDir", Role::Rival, measured(0.3, 0)),
                row("nginx", Role::Rival, measured(5.1, 0)),
                row(
                    "<script>",
                    Role::Rival,
                    Standing::Failed {
                        reason: "1 bytes with the wrong <SHA-256>".to_owned(),
                    },
                ),
                row(
                    "absent",
                    Role::Rival,
                    Standing::Skipped {
                        reason: "not installed".to_owned(),
                    },
                ),
            ]);
            table.conditions.temperature = temperature;
            table
        })
        .into();
    tables[1].conditions.protocol = "h2c";
    let mut report = Report::begin("two network namespaces, veth, MTU 1500");
    report
        .notes
        .push("left out: congestion control bbr".to_owned());
    report.tables = tables;
    report.dissections.push(Dissection {
        file_bytes: 1 << 20,
        connections: 8,
        congestion_control: "cubic".to_owned(),
        rows: vec![
            dissection::Row {
                name: "bare sendfile".to_owned(),
                article: Some("0–1".to_owned()),
                findings: Ok(dissection::Findings {
                    pages: Pages::Reference,
                    read_share: 0.0,
                    written_share: 0.01,
                    kernel_share: 1.0,
                    instructions_per_answer: Some(23_000.0),
                    instructions_missing: None,
                    calls_per_mib: 4.0,
                    calls: vec![("sendfile".to_owned(), 2.0), ("epoll_wait".to_owned(), 1.0)],
                    switches_per_mib: 0.01,
                    faults_per_mib: 0.0,
                    processor_seconds_per_gib: 0.2,
                }),
            },
            dissection::Row {
                name: "nobody".to_owned(),
                article: None,
                findings: Err("not installed".to_owned()),
            },
        ],
    });
    report
}

fn measured(speed: f64, stall: u64) -> Standing {
    let round = |share: f64| Round {
        bytes: 1_000_000_000,
        requests: 100,
        seconds: 1.0 / (speed * share),
        usage: Usage {
            user: Duration::from_millis(100),
            system: Duration::from_secs_f64(3.0 / speed),
            ..Usage::default()
        },
        disturbance: Disturbance::default(),
        stall: Duration::from_millis(stall),
    };
    let rounds = vec![round(0.9), round(1.0), round(1.1)];
    let ratio = crate::rounds::ratio(&[0.9, 1.0, 1.1], &[1.0, 1.0, 1.0]);
    Standing::Measured(Box::new(Figures {
        gigabytes_per_second: speed,
        requests_per_second: speed * 1e3,
        processor_seconds_per_gib: rounds[1].processor_seconds_per_gib(),
        switches_per_gib: 10.0,
        latency_median_micros: Some(1234.0),
        latency_p99_micros: None,
        peak_resident_bytes: 5 << 20,
        faults_per_gib: 3.0,
        stall_millis: (stall > 0).then_some(7.0),
        comparisons: vec![Comparison {
            speed: ratio,
            processor: ratio,
        }],
        disturbance: Disturbance::default(),
        rounds,
    }))
}

#[test]
fn every_field_of_the_json_is_described() {
    fn keys(value: &Value, found: &mut std::collections::BTreeSet<String>) {
        match value {
            Value::Array(values) => values.iter().for_each(|value| keys(value, found)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    found.insert(name.clone());
                    keys(value, found);
                }
            }
            _ => {}
        }
    }
    let described = include_str!("../../REPORT.md");
    let mut found = std::collections::BTreeSet::new();
    keys(
        &serde_json::from_str(&example().to_json()).unwrap(),
        &mut found,
    );
    assert!(found.len() > 60, "{found:?}");
    for name in found {
        assert!(described.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn the_verdict_names_the_winner_and_who_is_within_the_noise() {
    let report = example();
    let verdict = report.tables[0].verdict().unwrap();
    assert!(
        verdict.starts_with("Fastest: limit, 6.00 GB/s"),
        "{verdict}"
    );
    // Each round's ratio is the same, so even 2 % are no noise.
    assert!(
        verdict.contains("1.02× lendfile epoll sendfile, the next."),
        "{verdict}"
    );
    assert_eq!(table(Vec::new()).verdict(), None);
}

#[test]
fn a_picture_stands_alone() {
    let svg = example().to_svg(0);
    assert!(svg.starts_with("<svg ") && svg.contains("<style>"), "{svg}");
    assert_eq!(
        svg.matches("<rect").count(),
        6,
        "a bar for each who was measured"
    );
}
