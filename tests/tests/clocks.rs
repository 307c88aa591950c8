//! What counts against a peer's clocks, and what does not.

use std::future::IntoFuture;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lendfile::{Limits, ServeDir, Tls};
use lendfile_tests::client::Client;
use lendfile_tests::mounts::{Fuse, Kind, Mount, make_cold};
use lendfile_tests::server::Address;
use lendfile_tests::{PATIENCE, content};
use tokio::sync::oneshot;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A server on a thread of its own; stops when dropped.
struct Server {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(site: ServeDir, limits: Limits, tls: Option<Tls>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let mut serve = lendfile::serve(listener, site).with_limits(limits);
            if let Some(tls) = tls {
                serve = serve.with_tls(tls);
            }
            tokio::select! {
                _ = serve.into_future() => {}
                _ = stopped => {}
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            addr,
            stop: Some(stop),
            thread: Some(thread::spawn(move || runtime.block_on(serving))),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the server panicked");
        }
    }
}

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
    let server = Server::start(ServeDir::new(&mount.path).unwrap(), limits, None);
    let started = Instant::now();
    let response = Client::connect(&Address::Tcp(server.addr)).get("/file", "");
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
    let server = Server::start(ServeDir::new(dir.path()).unwrap(), limits, Some(tls));

    let mut roots = RootCertStore::empty();
    roots.add(issued.cert.der().clone()).unwrap();
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("test").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let socket = TcpStream::connect(server.addr).unwrap();
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
