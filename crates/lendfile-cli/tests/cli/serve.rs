//! `lendfile serve`: the right bytes, however they are sent.

use std::thread;

use lendfile_tests::content;
use lendfile_tests::process::eventually;
use lendfile_tests::server::methods;

use crate::command::{connect, serve};

/// Empty, small enough to be sent with its head, and too large for a socket's buffer.
const LENGTHS: [u64; 3] = [0, 1000, 9_000_001];

/// Asks a server with these options for a file of each length.
pub(crate) fn sends_the_right_bytes(options: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    for len in LENGTHS {
        content::write(&dir.path().join(len.to_string()), len, len).unwrap();
    }
    let (_server, addr) = serve(dir.path(), options);
    let mut client = connect(addr);
    for len in LENGTHS {
        let response = client.get(&format!("/{len}"), "");
        assert_eq!((response.status, response.len), (200, len), "{options:?}");
        let sha256 = content::sha256(&dir.path().join(len.to_string())).unwrap();
        assert_eq!(response.sha256, sha256, "{options:?}: {len} bytes");
    }
}

#[test]
fn every_method_sends_the_right_bytes() {
    for method in methods() {
        sends_the_right_bytes(&["--method", method.name()]);
    }
}

#[test]
fn many_connections_to_two_threads_all_get_the_right_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    content::write(&path, 1, 1_000_001).unwrap();
    let sha256 = content::sha256(&path).unwrap();
    let (_server, addr) = serve(dir.path(), &["--threads", "2"]);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                // Open at once, so that both threads of the server have some.
                let clients: [_; 8] = std::array::from_fn(|_| connect(addr));
                for mut client in clients {
                    let response = client.get("/file", "");
                    assert_eq!((response.status, &response.sha256), (200, &sha256));
                }
            });
        }
    });
}

#[test]
fn what_is_outside_of_the_directory_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let served = dir.path().join("served");
    std::fs::create_dir(&served).unwrap();
    content::write(&dir.path().join("secret"), 1, 100).unwrap();
    std::os::unix::fs::symlink("../secret", served.join("link")).unwrap();
    let (_server, addr) = serve(&served, &[]);
    let mut client = connect(addr);
    for (path, status) in [
        ("/../secret", 400),
        ("/%2e%2e/secret", 400),
        ("/..%2fsecret", 404),
        ("/link", 404),
    ] {
        assert_eq!(client.get(path, "").status, status, "{path}");
    }
}

/// What splice has put into a pipe and a full socket does not take goes to `/dev/null`.
#[test]
fn a_confined_server_can_empty_its_pipes() {
    let dir = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(dir.path().join("file")).unwrap();
    // More than any socket's buffers hold.
    file.set_len(64 << 20).unwrap();
    let options = ["--method", "splice", "--backend", "epoll", "--threads", "1"];
    let (server, addr) = serve(dir.path(), &options);
    let fds = format!("/proc/{}/fd", server.pid().as_raw_nonzero());
    let nulls = || {
        let links = std::fs::read_dir(&fds).unwrap();
        let null = |link: &std::fs::DirEntry| {
            std::fs::read_link(link.path()).is_ok_and(|target| target.ends_with("dev/null"))
        };
        links.flatten().filter(null).count()
    };
    let before = nulls();
    let mut client = connect(addr);
    client.send("GET /file HTTP/1.1\r\nhost: test\r\n\r\n");
    eventually("/dev/null is open to be written to", || nulls() > before);
}
