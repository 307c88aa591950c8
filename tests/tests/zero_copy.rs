//! It really is zero-copy: the process never touches the pages, and the peer gets the pages
//! themselves rather than a copy of them.

use std::fs::{self, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use axum::body::Body as AxumBody;
use http::{Request, Response};
use lendfile::{
    FileBody, FileRegion, Lending, Method, OpenFile, Outcome, RateLimit, ServeDir, Transfer,
};
use lendfile_tests::PATIENCE;
use lendfile_tests::client::Client;
use lendfile_tests::content;
use lendfile_tests::process::{eventually, resident_of};
use lendfile_tests::server::{Network, Server, Stack, Testable};
use tower::ServiceExt;

/// Small enough to fit into any socket's buffer without a reader.
const UNREAD_BYTES: u64 = 40_000;

#[test]
fn the_lent_mapping_has_no_resident_page_while_it_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap().join("large");
    content::write(&path, 1, 64 << 20).unwrap();
    let hash = content::sha256(&path).unwrap();
    for stack in Stack::ALL {
        for network in [Network::Tcp, Network::Unix] {
            let service = ServeDir::new(dir.path()).unwrap();
            let service = service.staleness(Duration::ZERO);
            let server = Server::start(stack, network, Method::Sendfile, service);
            let mut client = Client::connect(&server.address);
            client.send("GET /large HTTP/1.1\r\nhost: test\r\n\r\n");
            let (status, _) = client.head().unwrap();
            assert_eq!(status, 200);
            // The rest does not fit into the socket: the body is under way now.
            let resident = resident_of(&path);
            assert_eq!(
                resident,
                [0],
                "{stack:?} {network:?}: one mapping, untouched"
            );
            client.read_exact(64 << 20).unwrap();
            // And again, whole, so that the check above was not of a broken transfer.
            assert_eq!(client.get("/large", "").sha256, hash);
            drop(client);
            eventually("the mapping goes with its last transfer", || {
                resident_of(&path).is_empty()
            });
        }
    }
}

/// A service that sends one file and reports each transfer.
fn reporting(
    path: PathBuf,
    lending: Lending,
) -> (impl Testable<FileBody>, mpsc::Receiver<Transfer>) {
    let (tell, told) = mpsc::channel();
    let service = tower::service_fn(move |request: Request<AxumBody>| {
        let tell = tell.clone();
        let path = path.clone();
        async move {
            let region = FileRegion::whole(OpenFile::open(path).unwrap());
            let body = FileBody::new(region, lending, request.extensions());
            let body = body.on_end(move |transfer| _ = tell.send(transfer));
            Ok(Response::new(body))
        }
    });
    (service, told)
}

/// Has `UNREAD_BYTES` sent to a peer that does not read, overwrites the file, and returns whether
/// the peer then reads the old bytes or the new.
fn what_a_stalled_peer_gets(network: Network, method: Method) -> io::Result<(bool, bool)> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("file");
    let (old, new) = (
        content::bytes(1, UNREAD_BYTES),
        content::bytes(2, UNREAD_BYTES),
    );
    fs::write(&path, &old)?;
    let (service, ended) = reporting(path.clone(), Lending::Advertised);
    let server = Server::start(Stack::Serve, network, method, service);
    let mut client = Client::connect(&server.address);
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    let transfer = ended.recv().expect("a report");
    assert_eq!(transfer.outcome, Outcome::Complete);
    assert_eq!(transfer.bytes_by(method), UNREAD_BYTES);
    // In place: the inode and its pages stay.
    let file = OpenOptions::new().write(true).open(&path)?;
    file.write_all_at(&new, 0)?;
    let got = client.response("GET")?.body;
    Ok((got == old, got == new))
}

#[test]
fn bytes_written_after_sendfile_are_what_a_stalled_peer_gets() {
    for network in [Network::Tcp, Network::Unix] {
        let (old, new) = what_a_stalled_peer_gets(network, Method::Sendfile).unwrap();
        assert!(new && !old, "{network:?}: the peer got a copy");
    }
}

#[test]
fn bytes_written_after_copy_are_not_what_a_stalled_peer_gets() {
    for network in [Network::Tcp, Network::Unix] {
        let (old, new) = what_a_stalled_peer_gets(network, Method::Copy).unwrap();
        assert!(old && !new, "{network:?}: the peer got the file's pages");
    }
}

/// The same of a `ServeDir`: has it send a file to a peer that does not read, overwrites the file
/// in place, and returns what the peer then reads, and what it would have to read: old and new.
fn what_a_directory_sends(
    network: Network,
    options: impl FnOnce(ServeDir) -> ServeDir,
) -> io::Result<(Vec<u8>, Vec<u8>, Vec<u8>)> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("file");
    let (old, new) = (
        content::bytes(1, UNREAD_BYTES),
        content::bytes(2, UNREAD_BYTES),
    );
    fs::write(&path, &old)?;
    let (tell, ended) = mpsc::channel();
    // Not from the cache's memory: that is a copy whatever the options say.
    let service = options(ServeDir::new(dir.path()).unwrap().cached_file_bytes(0));
    let report = move |response: Response<FileBody>| {
        let tell = tell.clone();
        response.map(|body| body.on_end(move |transfer| _ = tell.send(transfer)))
    };
    let service = ServiceExt::<Request<AxumBody>>::map_response(service, report);
    let server = Server::start(Stack::Serve, network, Method::Sendfile, service);
    let mut client = Client::connect(&server.address);
    client.send("GET /file HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(ended.recv().expect("a report").outcome, Outcome::Complete);
    let file = OpenOptions::new().write(true).open(&path)?;
    file.write_all_at(&new, 0)?;
    Ok((client.response("GET")?.body, old, new))
}

#[test]
fn a_stable_directory_sends_what_a_file_held_before_it_was_overwritten() {
    for network in [Network::Tcp, Network::Unix] {
        let (got, old, _) = what_a_directory_sends(network, ServeDir::stable).unwrap();
        assert!(got == old, "{network:?}: the peer got the file's pages");
        // Without it the pages themselves go, or the above would prove nothing.
        let (got, _, new) = what_a_directory_sends(network, |as_it_is| as_it_is).unwrap();
        assert!(got == new, "{network:?}: the peer got a copy");
    }
}

#[test]
fn the_report_names_the_method_and_counts_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let len = 3_000_001;
    content::write(&path, 3, len).unwrap();
    for stack in Stack::ALL {
        for (asked, used) in [
            (Method::Auto, Method::Sendfile),
            (Method::Sendfile, Method::Sendfile),
            (Method::Copy, Method::Copy),
        ] {
            let (service, ended) = reporting(path.clone(), Lending::Advertised);
            let server = Server::start(stack, Network::Tcp, asked, service);
            let response = Client::connect(&server.address).get("/", "");
            assert_eq!(response.len, len);
            let transfer = ended.recv().unwrap();
            assert_eq!(transfer.outcome, Outcome::Complete, "{stack:?} {asked}");
            assert_eq!(transfer.method(), Some(used), "{stack:?} {asked}");
            assert_eq!(transfer.bytes_by(used), len, "{stack:?} {asked}");
            assert!(transfer.syscalls > 0);
        }
    }
}

#[test]
fn small_files_are_copied_with_their_head_unless_a_method_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    content::write(&path, 4, 1000).unwrap();
    for (asked, used) in [
        (Method::Auto, Method::Copy),
        (Method::Sendfile, Method::Sendfile),
    ] {
        let (service, ended) = reporting(path.clone(), Lending::Advertised);
        let server = Server::start(Stack::Serve, Network::Tcp, asked, service);
        Client::connect(&server.address).get("/", "");
        assert_eq!(ended.recv().unwrap().method(), Some(used), "{asked}");
    }
}

#[test]
fn without_a_handle_nothing_is_lent_unless_forced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    content::write(&path, 5, 3_000_000).unwrap();
    let hash = content::sha256(&path).unwrap();
    for (lending, outcome, method) in [
        (Lending::Advertised, Outcome::Complete, Some(Method::Copy)),
        (Lending::Always, Outcome::Unobserved, None),
    ] {
        let (service, ended) = reporting(path.clone(), lending);
        let forgetful = tower::util::MapRequest::new(service, |mut request: Request<AxumBody>| {
            request.extensions_mut().clear();
            request
        });
        let server = Server::start(Stack::Serve, Network::Tcp, Method::Auto, forgetful);
        let response = Client::connect(&server.address).get("/", "");
        assert_eq!(response.sha256, hash, "{lending:?}");
        let transfer = ended.recv().unwrap();
        assert_eq!(transfer.outcome, outcome, "{lending:?}");
        assert_eq!(transfer.method(), method, "{lending:?}");
    }
}

#[test]
fn over_http2_all_but_the_beginning_of_each_frame_is_sent_by_sendfile() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let len = 3_000_001;
    content::write(&path, 6, len).unwrap();
    let expected = content::sha256(&path).unwrap();
    let (service, ended) = reporting(path, Lending::Advertised);
    let server = Server::start(Stack::Serve, Network::Tcp, Method::Sendfile, service);
    let fetched = lendfile_tests::client::get_by_h2(&server.address, &["/"]);
    assert_eq!(fetched, [(len, expected)]);
    let transfer = ended.recv().unwrap();
    assert_eq!(transfer.outcome, Outcome::Complete);
    assert_eq!(transfer.bytes_sent(), len);
    // h2 copies up to 247 bytes behind each frame's head, at most 16 KiB apart.
    let copied = transfer.bytes_by(Method::Copy);
    assert!(copied < len / 16_384 * 256 * 2, "{copied} of {len}");
}

#[test]
fn a_limited_body_is_lent_and_sent_no_faster_than_its_rate() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    content::write(&path, 3, 3 << 20).unwrap();
    let hash = content::sha256(&path).unwrap();
    let limit = RateLimit::new(NonZeroU64::new(10 << 20).unwrap());
    for stack in Stack::ALL {
        let (tell, told) = mpsc::channel();
        let path = path.clone();
        let service = tower::service_fn(move |request: Request<AxumBody>| {
            let tell = tell.clone();
            let region = FileRegion::whole(OpenFile::open(&path).unwrap());
            async move {
                let body = FileBody::new(region, Lending::Always, request.extensions());
                let body = body.rate_limit(limit);
                Ok(Response::new(
                    body.on_end(move |transfer| _ = tell.send(transfer)),
                ))
            }
        });
        let server = Server::start(stack, Network::Tcp, Method::Sendfile, service);
        let begun = Instant::now();
        let response = Client::connect(&server.address).get("/", "");
        // 2 MiB follow on the burst of 1 MiB.
        assert!(begun.elapsed() >= Duration::from_millis(190), "{stack:?}");
        assert_eq!(response.sha256, hash, "{stack:?}");
        let transfer = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(transfer.outcome, Outcome::Complete, "{stack:?}");
        assert!(transfer.bytes_by(Method::Sendfile) >= (3 << 20) - 4096);
    }
}
