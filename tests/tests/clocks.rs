//! What a connection is kept to: what counts against its clocks, what does not, and from when on.

use std::io::Read;
use std::net::TcpStream;
use std::num::NonZeroU32;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use lendfile::{Limits, ServeDir, Tls};
use lendfile_tests::client::Client;
use lendfile_tests::mounts::{Fuse, Kind, Mount, make_cold};
use lendfile_tests::server::Server;
use lendfile_tests::sockets::most_held;
use lendfile_tests::{PATIENCE, content};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

#[test]
fn a_peer_is_not_cut_for_a_disk_that_is_slow() {
    const DELAY_MS: u64 = 1500;
    let slow = Fuse {
        delay_ms: DELAY_MS,
        ..Fuse::new(env!("CARGO_BIN_EXE_fuse-file"))
    };
    let Some(mount) = Mount::new(Kind::Fuse, slow) else {
        return;
    };
    let source = mount.source.join("file");
    content::write(&source, 1, 100_000).unwrap();
    make_cold(&mount.path.join("file"));
    let mut limits = Limits::default();
    limits.progress_timeout = Some(Duration::from_millis(200));
    limits.min_rate = None;
    let site = ServeDir::new(&mount.path).unwrap();
    let server = Server::of(|listener| lendfile::serve(listener, site).with_limits(limits));
    let started = Instant::now();
    let response = Client::connect(&server.address).get("/file", "");
    assert!(started.elapsed() >= Duration::from_millis(DELAY_MS));
    assert_eq!(response.sha256, content::sha256(&source).unwrap());
}

#[test]
fn a_handshake_and_the_first_head_have_one_clock() {
    const LIMIT: Duration = Duration::from_secs(2);
    let dir = tempfile::tempdir().unwrap();
    let issued = rcgen::generate_simple_self_signed(["test".to_owned()]).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, issued.cert.pem()).unwrap();
    std::fs::write(&key, issued.signing_key.serialize_pem()).unwrap();
    let mut limits = Limits::default();
    limits.header_timeout = Some(LIMIT);
    let tls = Tls::from_pem_files(cert, key).unwrap();
    let site = ServeDir::new(dir.path()).unwrap();
    let server = Server::of(|listener| {
        lendfile::serve(listener, site)
            .with_limits(limits)
            .with_tls(tls)
    });

    let mut roots = RootCertStore::empty();
    roots.add(issued.cert.der().clone()).unwrap();
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("test").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let socket = TcpStream::connect(server.tcp()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let started = Instant::now();
    // Most of its time has gone by when it says something.
    thread::sleep(LIMIT * 9 / 10);
    let mut stream = StreamOwned::new(connection, socket);
    // Shakes hands, then asks for nothing.
    _ = stream.read(&mut [0; 16]);
    let waited = started.elapsed();
    assert!(waited >= LIMIT * 9 / 10, "{waited:?}");
    // Of its own time the head would have had as much again.
    assert!(waited < LIMIT * 7 / 4, "{waited:?}");
}

#[test]
fn who_had_connected_before_the_server_began_is_kept_to_the_limits_too() {
    const MUCH: usize = 1 << 20;
    let dir = tempfile::tempdir().unwrap();
    content::write(&dir.path().join("large"), 1, 50 << 20).unwrap();
    let mut limits = Limits::default();
    limits.unsent_bytes = NonZeroU32::new(64 << 10);
    limits.progress_timeout = Some(Duration::from_millis(500));
    let site = ServeDir::new(dir.path()).unwrap();
    let (connected, is_connected) = mpsc::channel();
    let server = Server::of(move |listener| {
        is_connected.recv().unwrap();
        lendfile::serve(listener, site).with_limits(limits)
    });
    let client = TcpStream::connect(server.tcp()).unwrap();
    connected.send(()).unwrap();
    let held = most_held(&client, "/large");
    assert!(held > 0 && held < MUCH, "{held}");
}
