//! Where it listens: several places, names, and the same again after `kill -9`.

use lendfile_tests::process::eventually;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::command::{Running, connect, lendfile, serve};

fn site() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "content").unwrap();
    dir
}

fn addr_of(line: &str) -> std::net::SocketAddr {
    let addr = line.strip_prefix("listening on http://");
    addr.and_then(|addr| addr.parse().ok())
        .unwrap_or_else(|| panic!("the line is {line:?}"))
}

#[test]
fn several_places_and_a_name_are_served_at_once() {
    let dir = site();
    let mut command = lendfile([
        "serve",
        "--listen",
        "localhost:0",
        "--listen",
        "127.0.0.1:0",
    ]);
    command.arg(dir.path());
    let mut server = Running::start(command);
    for _ in 0..2 {
        let addr = addr_of(&server.next_line());
        assert_eq!(connect(addr).get("/file", "").body, b"content");
    }
}

#[test]
fn after_kill_9_it_binds_again_at_once() {
    let dir = site();
    let (mut server, addr) = serve(dir.path(), &[]);
    let mut client = connect(addr);
    assert_eq!(client.get("/file", "").status, 200);
    server.signal(Signal::KILL);
    eventually("it has ended", || !server.is_running());
    let mut command = lendfile(["serve", "--listen", &addr.to_string()]);
    command.arg(dir.path());
    let mut again = Running::start(command);
    assert_eq!(addr_of(&again.next_line()), addr);
    assert_eq!(connect(addr).get("/file", "").status, 200);
}
