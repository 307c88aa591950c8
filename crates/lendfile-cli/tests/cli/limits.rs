//! What a connection may take, and that all are served in the end when descriptors run out.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use lendfile_tests::process::eventually;
use lendfile_tests::sockets::most_held;
use lendfile_tests::{PATIENCE, content, h2};
use socket2::SockRef;
use tempfile::TempDir;

use crate::command::{Running, connect, serve};

fn site() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("small"), "small").unwrap();
    content::write(&dir.path().join("large"), 1, 50 << 20).unwrap();
    dir
}

/// A connection whose every wait is bounded.
fn socket(addr: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Waits for the connection to end, however; what came before.
fn until_closed(socket: &mut TcpStream) -> String {
    let mut all = Vec::new();
    match socket.read_to_end(&mut all) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn a_head_that_comes_byte_by_byte_is_cut_at_the_header_timeout() {
    let dir = site();
    let (_server, addr) = serve(dir.path(), &["--header-timeout", "300ms"]);
    let started = Instant::now();
    let mut socket = socket(addr);
    socket.write_all(b"GET /small HTTP/1.1\r\nx: ").unwrap();
    // Bytes go on coming, each a sign of life.
    while socket.write_all(b"x").is_ok() {
        assert!(started.elapsed() < PATIENCE, "never cut");
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        match socket.read(&mut [0; 64]) {
            Ok(0) => break,
            Ok(_) => panic!("an answer to half a request"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    assert!(started.elapsed() >= Duration::from_millis(250), "too early");
}

#[test]
fn a_connection_at_rest_is_closed_at_the_idle_timeout_and_a_request_before_is_answered() {
    let dir = site();
    let (_server, addr) = serve(dir.path(), &["--idle-timeout", "1s"]);
    let mut client = connect(addr);
    assert_eq!(client.get("/small", "").body, b"small");
    assert_eq!(client.get("/small", "").body, b"small");
    assert_eq!(client.rest().unwrap(), b"");
}

#[test]
fn a_reader_that_takes_nothing_is_cut_at_the_progress_timeout() {
    let dir = site();
    let (_server, addr) = serve(dir.path(), &["--progress-timeout", "500ms"]);
    let started = Instant::now();
    let mut socket = socket(addr);
    SockRef::from(&socket).set_recv_buffer_size(4096).unwrap();
    let request = b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n";
    socket.write_all(request).unwrap();
    // Once the server has let go, the kernel answers what we send with a reset.
    let error = loop {
        assert!(started.elapsed() < PATIENCE, "never cut");
        if let Err(error) = socket.write_all(b"x") {
            break error;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let cut = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
    assert!(cut.contains(&error.kind()), "{error}");
    assert!(started.elapsed() >= Duration::from_millis(400), "too early");
}

#[test]
fn of_a_reader_that_was_cut_off_the_kernel_keeps_nothing() {
    let dir = site();
    let (_server, addr) = serve(dir.path(), &["--progress-timeout", "1s"]);
    let mut socket = socket(addr);
    SockRef::from(&socket).set_recv_buffer_size(4096).unwrap();
    let request = b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n";
    socket.write_all(request).unwrap();
    // Nothing is sent or read: the reset comes by itself, as it throws away what was buffered.
    eventually("a reset", || {
        let error = socket.take_error().unwrap();
        error.is_some_and(|error| error.kind() == ErrorKind::ConnectionReset)
    });
}

/// An HTTP/2 peer that asks for a large file, opens no window, and goes on sending what `busy`
/// makes; how long that was borne.
fn stalled_http2(addr: SocketAddr, mut busy: impl FnMut() -> Vec<u8>) -> Duration {
    let started = Instant::now();
    let mut socket = socket(addr);
    socket.write_all(&h2::preface()).unwrap();
    socket.write_all(&h2::get(1, "/large")).unwrap();
    let pause = Some(Duration::from_millis(20));
    socket.set_read_timeout(pause).unwrap();
    let mut buffer = vec![0; 64 << 10];
    loop {
        assert!(started.elapsed() < PATIENCE, "never cut");
        if socket.write_all(&busy()).is_err() {
            return started.elapsed();
        }
        match socket.read(&mut buffer) {
            Ok(0) => return started.elapsed(),
            Ok(_) => std::thread::sleep(Duration::from_millis(20)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return started.elapsed(),
        }
    }
}

#[test]
fn no_more_than_was_said_is_held_for_a_client_that_does_not_read() {
    const MUCH: usize = 1 << 20;
    let dir = site();
    let held_if_bound_to = |bytes: &str| {
        let limits = ["--unsent-bytes", bytes, "--progress-timeout", "500ms"];
        let (_server, addr) = serve(dir.path(), &limits);
        most_held(&socket(addr), "/large")
    };
    let (bounded, unbounded) = (held_if_bound_to("64KiB"), held_if_bound_to("off"));
    assert!(bounded > 0 && bounded < MUCH, "{bounded}");
    assert!(unbounded > MUCH, "{unbounded}");
}

#[test]
fn neither_pings_nor_further_streams_hold_an_http2_connection_that_takes_nothing() {
    let dir = site();
    let (_server, addr) = serve(dir.path(), &["--progress-timeout", "500ms"]);
    let pinging = stalled_http2(addr, h2::ping);
    assert!(pinging >= Duration::from_millis(400), "{pinging:?}");
    let mut stream = 1;
    let asking = stalled_http2(addr, || {
        stream += 2;
        // No more at a time than the server lets it have.
        match stream < 200 {
            true => h2::get(stream, "/large"),
            false => h2::ping(),
        }
    });
    assert!(asking >= Duration::from_millis(400), "{asking:?}");
}

#[test]
fn pings_do_not_hold_an_http2_connection_at_rest() {
    let dir = site();
    let (_server, addr) = serve(dir.path(), &["--idle-timeout", "500ms"]);
    let started = Instant::now();
    let mut socket = socket(addr);
    socket.write_all(&h2::preface()).unwrap();
    socket.write_all(&h2::get(1, "/small")).unwrap();
    let pause = Some(Duration::from_millis(20));
    socket.set_read_timeout(pause).unwrap();
    while socket.write_all(&h2::ping()).is_ok() {
        assert!(started.elapsed() < PATIENCE, "never closed");
        match socket.read(&mut [0; 4096]) {
            Ok(0) => break,
            Ok(_) => std::thread::sleep(Duration::from_millis(20)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    assert!(started.elapsed() >= Duration::from_millis(400), "too early");
}

#[test]
fn a_slow_reader_that_goes_on_reading_gets_everything() {
    let dir = site();
    let (_server, addr) = serve(
        dir.path(),
        &["--progress-timeout", "1s", "--idle-timeout", "1s"],
    );
    let mut socket = socket(addr);
    SockRef::from(&socket)
        .set_recv_buffer_size(64 << 10)
        .unwrap();
    let request = b"GET /large HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    socket.write_all(request).unwrap();
    let started = Instant::now();
    let mut buffer = vec![0; 1 << 20];
    let mut got = 0;
    loop {
        let n = socket.read(&mut buffer).expect("not cut");
        if n == 0 {
            break;
        }
        got += n;
        // Longer than any of its clocks in all, but never longer than one at a time.
        if started.elapsed() < Duration::from_secs(3) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    assert!(got > 50 << 20, "{got} bytes");
}

#[test]
fn the_last_request_that_is_allowed_closes_the_connection() {
    let dir = site();
    let (_server, addr) = serve(dir.path(), &["--max-requests", "2"]);
    let mut client = connect(addr);
    assert!(!client.get("/small", "").headers.contains_key("connection"));
    assert_eq!(client.get("/small", "").headers["connection"], "close");
    assert_eq!(client.rest().unwrap(), b"");
}

#[test]
fn an_address_beyond_its_share_is_turned_away() {
    let dir = site();
    let (_server, addr) = serve(
        dir.path(),
        &["--max-connections-per-address", "1", "--threads", "1"],
    );
    let mut first = connect(addr);
    assert_eq!(first.get("/small", "").status, 200);
    let mut second = socket(addr);
    assert_eq!(until_closed(&mut second), "");
    assert_eq!(first.get("/small", "").status, 200);
}

#[test]
fn a_request_without_one_valid_host_or_with_doubtful_framing_is_400() {
    let dir = site();
    let (_server, addr) = serve(dir.path(), &[]);
    for head in [
        "",
        "host: a\r\nhost: a\r\n",
        "host: a b\r\n",
        "host: a\r\ntransfer-encoding: identity\r\n",
        "host: a\r\ntransfer-encoding: chunked, identity\r\n",
        "host: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "host: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n",
    ] {
        let mut socket = socket(addr);
        let request = format!("GET /small HTTP/1.1\r\n{head}\r\n");
        socket.write_all(request.as_bytes()).unwrap();
        let answer = until_closed(&mut socket);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{head:?}: {answer}");
    }
    // Read by Transfer-Encoding alone, and nothing behind it is taken for a request.
    for framing in [
        "content-length: 100\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 100\r\n",
    ] {
        let mut socket = socket(addr);
        let request = format!("GET /small HTTP/1.1\r\nhost: a\r\n{framing}\r\n0\r\n\r\n");
        let smuggled = "GET /other HTTP/1.1\r\nhost: a\r\n\r\n";
        socket.write_all((request + smuggled).as_bytes()).unwrap();
        let answer = until_closed(&mut socket);
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }
}

#[test]
fn a_head_beyond_its_limits_is_431() {
    let dir = site();
    let (_server, addr) = serve(
        dir.path(),
        &["--max-header-bytes", "16KiB", "--max-headers", "10"],
    );
    let long = format!("x: {}\r\n", "x".repeat(20 << 10));
    let many = "x: x\r\n".repeat(10);
    let allowed = format!("x: {}\r\n{}", "x".repeat(8 << 10), "x: x\r\n".repeat(8));
    for (head, status) in [(long, 431), (many, 431), (allowed, 200)] {
        let mut socket = socket(addr);
        let request = format!("GET /small HTTP/1.1\r\nhost: a\r\n{head}\r\n");
        // Closed before all of it has been read, maybe.
        _ = socket.write_all(request.as_bytes());
        _ = socket.shutdown(std::net::Shutdown::Write);
        let answer = until_closed(&mut socket);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
}

#[test]
fn a_limit_of_descriptors_that_is_raised_is_noticed() {
    use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
    const CROWD: usize = 200;
    let dir = site();
    let options = ["--threads", "1", "--max-connections", "1000"];
    let (server, addr) = serve(dir.path(), &options);
    let set = |current| {
        let limit = Rlimit {
            current: Some(current),
            ..getrlimit(Resource::Nofile)
        };
        prlimit(Some(server.pid()), Resource::Nofile, limit).expect("a limit below the hard one");
    };
    let held = || {
        let descriptors = format!("/proc/{}/fd", server.pid().as_raw_nonzero());
        std::fs::read_dir(descriptors).unwrap().count()
    };
    set(64);
    let mut crowd: Vec<_> = (0..CROWD).map(|_| connect(addr)).collect();
    // All but those that are left for files.
    eventually("it is short", || held() > 40);
    set(1024);
    // Kept alive: each has its descriptor still when the last is answered.
    for client in &mut crowd {
        assert_eq!(client.get("/small", "").body, b"small");
    }
    assert!(held() > CROWD);
}

#[test]
fn a_transfer_keeps_its_rate_within_five_percent() {
    const RATE: u64 = 4 << 20;
    const LEN: u64 = 12 << 20;
    let dir = site();
    content::write(&dir.path().join("file"), 7, LEN).unwrap();
    let (mut server, addr) = serve(
        dir.path(),
        &[
            "--rate-limit",
            "4MiB/s",
            "--access-log",
            "-",
            "--access-log-format",
            "json",
        ],
    );
    let wanted = content::sha256(&dir.path().join("file")).unwrap();
    // A tenth of a second's worth comes at once.
    let fair = Duration::from_millis((LEN - RATE / 10) * 1000 / RATE);
    let mut client = connect(addr);
    let mut took = Vec::new();
    // A busy machine can make it late, but never early.
    while took.len() < 3 && took.last().is_none_or(|took| *took > fair * 105 / 100) {
        let started = Instant::now();
        let response = client.get("/file", "");
        took.push(started.elapsed());
        assert_eq!(response.sha256, wanted);
        assert!(started.elapsed() >= fair * 95 / 100, "{took:?}: {fair:?}");
        let line = server.next_line();
        assert!(line.contains(r#""via":"sendfile""#), "{line}");
    }
    assert!(
        took.last() <= Some(&(fair * 105 / 100)),
        "{took:?}: {fair:?}"
    );
    // What is short goes at once.
    assert_eq!(client.get("/small", "").body, b"small");
}

#[test]
fn out_of_descriptors_it_neither_ends_nor_spins_and_serves_all_in_the_end() {
    const FILES: usize = 40;
    let dir = site();
    for i in 0..FILES {
        // Too long to be kept in memory.
        content::write(&dir.path().join(format!("{i}")), i as u64, 100_000).unwrap();
    }
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 64 && exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_lendfile"))
        // More than there are descriptors for.
        .args(["serve", "--listen", "127.0.0.1:0", "--threads", "1"])
        .args(["--max-connections", "1000"])
        .arg(dir.path());
    let mut running = Running::start(command);
    let line = running.next_line();
    let addr = line.strip_prefix("listening on http://").unwrap();
    let addr = addr.parse().unwrap();
    let mut crowd: Vec<_> = (0..500).map(|_| socket(addr)).collect();
    let (before, started) = (running.processor_time(), Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    let busy = running.processor_time() - before;
    assert!(
        busy < started.elapsed() / 20,
        "{busy:?} of processor time while starved"
    );
    // Each wants a descriptor for its file beside its own.
    for (i, socket) in crowd.iter_mut().enumerate() {
        let file = i % FILES;
        let request = format!("GET /{file} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).unwrap();
    }
    for mut socket in crowd {
        let answer = until_closed(&mut socket);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:.100?}");
    }
}
