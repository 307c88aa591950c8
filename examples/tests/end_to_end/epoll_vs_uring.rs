//! `epoll_vs_uring`: the same bytes on both.

use lendfile_tests::content;
use lendfile_tests::uring::runtime_or_skip;

use crate::child::{Example, command};

#[test]
fn both_backends_send_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    content::write(&path, 1, 9_000_001).unwrap();
    let sha256 = content::sha256(&path).unwrap();
    let has_ring = runtime_or_skip(lendfile_uring::Options::default()).is_some();
    for backend in ["epoll", "uring"] {
        if backend == "uring" && !has_ring {
            continue;
        }
        let mut command = command("epoll_vs_uring");
        command.args([backend, "127.0.0.1:0"]).arg(dir.path());
        let server = Example::start(command);
        let mut client = server.connect();
        let response = client.get("/file", "");
        assert_eq!(
            (response.status, response.len),
            (200, 9_000_001),
            "{backend}"
        );
        assert_eq!(response.sha256, sha256, "{backend}");
    }
}
