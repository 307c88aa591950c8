//! Open files that are kept for a while: what is saved, what is noticed when, what is bounded.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lendfile::{Method, ServeDir};
use lendfile_tests::client::Client;
use lendfile_tests::content;
use lendfile_tests::process::{descriptors, eventually, resident_of};
use lendfile_tests::server::{Network, Server, Stack};

/// The tests here count descriptors, so they run one at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn serve(service: ServeDir) -> (Server, Client) {
    let server = Server::start(Stack::Serve, Network::Tcp, Method::Sendfile, service);
    let client = Client::connect(&server.address);
    (server, client)
}

/// Replaces a file by renaming another over it, as careful programs do.
fn replace(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, bytes).unwrap();
    fs::rename(new, path).unwrap();
}

#[test]
fn a_hot_file_is_opened_and_mapped_once() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap().join("file");
    content::write(&path, 1, 100_000).unwrap();
    let service = ServeDir::new(dir.path()).unwrap();
    let (_server, mut client) = serve(service.staleness(Duration::from_secs(3600)));
    let expected = client.get("/file", "").sha256;
    assert_eq!(resident_of(&path), [0], "mapped, and not touched");
    fs::remove_file(&path).unwrap();
    for _ in 0..10 {
        assert_eq!(
            client.get("/file", "").sha256,
            expected,
            "not looked at again"
        );
    }
    assert_eq!(client.get("/other", "").status, 404);
}

#[test]
fn a_replaced_file_is_noticed_after_the_staleness_time_and_a_removed_one_too() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let staleness = Duration::from_millis(200);
    fs::write(&path, "first").unwrap();
    let (_server, mut client) = serve(ServeDir::new(dir.path()).unwrap().staleness(staleness));
    assert_eq!(client.get("/file", "").body, b"first");
    replace(&path, b"second");
    eventually("the new file is served", || {
        let body = client.get("/file", "").body;
        assert!(body == b"first" || body == b"second");
        body == b"second"
    });
    fs::remove_file(&path).unwrap();
    eventually("it is gone", || client.get("/file", "").status == 404);
}

#[test]
fn without_staleness_every_change_is_noticed_at_once() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let (_server, mut client) = serve(ServeDir::new(dir.path()).unwrap().staleness(Duration::ZERO));
    for k in 0..50 {
        let content = format!("version {k}");
        replace(&path, content.as_bytes());
        assert_eq!(client.get("/file", "").body, content.as_bytes());
    }
}

#[test]
fn a_truncated_file_is_noticed_by_the_transfer_it_broke() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    content::write(&path, 1, 100_000).unwrap();
    let service = ServeDir::new(dir.path()).unwrap();
    let (server, mut client) = serve(service.staleness(Duration::from_secs(3600)));
    assert_eq!(client.get("/file", "").len, 100_000);
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_len(50_000))
        .unwrap();
    client.send("GET /file HTTP/1.1\r\nhost: test\r\n\r\n");
    client
        .response("GET")
        .expect_err("a whole response of a truncated file");
    let mut next = Client::connect(&server.address);
    assert_eq!(next.get("/file", "").len, 50_000);
}

#[test]
fn open_files_are_bounded_however_many_are_asked_for() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    for k in 0..2000 {
        fs::write(dir.path().join(k.to_string()), k.to_string()).unwrap();
    }
    let service = ServeDir::new(dir.path()).unwrap();
    let (_server, mut client) = serve(service.staleness(Duration::from_secs(3600)));
    client.get("/0", "");
    let before = descriptors();
    for k in 0..2000 {
        let response = client.get(&format!("/{k}"), "");
        assert_eq!(response.body, k.to_string().as_bytes());
        assert!(descriptors() < before + 300, "after {k} files");
    }
}

#[test]
fn a_clone_with_other_options_does_not_share_what_they_allowed() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(".hidden"), "hidden").unwrap();
    let strict = ServeDir::new(dir.path()).unwrap();
    let (_open_server, mut open) = serve(strict.clone().dotfiles());
    assert_eq!(open.get("/.hidden", "").body, b"hidden");
    let (_strict_server, mut strict) = serve(strict);
    assert_eq!(strict.get("/.hidden", "").status, 404);
}
