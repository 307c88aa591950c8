//! When pipes are scarce: smaller ones, then sendfile, counted, and the right bytes in any case. Each
//! test runs in a process of its own, by a user to whom the limits apply.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::{env, thread};

use lendfile_core::statistics::{Statistics, statistics};
use lendfile_core::{FileRegion, Method, OpenFile, Transfer};
use lendfile_epoll::{Pipe, TransferOptions, send_file};
use lendfile_tests::conformance::{Peer, pair};
use lendfile_tests::content;
use lendfile_tests::process::{
    assert_passed, child_role, deny, in_unprivileged_child, skip, take_descriptors,
};
use lendfile_tests::server::Network;
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;

const LEN: u64 = (20 << 20) + 12_345;

/// Of a pipe in pages of 4 KiB: without asking, and if its user has too many.
const USUAL_BYTES: usize = 64 << 10;
const LEAST_BYTES: usize = 8 << 10;

/// Runs `test` in a child, by nobody, with a file to send; `None` in the parent, once it has passed.
fn by_nobody(test: &str) -> Option<(PathBuf, String)> {
    if child_role().is_some() {
        let path = PathBuf::from(env::var_os("LENDFILE_FILE").unwrap());
        return Some((path, env::var("LENDFILE_SHA256").unwrap()));
    }
    if !rustix::process::geteuid().is_root() {
        skip("root", "only root can become somebody else");
        return None;
    }
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("file");
    content::write(&path, 1, LEN).unwrap();
    let sha256 = content::sha256(&path).unwrap();
    let variables = [
        ("LENDFILE_FILE", path.to_str().unwrap()),
        ("LENDFILE_SHA256", &sha256),
    ];
    assert_passed(&in_unprivileged_child(test, "nobody", &variables));
    None
}

/// What a send by splice reported, and the counters after it; on a thread of its own, which has no
/// pipes yet, and after `first`. The peer got the right bytes.
fn send_after<T>(
    path: &PathBuf,
    sha256: &str,
    first: impl FnOnce() -> T + Send,
) -> (Transfer, Statistics) {
    let (Peer::Tcp(ours), mut peer) = pair(Network::Tcp).unwrap() else {
        unreachable!("a pair of the network asked for")
    };
    let region = FileRegion::whole(OpenFile::open(path).unwrap());
    thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut hash = Sha256::new();
            io::copy(&mut peer, &mut hash).unwrap();
            content::hex(hash)
        });
        let sender = scope.spawn(move || {
            on_tokio(async move {
                let socket = TcpStream::from_std(ours).unwrap();
                let options = TransferOptions::new().method(Method::Splice);
                let _held = first();
                let sent = send_file(&socket, region, options).await.unwrap();
                (sent, statistics())
            })
        });
        let sent = sender.join().unwrap();
        assert_eq!(reader.join().unwrap(), sha256);
        assert_eq!(sent.0.bytes_sent(), LEN);
        sent
    })
}

fn send(path: &PathBuf, sha256: &str) -> (Transfer, Statistics) {
    send_after(path, sha256, || ())
}

/// Why a strict send by splice does not begin; on a thread of its own.
fn refusal(path: &PathBuf) -> ErrorKind {
    let (Peer::Tcp(ours), _peer) = pair(Network::Tcp).unwrap() else {
        unreachable!("a pair of the network asked for")
    };
    let region = FileRegion::whole(OpenFile::open(path).unwrap());
    let sending = move || {
        on_tokio(async move {
            let socket = TcpStream::from_std(ours).unwrap();
            let options = TransferOptions::new().method(Method::Splice).strict();
            let failure = send_file(&socket, region, options).await.unwrap_err();
            assert_eq!(failure.report().bytes_sent(), 0);
            failure.kind()
        })
    };
    thread::scope(|scope| scope.spawn(sending).join().unwrap())
}

fn on_tokio<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

/// A pipe, its size, and whether it could be made as large as asked.
fn plain_pipe(bytes: usize) -> ((io::PipeReader, io::PipeWriter), usize, bool) {
    let ends = io::pipe().unwrap();
    let granted = rustix::pipe::fcntl_setpipe_size(&ends.0, bytes).is_ok();
    let size = rustix::pipe::fcntl_getpipe_size(&ends.0).unwrap();
    (ends, size, granted)
}

/// Takes all that this user may have in pipes (`pipe-user-pages-soft`); a new one gets two pages.
fn exhaust() -> Vec<(io::PipeReader, io::PipeWriter)> {
    let mut all = Vec::new();
    for bytes in [1 << 20, USUAL_BYTES, LEAST_BYTES] {
        loop {
            let (ends, size, granted) = plain_pipe(bytes);
            if !granted || size < bytes {
                // It counts, too, as long as it is there.
                break;
            }
            all.push(ends);
            assert!(all.len() < 4000, "no limit is in force");
            if bytes == LEAST_BYTES && plain_pipe(bytes).1 == LEAST_BYTES {
                let usual = io::pipe().unwrap();
                let size = rustix::pipe::fcntl_getpipe_size(&usual.0).unwrap();
                if size == LEAST_BYTES {
                    return all;
                }
            }
        }
    }
    all
}

#[test]
fn a_user_with_too_many_pipes_gets_smaller_ones_then_sendfile() {
    let Some((path, sha256)) =
        by_nobody("a_user_with_too_many_pipes_gets_smaller_ones_then_sendfile")
    else {
        return;
    };
    let (sent, counted) = send(&path, &sha256);
    assert_eq!(sent.bytes_by(Method::Splice), LEN, "{sent:?}");
    assert_eq!(counted.pipes_refused, 0);

    let mut taken = exhaust();
    let (sent, counted) = send(&path, &sha256);
    assert_eq!(sent.bytes_by(Method::Sendfile), LEN, "{sent:?}");
    assert!(counted.pipes_refused > 0);
    assert_eq!(counted.pipes_open, 0, "those of two pages are not kept");
    assert_eq!(refusal(&path), ErrorKind::Unsupported);

    // Room for one that is smaller than wanted.
    taken.swap_remove(0);
    let (rest, size, granted) = plain_pipe(512 << 10);
    assert!(granted && size == 512 << 10, "{size}");
    let before = statistics().pipes_refused;
    let (sent, counted) = send(&path, &sha256);
    assert_eq!(sent.bytes_by(Method::Splice), LEN, "{sent:?}");
    assert_eq!(counted.pipes_refused, before);
    let capacity = thread::spawn(|| Pipe::take().unwrap().capacity());
    let capacity = capacity.join().unwrap();
    assert!((USUAL_BYTES..1 << 20).contains(&capacity), "{capacity}");

    drop((taken, rest));
    let capacity = thread::spawn(|| Pipe::take().unwrap().capacity());
    assert_eq!(capacity.join().unwrap(), 1 << 20);
}

#[test]
fn without_descriptors_sendfile_sends() {
    let Some((path, sha256)) = by_nobody("without_descriptors_sendfile_sends") else {
        return;
    };
    let take_all = || {
        let mut taken = take_descriptors(64);
        // A pipe needs two.
        taken.pop().unwrap();
        taken
    };
    let (sent, counted) = send_after(&path, &sha256, take_all);
    assert_eq!(sent.bytes_by(Method::Sendfile), LEN, "{sent:?}");
    assert!(counted.pipes_refused > 0);
}

#[test]
fn where_the_system_has_no_files_left_sendfile_sends() {
    let Some((path, sha256)) = by_nobody("where_the_system_has_no_files_left_sendfile_sends")
    else {
        return;
    };
    deny([libc::SYS_pipe2], Errno::NFILE);
    let (sent, counted) = send(&path, &sha256);
    assert_eq!(sent.bytes_by(Method::Sendfile), LEN, "{sent:?}");
    assert!(counted.pipes_refused > 0);
    assert_eq!(refusal(&path), ErrorKind::Unsupported);
}
