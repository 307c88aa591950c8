//! Files that are not in the page cache, on every filesystem, ours and somebody else's: the right
//! bytes by every method, and no call that waits for the disk.

use std::env;
use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};

use lendfile_core::{Continuation, FileRegion, Method, OpenFile, Transport};
use lendfile_epoll::{EpollTransport, FileReader};
use lendfile_tests::conformance::{Peer, pair};
use lendfile_tests::content;
use lendfile_tests::mounts::{Kind, Mount, make_cold};
use lendfile_tests::process::{assert_passed, child_role, in_unprivileged_child, skip};
use lendfile_tests::server::{Network, methods};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;

/// Not a multiple of anything, and more than any window of readahead.
const LEN: u64 = (20 << 20) + 12_345;

/// What a send by `method` reported.
#[derive(Debug, Default)]
struct Report {
    cold_waits: u32,
    by_method: u64,
    copied: u64,
}

/// Sends the file, checks what the peer got.
async fn send(path: &Path, method: Method, sha256: &str) -> Report {
    let (Peer::Tcp(ours), mut peer) = pair(Network::Tcp).unwrap() else {
        unreachable!("a pair of the network asked for")
    };
    let reader = std::thread::spawn(move || {
        let mut hash = Sha256::new();
        io::copy(&mut peer, &mut hash).unwrap();
        content::hex(hash)
    });
    let socket = TcpStream::from_std(ours).unwrap();
    let mut transport = EpollTransport::new(socket).with_method(method).unwrap();
    let mut region = FileRegion::whole(OpenFile::open(path).unwrap());
    let mut report = Report::default();
    while !region.is_empty() {
        let sending = poll_fn(|cx| transport.poll_send_file(cx, &region, Continuation::End));
        let sent = sending.await.unwrap();
        report.cold_waits += sent.cold_waits;
        if sent.method == Method::Copy {
            report.copied += sent.bytes as u64;
        } else {
            report.by_method += sent.bytes as u64;
        }
        region.advance(sent.bytes as u64);
    }
    drop(transport);
    assert_eq!(
        reader.join().unwrap(),
        sha256,
        "{method} {}",
        path.display()
    );
    report
}

async fn every_method_sends(kind: Kind, path: &Path, sha256: &str) {
    for method in methods() {
        let cold = send(path, method, sha256).await;
        if method != Method::Copy {
            // Of a mapping the last page is read; nothing else is copied.
            assert!(cold.copied <= 4096, "{} {method}: {cold:?}", kind.name());
            assert_eq!(cold.by_method + cold.copied, LEN);
        }
    }
}

fn prepare(mount: &Mount) -> (PathBuf, String) {
    content::write(&mount.source.join("file"), 1, LEN).unwrap();
    let path = mount.path.join("file");
    let sha256 = content::sha256(&path).unwrap();
    (path, sha256)
}

#[tokio::test]
async fn cold_files_of_every_filesystem_are_sent_by_every_method() {
    for kind in Kind::ALL {
        let Some(mount) = Mount::new(kind) else {
            continue;
        };
        let (path, sha256) = prepare(&mount);
        for method in methods() {
            make_cold(&path);
            make_cold(&mount.source.join("file"));
            let report = send(&path, method, &sha256).await;
            if method != Method::Copy {
                assert!(
                    report.copied <= 4096,
                    "{} {method}: {report:?}",
                    kind.name()
                );
            }
            if kind != Kind::Tmpfs {
                assert!(report.cold_waits > 0, "{} {method}: it waited", kind.name());
            }
        }
        // And warm, from what is believed and what is asked.
        every_method_sends(kind, &path, &sha256).await;
    }
}

#[test]
fn files_of_somebody_else_are_sent_by_every_method() {
    const NAME: &str = "files_of_somebody_else_are_sent_by_every_method";
    if let Some(role) = child_role() {
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| kind.name() == role)
            .unwrap();
        let path = PathBuf::from(env::var_os("LENDFILE_FILE").unwrap());
        let sha256 = env::var("LENDFILE_SHA256").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        return runtime
            .unwrap()
            .block_on(every_method_sends(kind, &path, &sha256));
    }
    if !rustix::process::geteuid().is_root() {
        return skip("root", "only root can become somebody else");
    }
    for kind in Kind::ALL {
        let Some(mount) = Mount::new(kind) else {
            continue;
        };
        mount.open_to_all();
        let (path, sha256) = prepare(&mount);
        make_cold(&path);
        make_cold(&mount.source.join("file"));
        let variables = [
            ("LENDFILE_FILE", path.to_str().unwrap()),
            ("LENDFILE_SHA256", &sha256),
        ];
        assert_passed(&in_unprivileged_child(NAME, kind.name(), &variables));
    }
}

#[tokio::test]
async fn cold_files_of_every_filesystem_can_be_read() {
    for kind in Kind::ALL {
        let Some(mount) = Mount::new(kind) else {
            continue;
        };
        let (path, sha256) = prepare(&mount);
        make_cold(&path);
        make_cold(&mount.source.join("file"));
        let mut region = FileRegion::whole(OpenFile::open(&path).unwrap());
        let (mut reader, mut hash) = (FileReader::new(), Sha256::new());
        let mut buffer = vec![0; 100_000];
        while !region.is_empty() {
            let read = poll_fn(|cx| reader.poll_read(cx, &region, &mut buffer)).await;
            let n = read.unwrap();
            hash.update(&buffer[..n]);
            region.advance(n as u64);
        }
        assert_eq!(content::hex(hash), sha256, "{}", kind.name());
        if kind != Kind::Tmpfs {
            assert!(reader.take_cold_waits() > 0, "{}: it waited", kind.name());
        }
    }
}
