//! `upload`, fed by curl and by clients that do not keep to the rules.

use std::fs;
use std::process::Command;

use lendfile_tests::content;
use lendfile_tests::process::{eventually, skip};

use crate::child::{Example, address_of, command};

fn start(directory: &std::path::Path) -> Example {
    let mut upload = command("upload");
    upload.arg("127.0.0.1:0").arg(directory);
    Example::start(upload)
}

#[test]
fn what_curl_uploads_is_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let example = start(&to);
    for len in [0, 1, 5000, 12_000_001] {
        content::write(&from, 1, len).unwrap();
        let url = format!("http://{}/a-file.bin", address_of(&example));
        let curl = Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--fail",
                "--max-time",
                "30",
                "-T",
            ])
            .arg(&from)
            .arg(url)
            .output();
        let curl = match curl {
            Ok(curl) => curl,
            Err(error) => return skip("curl", &error.to_string()),
        };
        assert!(curl.status.success(), "{len}: {curl:?}");
        assert_eq!(curl.stdout, format!("{len} bytes\n").into_bytes());
        let got = to.join("a-file.bin");
        assert_eq!(
            content::sha256(&got).unwrap(),
            content::sha256(&from).unwrap()
        );
        assert!(!to.join("a-file.bin.part").exists());
    }
}

#[test]
fn an_upload_that_breaks_off_leaves_its_part_and_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let example = start(dir.path());
    let mut client = example.connect();
    client.send("PUT /x HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\nhalf of it");
    let part = dir.path().join("x.part");
    eventually("it arrives", || {
        fs::read(&part).is_ok_and(|got| got == b"half of it")
    });
    drop(client);
    let line = example.logged("400 Bad Request");
    assert!(line.contains("10 of 1000 bytes are kept"), "{line}");
    assert!(!dir.path().join("x").exists());
}

#[test]
fn what_is_not_a_plain_put_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let example = start(dir.path());
    let length = "Content-Length: 1\r\n";
    for (first, headers, status) in [
        ("GET /x", length, 405),
        ("PUT /../x", length, 404),
        ("PUT /a%2fb", length, 404),
        ("PUT /.hidden", length, 404),
        ("PUT /", length, 404),
        ("PUT /x", "", 411),
        ("PUT /x", "Content-Length: -1\r\n", 400),
        ("PUT /x", "Content-Length: +1\r\n", 400),
        ("PUT /x", "Content-Length: 1\r\nContent-Length: 2\r\n", 400),
        (
            "PUT /x",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            400,
        ),
    ] {
        let mut client = example.connect();
        client.send(format!("{first} HTTP/1.1\r\nHost: t\r\n{headers}\r\n"));
        assert_eq!(client.head().unwrap().0, status, "{first} {headers}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
