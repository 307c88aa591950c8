//! That the limit answers like a server.

use super::*;
use lendfile_bench::client;
use lendfile_bench::files::TestFiles;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

fn serving(length: u64, method: Method) -> (SocketAddr, lendfile_bench::files::TestFile) {
    let files = TestFiles::new().unwrap();
    let file = files.create(length).unwrap();
    let directory = files.directory().to_owned();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        serve(any, &directory, method, |address| {
            sender.send(address).unwrap();
        })
    });
    // The file is open by then, so its directory may go.
    (receiver.recv().unwrap(), file)
}

#[test]
fn every_method_sends_the_files_bytes() {
    for method in Method::value_variants() {
        for length in [0, 1, 4097, (3 << 20) + 1] {
            let (address, file) = serving(length, *method);
            let digest = client::fetch_digest(address, &file.request_path()).unwrap();
            assert_eq!(digest, file.digest, "{method:?}, {length}");
        }
    }
}

#[test]
fn pipelined_requests_are_answered_one_after_the_other() {
    let (address, file) = serving(5, Method::Sendfile);
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let request = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", file.name).repeat(3);
    stream.write_all(request.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answers = Vec::new();
    // The server may close with a reset once it sees the end.
    let _ = stream.read_to_end(&mut answers);
    let heads = answers
        .windows(9)
        .filter(|bytes| bytes == b"HTTP/1.1 ")
        .count();
    assert_eq!((heads, file.digest.length), (3, 5));
}
