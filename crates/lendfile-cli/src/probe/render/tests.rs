//! Rendering a report that was made up.

use super::*;

fn made_up() -> Report {
    let fact = |name, value| Fact { name, value };
    let finding = |name, outcome| Finding { name, outcome };
    Report {
        system: vec![
            fact("kernel", Value::Text("Linux 6.1.0 x86_64".to_owned())),
            fact("page size", Value::Bytes(16384)),
        ],
        abilities: vec![
            finding("sendfile", Outcome::Works { note: None }),
            finding(
                "pipe",
                Outcome::Works {
                    note: Some("granted 1048576 bytes".to_owned()),
                },
            ),
            finding(
                "io_uring",
                Outcome::Unavailable(Trouble {
                    step: "io_uring_setup",
                    errno: Some(1),
                    errno_name: Some("EPERM"),
                    message: "Operation not permitted (os error 1)".to_owned(),
                    cure: Some(
                        "sysctl kernel.io_uring_disabled=0, and a seccomp profile that allows it",
                    ),
                }),
            ),
            finding(
                "preadv2",
                Outcome::Failed(Trouble {
                    step: "preadv2",
                    errno: None,
                    errno_name: None,
                    message: "it read other bytes than pread".to_owned(),
                    cure: None,
                }),
            ),
            finding("ring splice", Outcome::Untried { needs: "io_uring" }),
        ],
        limits: vec![
            fact("locked memory", Value::Unlimited),
            fact("fs.pipe-max-size", Value::Bytes(1 << 20)),
            fact("vm.max_map_count", Value::Count(65530)),
            fact(
                "kernel.io_uring_disabled",
                Value::Unknown("gone".to_owned()),
            ),
        ],
    }
}

#[test]
fn people_get_aligned_columns_within_eighty_characters() {
    let expected = "\
System
  kernel     Linux 6.1.0 x86_64
  page size  16 KiB

Abilities (each was tried)
  sendfile     yes
  pipe         yes    granted 1048576 bytes
  io_uring     no     io_uring_setup: EPERM (1)
                      needs: sysctl kernel.io_uring_disabled=0, and a seccomp
                      profile that allows it
  preadv2      error  preadv2: it read other bytes than pread
  ring splice  -      not tried: needs io_uring

Limits
  locked memory             unlimited
  fs.pipe-max-size          1 MiB
  vm.max_map_count          65530
  kernel.io_uring_disabled  unknown: gone
";
    let text = human(&made_up());
    assert_eq!(text, expected, "\n{text}");
    assert!(text.lines().all(|line| line.chars().count() <= COLUMNS));
}

#[test]
fn programs_get_every_outcome_and_value_with_its_type() {
    let expected = serde_json::json!({
        "system": [
            {"name": "kernel", "type": "text", "value": "Linux 6.1.0 x86_64"},
            {"name": "page size", "type": "bytes", "value": 16384},
        ],
        "abilities": [
            {"name": "sendfile", "outcome": "works"},
            {"name": "pipe", "outcome": "works", "note": "granted 1048576 bytes"},
            {
                "name": "io_uring",
                "outcome": "unavailable",
                "step": "io_uring_setup",
                "errno": 1,
                "errno_name": "EPERM",
                "message": "Operation not permitted (os error 1)",
                "cure": "sysctl kernel.io_uring_disabled=0, and a seccomp profile that allows it",
            },
            {
                "name": "preadv2",
                "outcome": "failed",
                "step": "preadv2",
                "errno": null,
                "errno_name": null,
                "message": "it read other bytes than pread",
                "cure": null,
            },
            {"name": "ring splice", "outcome": "untried", "needs": "io_uring"},
        ],
        "limits": [
            {"name": "locked memory", "type": "unlimited"},
            {"name": "fs.pipe-max-size", "type": "bytes", "value": 1048576},
            {"name": "vm.max_map_count", "type": "count", "value": 65530},
            {"name": "kernel.io_uring_disabled", "type": "unknown", "value": "gone"},
        ],
    });
    let text = json(&made_up()).unwrap();
    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(parsed, expected);
    assert!(text.ends_with("}\n"));
}

#[test]
fn an_errno_without_a_known_name_is_shown_in_words() {
    let trouble = Trouble {
        step: "splice",
        errno: Some(512),
        errno_name: None,
        message: "Unknown error 512 (os error 512)".to_owned(),
        cure: None,
    };
    assert_eq!(
        explain(&trouble),
        ["splice: Unknown error 512 (os error 512)"]
    );
}

#[test]
fn a_word_longer_than_the_line_is_kept_whole() {
    assert_eq!(wrap("a verylongword b", 5), ["a", "verylongword", "b"]);
    assert_eq!(wrap("", 5), [""]);
}

#[test]
fn sizes_are_exact() {
    assert_eq!(size(0), "0 bytes");
    assert_eq!(size(1023), "1023 bytes");
    assert_eq!(size(1 << 10), "1 KiB");
    assert_eq!(size((1 << 20) + (1 << 10)), "1025 KiB");
    assert_eq!(size(8 << 20), "8 MiB");
}
