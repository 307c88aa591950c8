//! Files that are not in the page cache, on every filesystem, ours and somebody else's: the right
//! bytes by every method, and no call that waits for the disk.

use std::env;
use std::future::poll_fn;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lendfile_core::{Continuation, FileRegion, Method, OpenFile, Transport, statistics};
use lendfile_epoll::{EpollTransport, FileReader};
use lendfile_tests::conformance::{Peer, pair};
use lendfile_tests::content;
use lendfile_tests::mounts::{Fuse, Kind, Mount, forget, make_cold};
use lendfile_tests::process::{assert_passed, child_role, in_child, in_unprivileged_child, skip};
use lendfile_tests::server::{Network, methods};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;

/// Not a multiple of anything, and more than any window of readahead.
const LEN: u64 = (20 << 20) + 12_345;

/// The FUSE server.
const FUSE: &str = env!("CARGO_BIN_EXE_fuse-file");

/// What a send by `method` reported.
#[derive(Debug, Default)]
struct Report {
    cold_waits: u32,
    by_method: u64,
    copied: u64,
}

/// A transport, and a thread that has what `read` makes of what its peer gets.
fn connect<T: Send + 'static>(
    method: Method,
    read: impl FnOnce(Peer) -> T + Send + 'static,
) -> (EpollTransport<TcpStream>, JoinHandle<T>) {
    let (Peer::Tcp(ours), peer) = pair(Network::Tcp).unwrap() else {
        unreachable!("a pair of the network asked for")
    };
    let reader = thread::spawn(move || read(peer));
    let socket = TcpStream::from_std(ours).unwrap();
    let transport = EpollTransport::new(socket).with_method(method).unwrap();
    (transport, reader)
}

/// Sends the file, checks what the peer got.
async fn send(path: &Path, method: Method, sha256: &str) -> Report {
    watched(&OpenFile::open(path).unwrap(), method, sha256, |_| {}).await
}

/// The same, with how long each poll took.
async fn watched(
    file: &Arc<OpenFile>,
    method: Method,
    sha256: &str,
    mut took: impl FnMut(Duration),
) -> Report {
    let (mut transport, reader) = connect(method, |mut peer| {
        let mut hash = Sha256::new();
        io::copy(&mut peer, &mut hash).unwrap();
        content::hex(hash)
    });
    let mut region = FileRegion::whole(file.clone());
    let mut report = Report::default();
    while !region.is_empty() {
        let sending = poll_fn(|cx| {
            let begun = Instant::now();
            let polled = transport.poll_send_file(cx, &region, Continuation::End);
            took(begun.elapsed());
            polled
        });
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
    assert_eq!(reader.join().unwrap(), sha256, "{method} {file:?}");
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

/// Has the mount's file read from its disk next time; whether there is one.
fn chill(kind: Kind, mount: &Mount) -> bool {
    make_cold(&mount.source.join("file"));
    let cold = make_cold(&mount.path.join("file"));
    if kind != Kind::Here {
        assert_eq!(cold, kind != Kind::Tmpfs, "{}", kind.name());
    }
    cold
}

/// Times that a file is sent before it is said to have come from no disk. One may have answered
/// before it was asked whether it had: a virtual one, when the hypervisor ran it instead of us.
const ATTEMPTS: usize = 5;

/// Has the file read from its disk and transferred, and asserts that the transfer waited if there is
/// a disk; `transfer` returns its waits.
async fn assert_waits_for_disk(
    kind: Kind,
    mount: &Mount,
    what: &str,
    mut transfer: impl AsyncFnMut() -> u32,
) {
    for _ in 0..ATTEMPTS {
        let cold = chill(kind, mount);
        let waits = transfer().await;
        assert!(cold || waits == 0, "{} {what}: no disk", kind.name());
        if waits > 0 || !cold {
            return;
        }
    }
    panic!("{} {what}: never waited for its disk", kind.name());
}

#[tokio::test]
async fn cold_files_of_every_filesystem_are_sent_by_every_method() {
    for kind in Kind::ALL {
        let Some(mount) = Mount::new(kind, Fuse::new(FUSE)) else {
            continue;
        };
        let (path, sha256) = prepare(&mount);
        for method in methods() {
            assert_waits_for_disk(kind, &mount, method.name(), async || {
                let report = send(&path, method, &sha256).await;
                if method != Method::Copy {
                    assert!(
                        report.copied <= 4096,
                        "{} {method}: {report:?}",
                        kind.name()
                    );
                }
                report.cold_waits
            })
            .await;
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
        let cold = env::var("LENDFILE_COLD").unwrap() == "yes";
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        return runtime.unwrap().block_on(async {
            for method in methods() {
                let mut waits = 0;
                for _ in 0..ATTEMPTS {
                    forget(&path);
                    waits += send(&path, method, &sha256).await.cold_waits;
                    if waits > 0 {
                        break;
                    }
                }
                // Of tmpfs, nobody but its owner can know that there is no disk.
                assert!(waits > 0 || !cold, "{} {method}", kind.name());
            }
            every_method_sends(kind, &path, &sha256).await;
        });
    }
    if !rustix::process::geteuid().is_root() {
        return skip("root", "only root can become somebody else");
    }
    for kind in Kind::ALL {
        let Some(mount) = Mount::new(kind, Fuse::new(FUSE)) else {
            continue;
        };
        mount.open_to_all();
        let (path, sha256) = prepare(&mount);
        let cold = chill(kind, &mount);
        let variables = [
            ("LENDFILE_COLD", if cold { "yes" } else { "no" }),
            ("LENDFILE_FILE", path.to_str().unwrap()),
            ("LENDFILE_SHA256", &sha256),
        ];
        assert_passed(&in_unprivileged_child(NAME, kind.name(), &variables));
    }
}

/// Less than the smallest stretch that is asked about may be all there is.
#[tokio::test]
async fn a_cut_file_ends_in_an_error_wherever_its_end_is() {
    const FROM: u64 = 1 << 20;
    // Not over FUSE, whose server here has one file, whose length the kernel remembers.
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Fuse) {
        let Some(mount) = Mount::new(kind, Fuse::new(FUSE)) else {
            continue;
        };
        for (method, rest) in methods().flat_map(|method| [(method, 10_000), (method, 1)]) {
            let name = format!("{method}-{rest}");
            let source = mount.source.join(&name);
            content::write(&source, 1, 2 * FROM).unwrap();
            let path = mount.path.join(&name);
            make_cold(&source);
            let file = OpenFile::open(&path).unwrap();
            let cut = std::fs::OpenOptions::new().write(true).open(&source);
            cut.unwrap().set_len(FROM + rest).unwrap();
            let (Peer::Tcp(ours), _peer) = pair(Network::Tcp).unwrap() else {
                unreachable!("a pair of the network asked for")
            };
            let socket = TcpStream::from_std(ours).unwrap();
            let mut transport = EpollTransport::new(socket).with_method(method).unwrap();
            let mut region = FileRegion::new(file, FROM, FROM).unwrap();
            let sending = async {
                loop {
                    let sent =
                        poll_fn(|cx| transport.poll_send_file(cx, &region, Continuation::End));
                    match sent.await {
                        Ok(sent) => region.advance(sent.bytes as u64),
                        Err(error) => break error,
                    }
                }
            };
            let error = tokio::time::timeout(lendfile_tests::PATIENCE, sending).await;
            let error = error.unwrap_or_else(|_| panic!("{} {method}: no end", kind.name()));
            let sent = region.offset() - FROM;
            assert!(sent <= rest, "{} {method}: {sent} of {rest}", kind.name());
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
        }
    }
}

#[tokio::test]
async fn a_fuse_server_that_fails_or_ends_early_ends_the_transfer_after_the_bytes_before() {
    const LEN: u64 = 2 << 20;
    let whole = Fuse::new(FUSE);
    // At a page, within one, and within the smallest stretch that is asked about.
    for at in [512 << 10, (512 << 10) + 5000, 10_000, 1] {
        let fails = Fuse {
            fails_at: at,
            ..whole
        };
        let ends = Fuse {
            ends_at: at,
            ..whole
        };
        for (fuse, kind) in [
            (fails, io::ErrorKind::Other),
            (ends, io::ErrorKind::UnexpectedEof),
        ] {
            for method in methods() {
                // A new one for each, since the kernel believes the end that it was told.
                let Some(mount) = Mount::new(Kind::Fuse, fuse) else {
                    return;
                };
                content::write(&mount.source.join("file"), 1, LEN).unwrap();
                let (received, error) = send_until_error(&mount.path.join("file"), method).await;
                let what = format!("{method}, {fuse:?}: {error}");
                assert_eq!(error.kind(), kind, "{what}");
                assert!(received.len() as u64 <= at, "{what}, {}", received.len());
                assert!(content::bytes(1, at).starts_with(&received), "{what}");
                // Pages are read whole.
                let pages =
                    at / rustix::param::page_size() as u64 * rustix::param::page_size() as u64;
                assert!(received.len() as u64 >= pages, "{what}, {}", received.len());
            }
        }
    }
}

/// Sends a file that cannot be sent whole; what the peer got, and why no more.
async fn send_until_error(path: &Path, method: Method) -> (Vec<u8>, io::Error) {
    let (mut transport, reader) = connect(method, |mut peer| {
        let mut received = Vec::new();
        peer.read_to_end(&mut received).unwrap();
        received
    });
    let mut region = FileRegion::whole(OpenFile::open(path).unwrap());
    let sending = async {
        loop {
            let sent = poll_fn(|cx| transport.poll_send_file(cx, &region, Continuation::End));
            match sent.await {
                Ok(sent) => region.advance(sent.bytes as u64),
                Err(error) => break error,
            }
        }
    };
    let error = tokio::time::timeout(lendfile_tests::PATIENCE, sending).await;
    let error = error.unwrap_or_else(|_| panic!("{method}: no end"));
    drop(transport);
    let received = reader.join().unwrap();
    assert_eq!(received.len() as u64, region.offset(), "{method}: {error}");
    (received, error)
}

/// Bytes that a thread has read from a file that is not asked about are kept until they are sent.
#[test]
fn what_a_slow_socket_did_not_take_of_a_read_is_not_read_again() {
    const NAME: &str = "what_a_slow_socket_did_not_take_of_a_read_is_not_read_again";
    const LEN: u64 = 4 << 20;
    // In a process of its own: it counts the reads of all threads.
    if child_role().is_none() {
        return assert_passed(&in_child(NAME, "alone"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        content::write(&path, 1, LEN).unwrap();
        let file = OpenFile::open(&path).unwrap();
        file.refuse_nowait();
        file.hide_residency();
        let (mut transport, reader) = connect(Method::Copy, |mut peer| {
            let mut hash = Sha256::new();
            io::copy(&mut peer, &mut hash).unwrap();
            content::hex(hash)
        });
        // Less than is read at a time.
        rustix::net::sockopt::set_socket_send_buffer_size(transport.socket(), 8 << 10).unwrap();
        let mut region = FileRegion::whole(file);
        let mut sends = 0;
        while !region.is_empty() {
            let sent = poll_fn(|cx| transport.poll_send_file(cx, &region, Continuation::End));
            region.advance(sent.await.unwrap().bytes as u64);
            sends += 1;
        }
        drop(transport);
        assert_eq!(reader.join().unwrap(), content::sha256(&path).unwrap());
        let reads = statistics().pages_fetched;
        assert!(reads <= LEN.div_ceil(256 << 10), "{reads} reads");
        assert!(sends > reads, "{sends} sends of {reads} reads");
    });
}

#[tokio::test]
async fn cold_files_of_every_filesystem_can_be_read() {
    for kind in Kind::ALL {
        let Some(mount) = Mount::new(kind, Fuse::new(FUSE)) else {
            continue;
        };
        let (path, sha256) = prepare(&mount);
        assert_waits_for_disk(kind, &mount, "read", async || {
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
            reader.take_cold_waits()
        })
        .await;
    }
}

#[tokio::test]
async fn no_call_waits_for_a_slow_fuse_server() {
    const DELAY: Duration = Duration::from_millis(300);
    let slow = Fuse {
        delay_ms: 300,
        ..Fuse::new(FUSE)
    };
    let Some(mount) = Mount::new(Kind::Fuse, slow) else {
        return;
    };
    let source = mount.source.join("file");
    content::write(&source, 1, (1 << 20) + 1).unwrap();
    let (path, sha256) = (mount.path.join("file"), content::sha256(&source).unwrap());
    for method in methods() {
        let file = OpenFile::open(&path).unwrap();
        // Dropped before it is sent, and again when the belief that it is there has ended.
        for _ in 0..2 {
            make_cold(&path);
            let mut longest = Duration::ZERO;
            let report = watched(&file, method, &sha256, |took| longest = longest.max(took)).await;
            assert!(report.cold_waits > 0, "{method}: {report:?}");
            // A call that asks the server takes as long as its answer.
            assert!(longest < DELAY, "{method}: {longest:?} in one call");
            while file.known_warm(0) > 0 {
                tokio::task::yield_now().await;
            }
        }
    }
}
