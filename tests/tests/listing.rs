//! Directory listings, asked raw over a socket.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use lendfile::{Method, ServeDir};
use lendfile_tests::client::{Client, Response};
use lendfile_tests::hostile;
use lendfile_tests::process::{assert_passed, child_role, in_child, resident_bytes};
use lendfile_tests::server::{Network, Server, Stack};

fn serve(root: &Path, options: impl FnOnce(ServeDir) -> ServeDir) -> Server {
    let service = options(ServeDir::new(root).unwrap().listing());
    Server::start(Stack::Serve, Network::Tcp, Method::Auto, service)
}

fn json(client: &mut Client, path: &str) -> serde_json::Value {
    let response = client.get(path, "accept: application/json\r\n");
    assert_eq!(response.status, 200);
    assert_eq!(response.headers["content-type"], "application/json");
    serde_json::from_slice(&response.body).unwrap()
}

fn names(listing: &serde_json::Value) -> Vec<&str> {
    let entries = listing["entries"].as_array().unwrap();
    let name = |entry: &'_ serde_json::Value| entry["name"].as_str().unwrap().to_owned();
    entries
        .iter()
        .map(|entry| {
            assert_eq!(name(entry), entry["name"]);
            entry["name"].as_str().unwrap()
        })
        .collect()
}

fn text(response: &Response) -> &str {
    str::from_utf8(&response.body).unwrap()
}

/// The references of a page's rows.
fn references(page: &str) -> Vec<&str> {
    let (_, rows) = page.split_once("<tbody>").unwrap();
    let mut parts = rows.split("href=\"").skip(1);
    std::iter::from_fn(|| Some(parts.next()?.split('"').next().unwrap())).collect()
}

#[test]
fn only_what_the_service_would_serve_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("list/sub")).unwrap();
    let list = root.join("list");
    fs::write(dir.path().join("secret"), "secret").unwrap();
    fs::write(list.join("file"), "0123456789").unwrap();
    fs::write(list.join(".hidden"), "").unwrap();
    symlink("file", list.join("link-to-file")).unwrap();
    symlink("../list/sub", list.join("link-to-directory")).unwrap();
    symlink("../../secret", list.join("escape")).unwrap();
    symlink("/etc", list.join("absolute")).unwrap();
    symlink("nowhere", list.join("dangling")).unwrap();
    symlink("round", list.join("round")).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, list.join("fifo"), mode).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(list.join("socket")).unwrap();

    let server = serve(&root, |service| service);
    let mut client = Client::connect(&server.address);
    let listing = json(&mut client, "/list/");
    let expected = ["link-to-directory", "sub", "file", "link-to-file"];
    assert_eq!(names(&listing), expected);
    assert_eq!(listing["entries"][0]["type"], "directory");
    assert_eq!(listing["entries"][3]["type"], "file");
    assert_eq!(listing["entries"][3]["size"], 10);
    let page = client.get("/list/", "");
    let found: Vec<_> = references(text(&page))
        .into_iter()
        .map(str::to_owned)
        .collect();
    assert_eq!(
        found,
        ["link-to-directory/", "sub/", "file", "link-to-file"]
    );
    for reference in found {
        assert_eq!(client.get(&format!("/list/{reference}"), "").status, 200);
    }
    // It is the same check that answers a request and that lists.
    for hidden in [
        "escape", "absolute", "dangling", "round", "fifo", "socket", ".hidden",
    ] {
        assert_eq!(client.get(&format!("/list/{hidden}"), "").status, 404);
    }

    let server = serve(&root, ServeDir::dotfiles);
    let mut client = Client::connect(&server.address);
    assert!(names(&json(&mut client, "/list/")).contains(&".hidden"));
}

#[test]
fn an_index_comes_first_and_listings_are_off_unless_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::write(dir.path().join("index.html"), "home").unwrap();
    let server = serve(dir.path(), |service| service);
    let mut client = Client::connect(&server.address);
    assert_eq!(client.get("/", "").body, b"home");
    assert!(text(&client.get("/sub/", "")).contains("Nothing here"));
    let redirect = client.get("/sub?sort=size", "");
    assert_eq!(
        (redirect.status, &*redirect.headers["location"]),
        (301, "/sub/?sort=size")
    );

    let off = ServeDir::new(dir.path()).unwrap();
    let server = Server::start(Stack::Serve, Network::Tcp, Method::Auto, off);
    assert_eq!(
        Client::connect(&server.address).get("/sub/", "").status,
        404
    );
}

#[test]
fn the_head_is_strict_and_the_page_is_sent_once_per_version() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "1").unwrap();
    let server = serve(dir.path(), |service| service);
    let mut client = Client::connect(&server.address);
    let page = client.get("/", "");
    let policy = &page.headers["content-security-policy"];
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    assert!(
        !policy.contains("unsafe") && !policy.contains("script"),
        "{policy}"
    );
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("vary", "accept"),
        ("cache-control", "no-cache"),
        ("x-content-type-options", "nosniff"),
        ("content-length", &*page.len.to_string()),
    ] {
        assert_eq!(page.headers[name], value);
    }

    let head = client.request("HEAD", "/", "");
    assert_eq!(head.len, 0);
    let without_date = |response: &Response| {
        let mut headers = response.headers.clone();
        headers.remove("date");
        headers
    };
    assert_eq!(without_date(&head), without_date(&page));

    let condition = format!("if-none-match: {}\r\n", page.headers["etag"]);
    let again = client.get("/", &condition);
    assert_eq!((again.status, again.len), (304, 0));
    assert_eq!(again.headers["etag"], page.headers["etag"]);
    // Another order and another format are other pages.
    assert_eq!(client.get("/?sort=size", &condition).status, 200);
    let json = format!("{condition}accept: application/json\r\n");
    assert_eq!(client.get("/", &json).status, 200);
    // A file that grows changes the page, though not the directory's time.
    fs::write(dir.path().join("a"), "12").unwrap();
    assert_eq!(client.get("/", &condition).status, 200);
    assert_eq!(
        client.request("POST", "/", "content-length: 0\r\n").status,
        405
    );
}

#[test]
fn hostile_names_lead_to_their_files() {
    let dir = tempfile::tempdir().unwrap();
    let names = hostile::names();
    for name in &names {
        fs::write(dir.path().join(OsStr::from_bytes(name)), name).unwrap();
    }
    let server = serve(dir.path(), |service| service);
    let mut client = Client::connect(&server.address);
    let page = client.get("/", "");
    for raw in hostile::MARKUP {
        assert!(!text(&page).contains(raw), "{raw:?}");
    }
    let hrefs = json(&mut client, "/")["entries"]
        .as_array()
        .unwrap()
        .clone();
    let hrefs = hrefs.iter().map(|entry| entry["href"].as_str().unwrap());
    for references in [references(text(&page)), hrefs.collect()] {
        let found: BTreeSet<Vec<u8>> = references
            .into_iter()
            .map(|reference| {
                let response = client.get(&format!("/{reference}"), "");
                assert_eq!(response.status, 200, "{reference}");
                response.body
            })
            .collect();
        assert_eq!(found, names.iter().cloned().collect());
    }
}

/// Names in the directory: more than a page of it may take in memory.
const MANY: usize = 100_000;

#[test]
fn a_hundred_thousand_names_are_listed_in_order_without_the_page_in_memory() {
    // In a process of its own, whose memory is measured.
    if child_role().is_none() {
        assert_passed(&in_child(
            "a_hundred_thousand_names_are_listed_in_order_without_the_page_in_memory",
            "lister",
        ));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for k in 0..MANY {
        fs::File::create(
            dir.path()
                .join(format!("a name of some length, number {k}")),
        )
        .unwrap();
    }
    let server = serve(dir.path(), |service| service);
    let mut client = Client::connect(&server.address);
    let before = resident_bytes();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    let (status, headers) = client.head().unwrap();
    assert_eq!((status, &*headers["transfer-encoding"]), (200, "chunked"));
    // All is read and sorted, and most of the page is not yet written.
    let grown = resident_bytes().saturating_sub(before);
    let names = MANY * (24 + 34);
    assert!(grown < 2 * names as u64, "{grown} bytes for {names}");
    drop(client);

    let mut client = Client::connect(&server.address);
    let listing = client.get("/?order=desc", "");
    assert!(listing.len > 12_000_000, "{}", listing.len);
    // The client keeps the first 4 MiB.
    let text = String::from_utf8_lossy(&listing.body);
    let last = text.find("number 99999<").expect("the last name");
    let before = text.find("number 99998<").expect("the one before");
    assert!(last < before);
}
