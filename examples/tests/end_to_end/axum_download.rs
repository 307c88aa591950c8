//! `axum_download`: who gets what, in which form, and which way it went.

use std::fs;
use std::io::Read;
use std::path::Path;

use lendfile_tests::content;
use tempfile::TempDir;

use crate::child::{Example, command};

const TOKEN: &str = "authorization: Bearer to-ken\r\n";

/// A directory, and the example that serves it.
fn example() -> (TempDir, Example) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = command("axum_download");
    command
        .env("DOWNLOAD_TOKEN", "to-ken")
        .arg("127.0.0.1:0")
        .arg(dir.path());
    (dir, Example::start(command))
}

fn text(dir: &Path, name: &str) -> String {
    let text: String = (0..50_000).map(|n| format!("line {n}\n")).collect();
    fs::write(dir.join(name), &text).unwrap();
    text
}

#[test]
fn only_who_has_the_token_gets_the_file() {
    let (dir, example) = example();
    content::write(&dir.path().join("file.bin"), 1, 100).unwrap();
    let mut client = example.connect();
    for headers in [
        "",
        "authorization: Bearer wrong!\r\n",
        "authorization: Bearer to-ke\r\n",
        "authorization: Bearer to-ken2\r\n",
        "authorization: Bearer \r\n",
        "authorization: Basic to-ken\r\n",
    ] {
        // Of files that are there no more is told than of others.
        for path in ["/files/file.bin", "/files/none"] {
            let response = client.get(path, headers);
            assert_eq!(response.status, 401, "{path} {headers}");
            assert_eq!(response.headers["www-authenticate"], "Bearer");
            assert_eq!(response.len, 0);
        }
    }
    let response = client.get("/files/file.bin", TOKEN);
    assert_eq!(
        (response.status, response.body),
        (200, content::bytes(1, 100))
    );
}

#[test]
fn a_large_file_goes_by_sendfile_through_all_layers() {
    let (dir, example) = example();
    let path = dir.path().join("video.mp4");
    content::write(&path, 1, 9_000_001).unwrap();
    let sha256 = content::sha256(&path).unwrap();
    let mut client = example.connect();
    // A type that is compressed already is not compressed again.
    for encoding in ["", "accept-encoding: gzip\r\n"] {
        let response = client.get("/files/video.mp4", &format!("{TOKEN}{encoding}"));
        assert_eq!((response.status, &response.sha256), (200, &sha256));
        assert_eq!(response.headers["content-type"], "video/mp4");
        assert!(!response.headers.contains_key("content-encoding"));
        assert_eq!(
            response.headers["content-disposition"],
            "attachment; filename=\"video.mp4\"; filename*=UTF-8''video.mp4"
        );
        let line = example.logged("sent");
        assert!(
            line.contains("sendfile") && line.contains("bytes=9000001"),
            "{line}"
        );
    }
    let range = format!("{TOKEN}range: bytes=1000001-1999999\r\n");
    let response = client.get("/files/video.mp4", &range);
    assert_eq!(response.status, 206);
    assert_eq!(
        response.headers["content-range"],
        "bytes 1000001-1999999/9000001"
    );
    let whole = fs::read(&path).unwrap();
    assert!(response.body == whole[1_000_001..2_000_000], "wrong bytes");
    let line = example.logged("sent");
    assert!(
        line.contains("sendfile") && line.contains("bytes=999999"),
        "{line}"
    );
}

#[test]
fn text_is_compressed_for_clients_that_accept_it() {
    let (dir, example) = example();
    let text = text(dir.path(), "log.txt");
    let mut client = example.connect();
    let response = client.get(
        "/files/log.txt",
        &format!("{TOKEN}accept-encoding: gzip\r\n"),
    );
    assert_eq!(response.status, 200);
    assert_eq!(response.headers["content-encoding"], "gzip");
    assert_eq!(response.headers["vary"], "accept-encoding");
    assert!(response.len < text.len() as u64);
    let mut unpacked = String::new();
    flate2::read::GzDecoder::new(&*response.body)
        .read_to_string(&mut unpacked)
        .unwrap();
    assert!(unpacked == text, "wrong bytes");
    let line = example.logged("sent");
    assert!(line.contains("copy"), "{line}");

    let response = client.get("/files/log.txt", TOKEN);
    assert_eq!(response.headers["vary"], "accept-encoding");
    assert!(response.body == text.as_bytes(), "wrong bytes");
    let line = example.logged("sent");
    assert!(line.contains("sendfile"), "{line}");
}

#[test]
fn compressed_bytes_are_never_joined_with_others() {
    let (dir, example) = example();
    let text = text(dir.path(), "log.txt");
    // Changed long ago, or its ETag would be weak anyway.
    let file = fs::File::options()
        .write(true)
        .open(dir.path().join("log.txt"))
        .unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    let mut client = example.connect();
    let gzip = "accept-encoding: gzip\r\n";
    let strong = client.get("/files/log.txt", TOKEN).headers["etag"].clone();
    assert!(strong.starts_with('"'), "{strong}");
    let weak = client
        .get("/files/log.txt", &format!("{TOKEN}{gzip}"))
        .headers["etag"]
        .clone();
    assert_eq!(weak, format!("W/{strong}"));
    for (etag, status, len) in [(&strong, 206, 10), (&weak, 200, text.len() as u64)] {
        let resume = format!("{TOKEN}range: bytes=0-9\r\nif-range: {etag}\r\n");
        let response = client.get("/files/log.txt", &resume);
        assert_eq!((response.status, response.len), (status, len), "{etag}");
    }
    for etag in [strong, weak] {
        let cached = format!("{TOKEN}{gzip}if-none-match: {etag}\r\n");
        assert_eq!(client.get("/files/log.txt", &cached).status, 304, "{etag}");
    }
}

#[test]
fn every_name_survives_in_the_content_disposition() {
    let (dir, example) = example();
    let mut client = example.connect();
    for (name, path, value) in [
        (
            "a b.pdf",
            "a%20b.pdf",
            "filename=\"a b.pdf\"; filename*=UTF-8''a%20b.pdf",
        ),
        (
            "Größe €.txt",
            "Gr%C3%B6%C3%9Fe%20%E2%82%AC.txt",
            "filename=\"Gr__e _.txt\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe%20%E2%82%AC.txt",
        ),
        (
            "\"; filename=evil.exe\r\nx: y",
            "%22%3B%20filename%3Devil.exe%0D%0Ax%3A%20y",
            "filename=\"_; filename=evil.exe__x: y\"; \
             filename*=UTF-8''%22%3B%20filename%3Devil.exe%0D%0Ax%3A%20y",
        ),
        (
            "100%.\\'(*",
            "100%25.%5C'(*",
            "filename=\"100_._'(*\"; filename*=UTF-8''100%25.%5C%27%28%2A",
        ),
    ] {
        fs::write(dir.path().join(name), name).unwrap();
        let response = client.get(&format!("/files/{path}"), TOKEN);
        assert_eq!((response.status, &*response.body), (200, name.as_bytes()));
        assert_eq!(
            response.headers["content-disposition"],
            format!("attachment; {value}")
        );
    }
}

#[test]
fn nothing_but_files_of_the_directory_is_sent() {
    let (dir, example) = example();
    fs::create_dir(dir.path().join("folder")).unwrap();
    fs::write(dir.path().join("folder/file"), "inside").unwrap();
    fs::write(dir.path().join(".hidden"), "hidden").unwrap();
    let mut client = example.connect();
    let long = "x".repeat(300);
    for name in [
        "none",
        "folder",
        "folder%2Ffile",
        "folder%2F..%2F.hidden",
        "%2Fetc%2Fpasswd",
        "..",
        "%2e%2e",
        "..%2F..%2Fetc%2Fpasswd",
        ".hidden",
        "a%00b",
        &long,
    ] {
        let response = client.get(&format!("/files/{name}"), TOKEN);
        assert_eq!((response.status, response.len), (404, 0), "{name}");
    }
}

#[test]
fn without_a_token_it_does_not_start() {
    let output = command("axum_download")
        .env_remove("DOWNLOAD_TOKEN")
        .arg("127.0.0.1:0")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("set DOWNLOAD_TOKEN"), "{said}");
}
