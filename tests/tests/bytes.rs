//! The peer gets the file's bytes: every stack, network, method, framing and size.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use lendfile::{Method, ServeDir};
use lendfile_tests::client::{Client, get_by_h2};
use lendfile_tests::content;
use lendfile_tests::server::{Network, Server, Stack, methods};

const MIB: u64 = 1 << 20;
const SIZES: [u64; 9] = [0, 1, 4095, 4096, 4097, 40_000, MIB - 1, MIB, MIB + 1];
const NETWORKS: [Network; 2] = [Network::Tcp, Network::Unix];

struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    fn of(sizes: &[u64]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for size in sizes {
            content::write(&dir.path().join(size.to_string()), *size, *size).unwrap();
        }
        Self { dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn sha256(&self, size: u64) -> String {
        content::sha256(&self.path().join(size.to_string())).unwrap()
    }

    fn server(&self, stack: Stack, network: Network, method: Method) -> Server {
        Server::start(stack, network, method, ServeDir::new(self.path()).unwrap())
    }
}

/// Every combination of stack, network and method.
fn for_each_server(tree: &Tree, mut test: impl FnMut(&Server, &str)) {
    for stack in Stack::ALL {
        for network in NETWORKS {
            for method in methods() {
                let server = tree.server(stack, network, method);
                test(&server, &format!("{stack:?} {network:?} {method}"));
            }
        }
    }
}

#[test]
fn every_size_arrives_whole_with_a_length_and_in_chunks() {
    let tree = Tree::of(&SIZES);
    let hashes = SIZES.map(|size| tree.sha256(size));
    for_each_server(&tree, |server, which| {
        let mut client = Client::connect(&server.address);
        for (size, hash) in SIZES.iter().zip(&hashes) {
            let plain = client.get(&format!("/{size}"), "");
            assert_eq!(plain.headers["content-length"], size.to_string(), "{which}");
            assert_eq!(plain.sha256, *hash, "{which} {size}");
            let chunked = client.get(&format!("/{size}"), "x-chunked: 1\r\n");
            assert_eq!(chunked.headers["transfer-encoding"], "chunked", "{which}");
            assert_eq!(chunked.sha256, *hash, "{which} {size} in chunks");
        }
    });
}

#[test]
fn every_size_arrives_whole_over_several_http2_streams_at_once() {
    let tree = Tree::of(&SIZES);
    let paths = SIZES.map(|size| format!("/{size}"));
    let paths: Vec<_> = paths.iter().chain(&paths).map(String::as_str).collect();
    let expected: Vec<_> = SIZES
        .iter()
        .chain(&SIZES)
        .map(|size| (*size, tree.sha256(*size)))
        .collect();
    for_each_server(&tree, |server, which| {
        assert_eq!(get_by_h2(&server.address, &paths), expected, "{which}");
    });
}

#[test]
fn three_hundred_mebibytes_arrive_whole() {
    let size = 300 * MIB;
    let tree = Tree::of(&[size]);
    let hash = tree.sha256(size);
    let path = format!("/{size}");
    for stack in Stack::ALL {
        let server = tree.server(stack, Network::Tcp, Method::Sendfile);
        let mut client = Client::connect(&server.address);
        assert_eq!(client.get(&path, "").sha256, hash, "{stack:?}");
    }
    for method in [Method::Auto, Method::Copy] {
        let server = tree.server(Stack::Serve, Network::Unix, method);
        let mut client = Client::connect(&server.address);
        assert_eq!(client.get(&path, "").sha256, hash, "{method}");
        let chunked = client.get(&path, "x-chunked: 1\r\n");
        assert_eq!(chunked.sha256, hash, "{method} in chunks");
    }
    let server = tree.server(Stack::Serve, Network::Tcp, Method::Auto);
    let fetched = get_by_h2(&server.address, &[&path, &path]);
    assert_eq!(fetched, [(size, hash.clone()), (size, hash)]);
}

#[test]
fn the_end_of_a_sparse_five_gibibyte_file_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let file = File::create(dir.path().join("sparse")).unwrap();
    let size = 5 * 1024 * MIB;
    file.set_len(size).unwrap();
    let end = content::bytes(5, 100_000);
    file.write_all_at(&end, size - 100_000).unwrap();
    for method in methods() {
        let service = ServeDir::new(dir.path()).unwrap();
        let server = Server::start(Stack::Serve, Network::Tcp, method, service);
        let mut client = Client::connect(&server.address);
        let response = client.get("/sparse", "range: bytes=-100000\r\n");
        assert_eq!(response.status, 206);
        let range = format!("bytes {}-{}/{size}", size - 100_000, size - 1);
        assert_eq!(response.headers["content-range"], range);
        assert!(response.body == end, "{method}");
        let middle = client.get("/sparse", "range: bytes=4294967290-4294967301\r\n");
        assert_eq!(middle.body, [0; 12], "{method}: across 4 GiB");
    }
}

#[test]
fn ranges_at_odd_offsets_are_the_slices_they_name() {
    let tree = Tree::of(&[MIB]);
    let bytes = content::bytes(MIB, MIB);
    for_each_server(&tree, |server, which| {
        let mut client = Client::connect(&server.address);
        for (first, last) in [
            (0, 0),
            (1, 4096),
            (4095, 8192),
            (77_777, 999_999),
            (MIB - 1, MIB),
        ] {
            let range = format!("range: bytes={first}-{last}\r\n");
            let response = client.get(&format!("/{MIB}"), &range);
            let [from, to] = [first, last.min(MIB - 1)].map(|n| usize::try_from(n).unwrap());
            assert_eq!(response.status, 206, "{which}");
            assert!(response.body == bytes[from..=to], "{which} {first}-{last}");
        }
    });
}

#[test]
fn a_file_beyond_two_gibibytes_arrives_whole_over_http2() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sparse");
    let len = (2 << 30) + 4097;
    let file = File::create(&path).unwrap();
    file.set_len(len).unwrap();
    file.write_all_at(&content::bytes(6, 5000), len - 5000)
        .unwrap();
    file.write_all_at(&content::bytes(7, 5000), (1 << 30) - 2500)
        .unwrap();
    let expected = content::sha256(&path).unwrap();
    let service = ServeDir::new(dir.path()).unwrap();
    let server = Server::start(Stack::Serve, Network::Tcp, Method::Sendfile, service);
    assert_eq!(get_by_h2(&server.address, &["/sparse"]), [(len, expected)]);
}
