//! Where nothing can be lent, owned chunks are sent: never an error to the peer. Each limit is set
//! in a process of its own.

use std::fs::File;
use std::os::unix::fs::FileExt;

use lendfile::{FileRegion, Method, OpenFile, Root, ServeDir};
use lendfile_core::lent::{ArenaOptions, CannotLend, arena_options};
use lendfile_tests::client::Client;
use lendfile_tests::content;
use lendfile_tests::process::{assert_passed, child_role, in_child, take_descriptors};
use lendfile_tests::server::{Network, Server, Stack};
use rustix::process::{Resource, Rlimit, setrlimit};

/// Serves a large file under whatever limit is set, and checks the bytes.
fn serve_and_check() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    content::write(&path, 1, 3_000_001).unwrap();
    let service = ServeDir::new(dir.path()).unwrap();
    let server = Server::start(Stack::Serve, Network::Tcp, Method::Sendfile, service);
    let response = Client::connect(&server.address).get("/file", "");
    assert_eq!(response.status, 200);
    assert_eq!(response.sha256, content::sha256(&path).unwrap());
}

fn refusal_of(len: u64) -> CannotLend {
    let file = tempfile::tempfile().unwrap();
    file.set_len(len).unwrap();
    let region = FileRegion::whole(OpenFile::new(file).unwrap());
    region.map().expect_err("lent in spite of the limit")
}

#[test]
fn when_every_mapping_is_taken_files_are_copied() {
    const NAME: &str = "when_every_mapping_is_taken_files_are_copied";
    if child_role().is_none() {
        return assert_passed(&in_child(NAME, "full"));
    }
    arena_options(ArenaOptions::default().max_mappings(1)).unwrap();
    let taken = tempfile::tempfile().unwrap();
    taken.set_len(10).unwrap();
    let taken = FileRegion::whole(OpenFile::new(taken).unwrap());
    let mapping = taken.map().unwrap();
    assert_eq!(refusal_of(10), CannotLend::NoRoom);
    serve_and_check();
    drop(mapping);
    taken.map().expect("room again");
    assert!(arena_options(ArenaOptions::default()).is_err());
}

#[test]
fn when_no_addresses_can_be_reserved_files_are_copied() {
    const NAME: &str = "when_no_addresses_can_be_reserved_files_are_copied";
    if child_role().is_none() {
        return assert_passed(&in_child(NAME, "address space"));
    }
    let limit = Some(1 << 30);
    let limits = Rlimit {
        current: limit,
        maximum: limit,
    };
    setrlimit(Resource::As, limits).unwrap();
    assert_eq!(refusal_of(10), CannotLend::NotReserved);
    serve_and_check();
}

#[test]
fn without_a_descriptor_a_file_is_awaited_until_there_is_one() {
    const NAME: &str = "without_a_descriptor_a_file_is_awaited_until_there_is_one";
    if child_role().is_none() {
        return assert_passed(&in_child(NAME, "descriptors"));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, "content").unwrap();
    let root = Root::open(dir.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut taken = take_descriptors(64);
    runtime.block_on(async {
        let mut opening = std::pin::pin!(root.open_file("file"));
        let a_while = std::time::Duration::from_millis(100);
        let opened = tokio::time::timeout(a_while, &mut opening).await;
        assert!(opened.is_err(), "{opened:?}");
        taken.pop();
        let opened = tokio::time::timeout(lendfile_tests::PATIENCE, opening).await;
        assert_eq!(opened.expect("in time").expect("opened").len(), 7);
    });
}

#[test]
fn a_file_larger_than_the_largest_slot_is_copied() {
    let dir = tempfile::tempdir().unwrap();
    let file = File::create(dir.path().join("huge")).unwrap();
    let len = 3 << 40;
    if let Err(error) = file.set_len(len) {
        return lendfile_tests::process::skip("3-tib-files", &error.to_string());
    }
    file.write_all_at(b"the end", len - 7).unwrap();
    let huge = FileRegion::whole(OpenFile::open(dir.path().join("huge")).unwrap());
    assert_eq!(huge.map().unwrap_err(), CannotLend::TooLarge);
    let service = ServeDir::new(dir.path()).unwrap();
    let server = Server::start(Stack::Serve, Network::Tcp, Method::Sendfile, service);
    let response = Client::connect(&server.address).get("/huge", "range: bytes=-7\r\n");
    assert_eq!(response.body, b"the end");
}

#[test]
fn an_empty_file_and_an_empty_region_are_not_mapped() {
    assert_eq!(refusal_of(0), CannotLend::Empty);
}
