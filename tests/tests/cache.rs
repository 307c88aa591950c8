//! Open files that are kept for a while: what is saved, what is noticed when, what is bounded.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lendfile::{CacheLimits, Method, ServeDir};
use lendfile_tests::client::Client;
use lendfile_tests::content;
use lendfile_tests::process::{
    assert_passed, child_role, deny, descriptors, eventually, in_child, resident_of,
};
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
fn a_hot_file_stays_mapped_between_requests() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap().join("file");
    content::write(&path, 1, 100_000).unwrap();
    let service = ServeDir::new(dir.path()).unwrap();
    let (_server, mut client) = serve(service.staleness(Duration::from_secs(3600)));
    let expected = client.get("/file", "").sha256;
    for _ in 0..10 {
        assert_eq!(resident_of(&path), [0], "mapped, and not touched");
        assert_eq!(client.get("/file", "").sha256, expected);
    }
    assert_eq!(client.get("/other", "").status, 404);
}

#[test]
fn a_link_that_leads_elsewhere_is_noticed_after_the_staleness_time() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("first"), "first").unwrap();
    fs::write(dir.path().join("second"), "second").unwrap();
    let relink = |target: &str| {
        symlink(target, dir.path().join("new")).unwrap();
        fs::rename(dir.path().join("new"), dir.path().join("link")).unwrap();
    };
    relink("first");
    let service = ServeDir::new(dir.path()).unwrap();
    let (_slow_server, mut slow) = serve(service.clone().staleness(Duration::from_secs(3600)));
    let (_server, mut client) = serve(service.staleness(Duration::from_millis(200)));
    assert_eq!(client.get("/link", "").body, b"first");
    assert_eq!(slow.get("/link", "").body, b"first");
    relink("second");
    eventually("the other file is served", || {
        client.get("/link", "").body == b"second"
    });
    assert_eq!(slow.get("/link", "").body, b"first", "not looked at again");
}

#[test]
fn files_written_to_replaced_or_removed_are_noticed_at_once() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let service = ServeDir::new(dir.path()).unwrap();
    let (_server, mut client) = serve(service.staleness(Duration::from_secs(3600)));
    fs::write(&path, "AAAAAAAAAA").unwrap();
    let old = std::time::SystemTime::now() - Duration::from_secs(60);
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(old)
        .unwrap();
    let part = client.get("/file", "range: bytes=0-4\r\n");
    assert_eq!(part.body, b"AAAAA");
    // In place, of the same length: the parts of two versions must not be joined.
    fs::write(&path, "BBBBBBBBBB").unwrap();
    let condition = format!("range: bytes=5-\r\nif-range: {}\r\n", part.headers["etag"]);
    let whole = client.get("/file", &condition);
    assert_eq!((whole.status, &*whole.body), (200, &b"BBBBBBBBBB"[..]));
    replace(&path, b"replaced");
    assert_eq!(client.get("/file", "").body, b"replaced");
    fs::write(&path, "").unwrap();
    assert_eq!(client.get("/file", "").len, 0);
    fs::remove_file(&path).unwrap();
    assert_eq!(client.get("/file", "").status, 404);
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

/// In a child, since a filter cannot be taken off.
#[test]
fn a_hot_short_file_is_served_without_opening_or_looking_at_any() {
    let name = "a_hot_short_file_is_served_without_opening_or_looking_at_any";
    if child_role().is_none() {
        return assert_passed(&in_child(name, "filtered"));
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("short"), "short").unwrap();
    let service = ServeDir::new(dir.path()).unwrap();
    let service = service.staleness(Duration::from_secs(3600));
    let server = Server::start(Stack::Serve, Network::Tcp, Method::Auto, service);
    let mut client = Client::connect(&server.address);
    let first = client.get("/short", "");
    assert_eq!(client.get("/missing", "").status, 404);
    let refused = [
        libc::SYS_fstat,
        libc::SYS_newfstatat,
        libc::SYS_openat,
        libc::SYS_openat2,
        libc::SYS_pread64,
        libc::SYS_preadv2,
        libc::SYS_statx,
    ];
    deny(refused, rustix::io::Errno::IO);
    assert!(fs::metadata(dir.path()).is_err(), "the filter works");
    for _ in 0..10 {
        let again = client.get("/short", "");
        assert_eq!((again.status, &*again.body), (200, &b"short"[..]));
        assert_eq!(again.headers["etag"], first.headers["etag"]);
        let head = client.request("HEAD", "/short", "");
        assert_eq!(head.headers["content-length"], "5");
        assert_eq!(client.get("/short", "range: bytes=1-2\r\n").body, b"ho");
        assert_eq!(client.get("/missing", "").status, 404);
    }
    assert_eq!(
        client.get("/another", "").status,
        500,
        "for this one a look is needed"
    );
}

#[test]
fn a_short_file_is_one_version_whole_and_a_change_is_noticed_after_the_staleness_time() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "AAAAAAAAAA").unwrap();
    let old = std::time::SystemTime::now() - Duration::from_secs(60);
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(old).unwrap();
    let service = ServeDir::new(dir.path()).unwrap();
    let slow = service.clone().staleness(Duration::from_secs(3600));
    let server = Server::start(Stack::Serve, Network::Tcp, Method::Auto, slow);
    let mut slow = Client::connect(&server.address);
    let server = Server::start(Stack::Serve, Network::Tcp, Method::Auto, service);
    let mut client = Client::connect(&server.address);
    let part = slow.get("/file", "range: bytes=0-4\r\n");
    assert_eq!(client.get("/file", "").body, b"AAAAAAAAAA");
    fs::write(&path, "BBBBBBBBBB").unwrap();
    // The tag is of the old version, and so are the bytes.
    let condition = format!("range: bytes=5-\r\nif-range: {}\r\n", part.headers["etag"]);
    let rest = slow.get("/file", &condition);
    assert_eq!((rest.status, &*rest.body), (206, &b"AAAAA"[..]));
    eventually("the change is seen", || {
        client.get("/file", "").body == b"BBBBBBBBBB"
    });
    fs::remove_file(&path).unwrap();
    eventually("the removal is seen", || {
        client.get("/file", "").status == 404
    });
    fs::write(&path, "C").unwrap();
    eventually("the new file is seen", || {
        client.get("/file", "").status == 200
    });
}

#[test]
fn a_cache_of_few_bytes_or_descriptors_keeps_few_and_serves_all() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    for k in 0..300 {
        content::write(&dir.path().join(k.to_string()), k, 100_000).unwrap();
    }
    let service = ServeDir::new(dir.path()).unwrap();
    let limits = CacheLimits::default().descriptors(16);
    let service = service.cache(limits).staleness(Duration::from_secs(3600));
    let (_server, mut client) = serve(service);
    client.get("/0", "");
    let before = descriptors();
    for k in 0..300 {
        assert_eq!(client.get(&format!("/{k}"), "").len, 100_000);
        assert!(descriptors() < before + 20, "after {k} files");
    }
}
