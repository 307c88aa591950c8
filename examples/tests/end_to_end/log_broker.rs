//! `log_broker`: producers, consumers, and a second run.

use std::fs;
use std::path::Path;

use lendfile_tests::client::Client;
use lendfile_tests::content;
use lendfile_tests::process::eventually;

use crate::child::{Example, command};

fn start(directory: &Path) -> Example {
    let mut broker = command("log_broker");
    broker.arg("127.0.0.1:0").arg(directory);
    Example::start(broker)
}

fn line(client: &mut Client) -> String {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        line.extend(client.read_exact(1).unwrap());
    }
    String::from_utf8(line).unwrap()
}

fn append(client: &mut Client, batch: &[u8]) -> String {
    client.send(format!("APPEND topic {}\n", batch.len()));
    client.send(batch);
    line(client)
}

fn fetch(client: &mut Client, offset: usize, most: usize) -> Vec<u8> {
    client.send(format!("FETCH topic {offset} {most}\n"));
    let head = line(client);
    let words: Vec<&str> = head.trim_end().split(' ').collect();
    assert_eq!(words[..2], ["OK", &offset.to_string()], "{head}");
    client.read_exact(words[2].parse().unwrap()).unwrap()
}

#[test]
fn what_producers_append_consumers_fetch_across_segments_and_runs() {
    let dir = tempfile::tempdir().unwrap();
    let log = content::bytes(1, 100_000_000);
    let batches: Vec<&[u8]> = [&log[..1], &log[1..7_000_000]]
        .into_iter()
        .chain(log[7_000_000..].chunks(15_000_000))
        .collect();
    let example = start(dir.path());
    let (mut producer, mut consumer) = (example.connect(), example.connect());
    assert_eq!(fetch(&mut consumer, 0, 100), b"");
    let mut offset = 0;
    for batch in batches {
        assert_eq!(append(&mut producer, batch), format!("OK {offset}\n"));
        // Visible at once, and on the same connection as before.
        let most = batch.len().min(100_000);
        assert!(fetch(&mut consumer, offset, most) == batch[..most]);
        offset += batch.len();
    }
    drop((producer, consumer, example));
    assert!(
        fs::read_dir(dir.path()).unwrap().count() > 1,
        "one segment only"
    );

    let again = start(dir.path());
    let mut consumer = again.connect();
    let mut got = Vec::new();
    loop {
        let bytes = fetch(&mut consumer, got.len(), 9_999_999);
        if bytes.is_empty() {
            break;
        }
        got.extend(bytes);
    }
    assert!(got == log, "{} of {} bytes", got.len(), log.len());
    assert_eq!(append(&mut again.connect(), b"more"), "OK 100000000\n");
}

#[test]
fn a_producer_that_breaks_off_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let example = start(dir.path());
    assert_eq!(append(&mut example.connect(), b"first"), "OK 0\n");
    let mut broken = example.connect();
    broken.send("APPEND topic 100\nhalf of it");
    let path = dir.path().join(format!("topic-{:020}.log", 0));
    eventually("it arrives", || {
        fs::read(&path).is_ok_and(|got| got.len() == 15)
    });
    // Nobody sees it meanwhile.
    assert_eq!(fetch(&mut example.connect(), 5, 100), b"");
    drop(broken);
    assert_eq!(append(&mut example.connect(), b"second"), "OK 5\n");
    assert_eq!(fetch(&mut example.connect(), 0, 100), b"firstsecond");
    assert_eq!(fs::read(&path).unwrap(), b"firstsecond");
}

#[test]
fn what_is_not_a_request_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let example = start(dir.path());
    for wrong in [
        "HELLO\n",
        "APPEND ../../x 1\n",
        "APPEND topic 0\n",
        "APPEND topic 99999999999\n",
        "FETCH topic x 1\n",
        "FETCH topic 0 18446744073709551616\n",
    ] {
        let mut client = example.connect();
        client.send(wrong);
        let answer = client.rest().unwrap();
        assert!(answer.starts_with(b"ERR "), "{wrong}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
