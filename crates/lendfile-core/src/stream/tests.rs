//! The splitting of a write into plain and lent runs, against a transport of memory that sends
//! short, refuses and fails on command.

use std::collections::VecDeque;
use std::os::unix::fs::FileExt;

use tokio::io::AsyncWriteExt;

use super::*;
use crate::{Capabilities, Error, ErrorKind, Method, MethodSet, OpenFile, Sent};

/// What the transport does at its next operation; everything is accepted when there are none left.
#[derive(Clone, Copy, Debug)]
enum Step {
    Fail(i32),
    Short(usize),
    Wait,
}

#[derive(Debug, Default)]
struct Memory {
    peer: Vec<u8>,
    ops: Vec<(&'static str, usize, Continuation)>,
    steps: VecDeque<Step>,
}

impl Memory {
    /// How many bytes of `len` to accept now.
    fn accept(&mut self, len: usize) -> Poll<io::Result<usize>> {
        match self.steps.pop_front() {
            Some(Step::Fail(errno)) => Poll::Ready(Err(io::Error::from_raw_os_error(errno))),
            Some(Step::Short(n)) => Poll::Ready(Ok(len.min(n))),
            Some(Step::Wait) => Poll::Pending,
            None => Poll::Ready(Ok(len)),
        }
    }
}

impl Transport for Memory {
    fn poll_read(&mut self, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_send(
        &mut self,
        _: &mut Context<'_>,
        plain: &[IoSlice<'_>],
        continuation: Continuation,
    ) -> Poll<io::Result<usize>> {
        let all: Vec<u8> = plain.iter().flat_map(|buf| buf.to_vec()).collect();
        let accepted = self.accept(all.len());
        if let Poll::Ready(Ok(n)) = accepted {
            self.ops.push(("plain", n, continuation));
            self.peer.extend_from_slice(&all[..n]);
        }
        accepted
    }

    fn poll_send_file(
        &mut self,
        _: &mut Context<'_>,
        region: &FileRegion,
        continuation: Continuation,
    ) -> Poll<io::Result<Sent>> {
        let len = usize::try_from(region.len()).unwrap();
        let accepted = self.accept(len);
        accepted.map_ok(|n| {
            let mut bytes = vec![0; n];
            let file = std::fs::File::from(
                std::os::fd::AsFd::as_fd(&**region.file())
                    .try_clone_to_owned()
                    .unwrap(),
            );
            file.read_exact_at(&mut bytes, region.offset()).unwrap();
            self.peer.extend_from_slice(&bytes);
            self.ops.push(("file", n, continuation));
            Sent {
                bytes: n,
                method: Method::Sendfile,
                syscalls: 1,
                cold_waits: 0,
            }
        })
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn capabilities(&self) -> &Capabilities {
        const ALL: Capabilities = Capabilities::new(MethodSet::EMPTY.with(Method::Sendfile));
        &ALL
    }
}

fn stream(steps: impl IntoIterator<Item = Step>) -> LendStream<Memory> {
    LendStream::new(Memory {
        steps: steps.into_iter().collect(),
        ..Memory::default()
    })
}

fn file(len: usize) -> Arc<OpenFile> {
    let file = tempfile::tempfile().unwrap();
    let content: Vec<u8> = (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect();
    file.write_all_at(&content, 0).unwrap();
    OpenFile::new(file).unwrap()
}

fn lend(file: &Arc<OpenFile>, offset: u64, len: u64) -> bytes::Bytes {
    let region = FileRegion::new(file.clone(), offset, len).unwrap();
    region.map().unwrap().lend(&region, ())
}

fn write(stream: &mut LendStream<Memory>, bufs: &[&[u8]]) -> Poll<io::Result<usize>> {
    let bufs: Vec<_> = bufs.iter().map(|buf| IoSlice::new(buf)).collect();
    let mut cx = Context::from_waker(std::task::Waker::noop());
    Pin::new(stream).poll_write_vectored(&mut cx, &bufs)
}

fn ready(poll: Poll<io::Result<usize>>) -> usize {
    match poll {
        Poll::Ready(result) => result.unwrap(),
        Poll::Pending => panic!("pending"),
    }
}

#[test]
fn a_head_goes_with_more_and_the_lent_slice_from_its_file() {
    let file = file(5000);
    let lent = lend(&file, 100, 4000);
    let mut stream = stream([]);
    assert_eq!(ready(write(&mut stream, &[b"head", &lent])), 4004);
    assert_eq!(
        stream.transport.ops,
        [
            ("plain", 4, Continuation::More),
            ("file", 4000, Continuation::End)
        ]
    );
    assert_eq!(&stream.transport.peer[4..], &lent[..]);
    assert_eq!(stream.ledger().bytes_by(Method::Sendfile), 4000);
    assert_eq!(stream.ledger().plain_bytes(), 4);
}

#[test]
fn lent_slices_are_found_anywhere_and_neighbours_are_joined() {
    let file = file(5000);
    let (a, b, far) = (
        lend(&file, 0, 10),
        lend(&file, 10, 20),
        lend(&file, 2000, 5),
    );
    let mut stream = stream([]);
    let bufs: [&[u8]; 8] = [b"1", b"22", &a, &b, b"", &far, b"333", &a[3..7]];
    assert_eq!(ready(write(&mut stream, &bufs)), 3 + 30 + 5 + 3 + 4);
    let ops: Vec<_> = stream.transport.ops.iter().map(|op| (op.0, op.1)).collect();
    assert_eq!(
        ops,
        [
            ("plain", 3),
            ("file", 30),
            ("file", 5),
            ("plain", 3),
            ("file", 4)
        ]
    );
    assert_eq!(stream.transport.ops[4].2, Continuation::End);
    assert_eq!(stream.transport.peer, bufs.concat());
}

#[test]
fn whatever_the_socket_accepts_the_peer_gets_the_same_bytes() {
    let file = file(20_000);
    let lents = [
        lend(&file, 0, 7000),
        lend(&file, 7000, 1),
        lend(&file, 9000, 11_000),
    ];
    let parts: [&[u8]; 6] = [
        b"head one",
        &lents[0],
        &lents[1],
        b"",
        b"between",
        &lents[2],
    ];
    let expected = parts.concat();
    let mut seed = 1_u64;
    for _ in 0..300 {
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from((seed >> 33) % below).unwrap()
        };
        let steps: Vec<_> = (0..40)
            .map(|_| match random(3) {
                0 => Step::Wait,
                _ => Step::Short(1 + random(4000)),
            })
            .collect();
        let mut stream = stream(steps);
        let mut done = 0;
        while done < expected.len() {
            let mut skip = done;
            let rest: Vec<&[u8]> = parts
                .iter()
                .map(|part| {
                    let cut = skip.min(part.len());
                    skip -= cut;
                    &part[cut..]
                })
                .collect();
            if let Poll::Ready(result) = write(&mut stream, &rest) {
                done += result.unwrap();
            }
        }
        assert!(stream.transport.peer == expected);
    }
}

#[test]
fn an_error_after_progress_is_reported_by_the_next_write_with_no_byte_lost() {
    const ECONNRESET: i32 = 104;
    let file = file(5000);
    let lent = lend(&file, 0, 5000);
    for k in 0..3 {
        let mut steps = vec![Step::Short(usize::MAX); k];
        steps.push(Step::Fail(ECONNRESET));
        let mut stream = stream(steps);
        let bufs: [&[u8]; 3] = [b"head", &lent, b"tail"];
        let first = write(&mut stream, &bufs);
        let error = if k == 0 {
            first
        } else {
            assert_eq!(ready(first), stream.transport.peer.len());
            write(&mut stream, &bufs)
        };
        let Poll::Ready(Err(error)) = error else {
            panic!("operation {k}: the error is lost")
        };
        assert_eq!(error.raw_os_error(), Some(ECONNRESET), "operation {k}");
    }
}

#[tokio::test]
async fn a_deferred_error_also_comes_out_of_flush() {
    let lent = lend(&file(10), 0, 10);
    let mut stream = stream([Step::Short(usize::MAX), Step::Fail(32)]);
    assert_eq!(ready(write(&mut stream, &[b"head", &lent])), 4);
    assert_eq!(stream.flush().await.unwrap_err().raw_os_error(), Some(32));
    stream.flush().await.unwrap();
}

#[test]
fn one_turn_is_bounded_and_then_the_task_yields() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(4 * TURN_BYTES - 4).unwrap();
    let file = OpenFile::new(file).unwrap();
    let lent = lend(&file, 0, file.len());
    let mut stream = stream([]);
    let turn = usize::try_from(TURN_BYTES).unwrap();
    assert_eq!(ready(write(&mut stream, &[b"head", &lent])), turn);
    assert!(write(&mut stream, &[&lent[turn - 4..]]).is_pending());
    assert_eq!(ready(write(&mut stream, &[&lent[turn - 4..]])), turn);
    assert!(write(&mut stream, &[&lent[2 * turn - 4..]]).is_pending());
    let rest = ready(write(&mut stream, &[&lent[2 * turn - 4..]]));
    assert_eq!(rest, 2 * turn, "the end may take a turn more");
    assert!(write(&mut stream, &[&lent[..10]]).is_pending());
}

#[test]
fn plain_bytes_use_up_a_turn_too() {
    let turn = usize::try_from(TURN_BYTES).unwrap();
    let plain = vec![7; turn];
    let mut stream = stream([]);
    assert_eq!(ready(write(&mut stream, &[&plain])), turn);
    assert!(write(&mut stream, &[b"more"]).is_pending());
    assert_eq!(ready(write(&mut stream, &[b"more"])), 4);
}

#[test]
fn more_slices_than_the_kernel_takes_are_sent_in_part() {
    let mut stream = stream([]);
    let bufs = vec![&b"x"[..]; IOV_MAX + 1];
    assert_eq!(ready(write(&mut stream, &bufs)), IOV_MAX);
    assert_eq!(
        stream.transport.ops,
        [("plain", IOV_MAX, Continuation::More)]
    );
}

#[test]
fn empty_slices_send_nothing_and_do_not_wait() {
    let mut stream = stream([Step::Wait]);
    assert_eq!(ready(write(&mut stream, &[])), 0);
    assert_eq!(ready(write(&mut stream, &[b"", b""])), 0);
    assert!(stream.transport.ops.is_empty());
}

#[test]
fn errors_keep_their_kind_through_io_error() {
    let error = Error::new(ErrorKind::FileChanged, "gone");
    let io = io::Error::from(error);
    assert_eq!(io.kind(), io::ErrorKind::UnexpectedEof);
    let inner = io.get_ref().unwrap().downcast_ref::<Error>().unwrap();
    assert!(inner.is_file_changed());
}
