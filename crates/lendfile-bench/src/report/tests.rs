//! What reports say, and that their JSON is described.

use super::*;
use crate::contest::{Role, Row, Standing};

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
