//! Where it listens: Unix sockets, names, IPv6, systemd's sockets; and what systemd is told.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use lendfile_tests::PATIENCE;
use lendfile_tests::client::Client;
use lendfile_tests::process::eventually;
use lendfile_tests::server::Address;
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
fn a_unix_socket_has_its_mode_serves_and_is_removed_in_the_end() {
    let dir = site();
    for sandbox in ["auto", "off"] {
        let run = tempfile::tempdir().unwrap();
        let path = run.path().join("socket");
        let listen = format!("unix:{}", path.display());
        let mut command = lendfile(["serve", "--listen", &listen, "--unix-mode", "640"]);
        command.args(["--sandbox", sandbox]).arg(dir.path());
        let mut server = Running::start(command);
        assert_eq!(server.next_line(), format!("listening on {listen}"));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        let mut client = Client::connect(&Address::Unix(path.clone()));
        assert_eq!(client.get("/file", "").body, b"content");
        drop(client);
        server.signal(Signal::TERM);
        assert_eq!(server.finish().code, Some(0));
        assert!(!path.exists(), "--sandbox={sandbox}");
    }
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
fn sockets_of_systemd_are_served_and_systemd_is_told() {
    let dir = site();
    let run = tempfile::tempdir().unwrap();
    let notify = UnixDatagram::bind(run.path().join("notify")).unwrap();
    notify.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut buffer = [0; 256];
        let n = notify.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    };
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    let mut command = Command::new("sh");
    // Standard input becomes descriptor 3, where systemd puts its first socket.
    command
        .args([
            "-c",
            "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"",
            "sh",
        ])
        .arg(env!("CARGO_BIN_EXE_lendfile"))
        .arg("serve")
        .arg(dir.path())
        .env("NOTIFY_SOCKET", run.path().join("notify"))
        .stdin(Stdio::from(OwnedFd::from(socket)));
    let mut server = Running::start(command);
    assert_eq!(addr_of(&server.next_line()), addr);
    assert_eq!(connect(addr).get("/file", "").body, b"content");
    assert!(told().contains("READY=1"));
    server.signal(Signal::HUP);
    assert!(told().contains("RELOADING=1"));
    assert!(told().contains("READY=1"));
    assert_eq!(connect(addr).get("/file", "").body, b"content");
    server.signal(Signal::TERM);
    assert!(told().contains("STOPPING=1"));
    assert_eq!(server.finish().code, Some(0));
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
