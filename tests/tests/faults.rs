//! Peers and files that misbehave: slow, gone, pipelining, truncated. No desync, no leak.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lendfile::ServeDir;
use lendfile_tests::client::Client;
use lendfile_tests::content;
use lendfile_tests::log::log;
use lendfile_tests::process::{descriptors, eventually, resident_of};
use lendfile_tests::server::{Network, Server, Stack, methods};

const LARGE: u64 = 20 << 20;

/// The tests here count what the process holds, so they run one at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    content::write(&dir.path().join("large"), 1, LARGE).unwrap();
    content::write(&dir.path().join("small"), 2, 1000).unwrap();
    content::write(&dir.path().join("middle"), 3, 100_000).unwrap();
    dir
}

fn for_each_stack(dir: &Path, mut test: impl FnMut(&Server, &str)) {
    for stack in Stack::ALL {
        for method in methods() {
            // Without a cache, what is left behind is left by a transfer.
            let service = ServeDir::new(dir).unwrap().staleness(Duration::ZERO);
            let server = Server::start(stack, Network::Tcp, method, service);
            test(&server, &format!("{stack:?} {method}"));
        }
    }
}

#[test]
fn a_slow_reader_gets_every_byte() {
    let _alone = alone();
    let dir = tree();
    let expected = content::bytes(1, LARGE);
    for_each_stack(dir.path(), |server, which| {
        let mut client = Client::connect(&server.address);
        client.send("GET /large HTTP/1.1\r\nhost: test\r\n\r\n");
        client.head().unwrap();
        let mut got = 0;
        for step in [1, 7, 4096, 100_000, 3].iter().cycle() {
            let step = (*step).min(expected.len() - got);
            let bytes = client.read_exact(step).unwrap();
            assert!(bytes == expected[got..got + step], "{which} at {got}");
            got += step;
            if got > 3_000_000 {
                break;
            }
        }
        let rest = client.read_exact(expected.len() - got).unwrap();
        assert!(rest == expected[got..], "{which}");
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let _alone = alone();
    let dir = tree();
    let names = [
        ("small", 2, 1000),
        ("large", 1, LARGE),
        ("middle", 3, 100_000),
    ];
    for_each_stack(dir.path(), |server, which| {
        let mut client = Client::connect(&server.address);
        let order: Vec<_> = names.iter().cycle().take(12).collect();
        let requests: String = order
            .iter()
            .map(|(name, ..)| format!("GET /{name} HTTP/1.1\r\nhost: test\r\n\r\n"))
            .collect();
        client.send(requests);
        for (name, _, len) in order {
            let response = client.response("GET").unwrap();
            let expected = content::sha256(&dir.path().join(name)).unwrap();
            assert_eq!(
                (response.len, response.sha256),
                (*len, expected),
                "{which} {name}"
            );
        }
    });
}

#[test]
fn a_connection_stays_in_step_after_every_kind_of_answer() {
    let _alone = alone();
    let dir = tree();
    for_each_stack(dir.path(), |server, which| {
        let mut client = Client::connect(&server.address);
        let etag = client.get("/large", "").headers["etag"].clone();
        for round in 0..3 {
            let head = client.request("HEAD", "/large", "");
            assert_eq!(head.status, 200, "{which} {round}");
            assert_eq!(head.headers["content-length"], LARGE.to_string());
            let part = client.get("/large", "range: bytes=5-1000004\r\n");
            assert_eq!((part.status, part.len), (206, 1_000_000), "{which}");
            let same = client.get("/large", &format!("if-none-match: {etag}\r\n"));
            assert_eq!((same.status, same.len), (304, 0), "{which}");
            assert_eq!(client.get("/missing", "").status, 404, "{which}");
            let beyond = client.get("/large", &format!("range: bytes={LARGE}-\r\n"));
            assert_eq!(beyond.status, 416, "{which}");
            assert_eq!(beyond.headers["content-range"], format!("bytes */{LARGE}"));
            let post = client.request("POST", "/large", "content-length: 0\r\n");
            assert_eq!(post.status, 405, "{which}");
            assert_eq!(post.headers["allow"], "GET, HEAD, OPTIONS");
            let options = client.request("OPTIONS", "/large", "");
            assert_eq!(options.status, 204, "{which}");
            let whole = client.get("/large", "");
            let expected = content::sha256(&dir.path().join("large")).unwrap();
            assert_eq!(whole.sha256, expected, "{which} {round}");
        }
    });
}

#[test]
fn readers_that_leave_half_way_leave_nothing_behind() {
    let _alone = alone();
    let dir = tree();
    let large = dir.path().canonicalize().unwrap().join("large");
    for_each_stack(dir.path(), |server, which| {
        // One whole response first: what is opened once per process is open now.
        let mut steady = Client::connect(&server.address);
        let expected = steady.get("/large", "").sha256;
        let before = descriptors();
        for k in 0..40 {
            let mut client = Client::connect(&server.address);
            client.send("GET /large HTTP/1.1\r\nhost: test\r\n\r\n");
            client.read_exact(1 + k * 10_000).unwrap();
        }
        eventually("descriptors are back", || descriptors() <= before);
        eventually("mappings are gone", || resident_of(&large).is_empty());
        assert_eq!(steady.get("/large", "").sha256, expected, "{which}");
    });
}

#[test]
fn a_hundred_whole_responses_leave_nothing_behind() {
    let _alone = alone();
    let dir = tree();
    let middle = dir.path().canonicalize().unwrap().join("middle");
    for_each_stack(dir.path(), |server, which| {
        let mut client = Client::connect(&server.address);
        let expected = client.get("/middle", "").sha256;
        let before = descriptors();
        for _ in 0..100 {
            assert_eq!(client.get("/middle", "").sha256, expected, "{which}");
        }
        eventually("descriptors are back", || descriptors() <= before);
        eventually("mappings are gone", || resident_of(&middle).is_empty());
    });
}

#[test]
fn a_file_truncated_while_it_is_sent_closes_its_connection_only() {
    let _alone = alone();
    for stack in Stack::ALL {
        for method in methods() {
            let dir = tree();
            let (log, logged) = log();
            let service = ServeDir::new(dir.path()).unwrap();
            let server = Server::start_logging(stack, Network::Tcp, method, service, log);
            let mut client = Client::connect(&server.address);
            client.send("GET /large HTTP/1.1\r\nhost: test\r\n\r\n");
            client.head().unwrap();
            // The rest does not fit into the socket's buffers, so the send is under way.
            let file = OpenOptions::new()
                .write(true)
                .open(dir.path().join("large"));
            file.unwrap().set_len(100_000).unwrap();
            match client.rest() {
                Ok(rest) => assert!((rest.len() as u64) < LARGE, "{stack:?} {method}"),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
            }
            eventually("the error is logged", || {
                logged().contains("file ended early")
            });
            let mut next = Client::connect(&server.address);
            assert_eq!(next.get("/middle", "").len, 100_000, "{stack:?} {method}");
            assert_eq!(next.get("/large", "").len, 100_000, "its new length");
        }
    }
}

#[test]
fn a_file_that_grows_is_sent_in_the_promised_length_and_a_replaced_one_as_it_was() {
    let _alone = alone();
    let dir = tree();
    let path = dir.path().join("large");
    for_each_stack(dir.path(), |server, which| {
        content::write(&path, 1, LARGE).unwrap();
        let expected = content::sha256(&path).unwrap();
        let mut client = Client::connect(&server.address);
        client.send("GET /large HTTP/1.1\r\nhost: test\r\n\r\n");
        client.head().unwrap();
        let appended = OpenOptions::new().append(true).open(&path);
        io::Write::write_all(&mut appended.unwrap(), &[7; 100_000]).unwrap();
        let other = dir.path().join("other");
        content::write(&other, 9, LARGE / 2).unwrap();
        fs::rename(&other, &path).unwrap();
        let len = usize::try_from(LARGE).unwrap();
        let mut hash = <sha2::Sha256 as sha2::Digest>::new();
        sha2::Digest::update(&mut hash, client.read_exact(len).unwrap());
        assert_eq!(content::hex(hash), expected, "{which}");
        assert_eq!(
            client.get("/large", "").len,
            LARGE / 2,
            "{which}: now the new one"
        );
    });
}
