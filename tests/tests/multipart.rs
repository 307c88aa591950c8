//! Several ranges in one response: framing, lengths, which way the bytes go, and the cost of asking
//! for too many.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::body::Body;
use http::Request;
use http::header::RANGE;
use lendfile::{FileResponse, Method, OpenFile, Outcome, ServeDir, Transfer};
use lendfile_tests::client::{Client, Response};
use lendfile_tests::content;
use lendfile_tests::process::eventually;
use lendfile_tests::server::{Network, Server, Stack};
use tower::service_fn;

/// The parts of a multipart body: their `Content-Range` and bytes.
fn parts(response: &Response) -> Vec<(String, Vec<u8>)> {
    let kind = &response.headers["content-type"];
    let boundary = kind
        .strip_prefix("multipart/byteranges; boundary=")
        .expect("a multipart response");
    let mut found = Vec::new();
    let mut rest = &response.body[..];
    let mut delimiter = format!("--{boundary}\r\n");
    loop {
        rest = rest.strip_prefix(delimiter.as_bytes()).expect("a part");
        delimiter = format!("\r\n--{boundary}\r\n");
        let end = rest
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .expect("a head");
        let head = std::str::from_utf8(&rest[..end]).expect("text");
        rest = &rest[end + 4..];
        let range = head
            .lines()
            .find_map(|line| line.strip_prefix("content-range: "))
            .expect("a range");
        let (first, last) = range["bytes ".len()..]
            .split_once('/')
            .and_then(|(range, _)| range.split_once('-'))
            .expect("first-last/total");
        let len = last.parse::<usize>().unwrap() - first.parse::<usize>().unwrap() + 1;
        found.push((range.to_owned(), rest[..len].to_vec()));
        rest = &rest[len..];
        if rest == format!("\r\n--{boundary}--\r\n").as_bytes() {
            return found;
        }
    }
}

fn old(path: &std::path::Path) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    file.set_modified(hour_ago).unwrap();
}

#[test]
fn each_part_is_the_slice_asked_for_in_the_order_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.txt");
    for len in [3_000_usize, 300_000] {
        content::write(&path, 3, len as u64).unwrap();
        old(&path);
        let bytes = std::fs::read(&path).unwrap();
        for stack in Stack::ALL {
            let service = ServeDir::new(dir.path()).unwrap();
            let server = Server::start(stack, Network::Tcp, Method::Auto, service);
            let mut client = Client::connect(&server.address);
            let found = client.get("/file.txt", "range: bytes=1500-1999,0-9,-1,99999999-\r\n");
            assert_eq!(found.status, 206);
            assert_eq!(found.len.to_string(), found.headers["content-length"]);
            let expected = [1500..2000, 0..10, len - 1..len];
            let found = parts(&found);
            assert_eq!(found.len(), expected.len());
            for ((range, part), slice) in found.into_iter().zip(expected) {
                let name = format!("bytes {}-{}/{len}", slice.start, slice.end - 1);
                assert_eq!(range, name, "{stack:?}");
                assert!(part == bytes[slice], "{stack:?} {range}");
            }
            let chunked = client.get("/file.txt", "x-chunked: 1\r\nrange: bytes=0-9,20-29\r\n");
            assert_eq!(parts(&chunked).len(), 2);
            // The connection is where it should be.
            assert_eq!(client.get("/file.txt", "").len, len as u64);
        }
    }
}

#[test]
fn every_part_is_lent_however_short_and_the_report_is_of_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    content::write(&path, 5, 1 << 20).unwrap();
    let file = OpenFile::open(&path).unwrap();
    let report: Arc<Mutex<Option<Transfer>>> = Arc::default();
    let into = report.clone();
    let service = service_fn(move |request: Request<Body>| {
        let response = FileResponse::new(file.clone()).respond(&request);
        let into = into.clone();
        let response = response
            .map(|body| body.on_end(move |transfer| *into.lock().unwrap() = Some(transfer)));
        async { Ok::<_, std::convert::Infallible>(response) }
    });
    let server = Server::start(Stack::Serve, Network::Tcp, Method::Auto, service);
    let mut client = Client::connect(&server.address);
    let found = client.get("/", "range: bytes=0-9,100-199,500000-900000\r\n");
    assert_eq!(parts(&found).len(), 3);
    eventually("the report comes", || report.lock().unwrap().is_some());
    let report = report.lock().unwrap().take().unwrap();
    let lent = 10 + 100 + 400_001;
    assert_eq!(report.outcome, Outcome::Complete);
    assert_eq!(
        report.bytes_by(Method::Copy),
        report.bytes_sent() - lent,
        "framing only"
    );
    assert_eq!(report.bytes_sent(), found.len);
}

#[test]
fn ten_thousand_ranges_are_answered_by_the_whole_file_and_do_not_multiply_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    content::write(&path, 7, 50_000).unwrap();
    old(&path);
    let response = FileResponse::new(OpenFile::open(&path).unwrap());
    let many: Vec<String> = (0..10_000)
        .map(|k| format!("{}-{}", 4 * k, 4 * k + 1))
        .collect();
    let request = Request::get("/")
        .header(RANGE, format!("bytes={}", many.join(",")))
        .body(())
        .unwrap();
    assert_eq!(response.respond(&request).status(), 200);
    // Allowed, they are parts; those that overlap never are.
    let allowing = response.max_ranges(10_000);
    assert_eq!(allowing.respond(&request).status(), 206);
    let overlapping = Request::get("/")
        .header(RANGE, format!("bytes={}", "0-,".repeat(10_000)))
        .body(())
        .unwrap();
    assert_eq!(allowing.respond(&overlapping).status(), 200);
}
