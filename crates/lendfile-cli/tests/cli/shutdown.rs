//! SIGINT and SIGTERM: the first one lets what runs finish, the second one does not.

use std::net::{SocketAddr, TcpStream};

use lendfile_tests::client::Client;
use lendfile_tests::content;
use lendfile_tests::process::eventually;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::command::{Running, connect, serve};

/// More than the buffers of both sockets hold, so that sending it waits for the reader.
const LEN: usize = 20 << 20;

#[test]
fn a_signal_ends_an_idle_server_with_success() {
    let dir = tempfile::tempdir().unwrap();
    for signal in [Signal::INT, Signal::TERM] {
        for threads in ["1", "2"] {
            let (server, addr) = serve(dir.path(), &["--threads", threads]);
            // Kept alive, but nothing runs on it.
            let mut idle = connect(addr);
            assert_eq!(idle.get("/none", "").status, 404);
            server.signal(signal);
            let finished = server.finish();
            assert_eq!(finished.code, Some(0), "{finished:?}");
            assert_eq!((&*finished.stdout, &*finished.stderr), ("", ""));
        }
    }
}

#[test]
fn a_download_under_way_is_finished_before_the_process_ends() {
    for signal in [Signal::INT, Signal::TERM] {
        let (dir, mut server, addr, mut client) = download();
        server.signal(signal);
        refuses_connections(addr);
        assert!(server.is_running(), "the download has not ended");
        let bytes = client.read_exact(LEN).expect("the whole file");
        let wanted = std::fs::read(dir.path().join("file")).unwrap();
        assert!(bytes == wanted, "wrong bytes");
        assert_eq!(client.rest().unwrap(), b"", "then the connection ends");
        let finished = server.finish();
        assert_eq!(finished.code, Some(0), "{finished:?}");
        assert_eq!((&*finished.stdout, &*finished.stderr), ("", ""));
    }
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    for (first, second) in [(Signal::INT, Signal::INT), (Signal::INT, Signal::TERM)] {
        let (_dir, server, addr, mut client) = download();
        server.signal(first);
        refuses_connections(addr);
        server.signal(second);
        // As a shell reports whom a signal ended. The grace period would have ended with 0.
        assert_eq!(server.finish().code, Some(128 + second.as_raw()));
        assert!(client.read_exact(LEN).is_err(), "the download was cut off");
    }
}

/// A server with a download that waits for its reader, its head read.
fn download() -> (TempDir, Running, SocketAddr, Client) {
    let dir = tempfile::tempdir().unwrap();
    content::write(&dir.path().join("file"), 1, LEN as u64).unwrap();
    let (server, addr) = serve(dir.path(), &["--threads", "1"]);
    let mut client = connect(addr);
    client.send("GET /file HTTP/1.1\r\nhost: test\r\n\r\n");
    let (status, headers) = client.head().unwrap();
    assert_eq!(status, 200);
    assert_eq!(headers["content-length"], LEN.to_string());
    (dir, server, addr, client)
}

/// Waits until the signal has been noticed: the server listens no more.
fn refuses_connections(addr: SocketAddr) {
    eventually("the port is closed", || TcpStream::connect(addr).is_err());
}
