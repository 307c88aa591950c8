//! What the ring does with an operation that completes, fails or never ends.

use std::os::fd::RawFd;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec as PollTime, poll};
use rustix::io::{read, write};
use rustix::pipe::{PipeFlags, pipe_with};

use super::*;
use crate::test_support::ring_or_skip;

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(10);

#[test]
fn a_splice_that_cannot_go_on_reports_its_errno() {
    let Some(ring) = ring_or_skip() else { return };
    let (empty, _writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
    let (_reader, sink) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
    let reason = ring.splice(empty, sink, 1, LONG).unwrap_err();
    assert_eq!(
        reason.cause,
        Cause::Errno(Errno::AGAIN.raw_os_error()),
        "{reason}"
    );
}

#[test]
fn an_operation_that_never_completes_times_out_and_keeps_its_descriptors() {
    let Some(ring) = ring_or_skip() else { return };
    // Blocking and empty: the worker waits for as long as nobody writes.
    let (source, source_end) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let (sink_end, sink) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let numbers = [source.as_raw_fd(), sink.as_raw_fd()];
    let before = numbers.map(target);
    let start = Instant::now();

    let reason = ring.splice(source, sink, 1, SHORT).unwrap_err();

    assert_eq!(reason.cause, Cause::TimedOut(SHORT));
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
    assert_eq!(
        numbers.map(target),
        before,
        "a late look-up would find another file"
    );

    // The operation is still whole: what is written now arrives.
    write(&source_end, b"x").unwrap();
    wait_readable(&sink_end);
    let mut byte = [0];
    assert_eq!(read(&sink_end, &mut byte), Ok(1));
    assert_eq!(&byte, b"x");
}

#[test]
fn an_operation_that_completes_closes_its_descriptors() {
    let Some(ring) = ring_or_skip() else { return };
    let (source, source_end) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let (sink_end, sink) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    write(&source_end, b"x").unwrap();
    assert_eq!(ring.splice(source, sink, 1, LONG), Ok(1));
    // The last writer is gone, so after the byte comes the end and not a wait.
    let mut bytes = [0; 2];
    assert_eq!(read(&sink_end, &mut bytes), Ok(1));
    wait_readable(&sink_end);
    assert_eq!(read(&sink_end, &mut bytes), Ok(0));
}

/// What a descriptor number stands for; `None` if it is closed.
fn target(number: RawFd) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{number}")).ok()
}

/// Waits for a byte or the end, but not for ever.
fn wait_readable(pipe: &OwnedFd) {
    let mut ready = [PollFd::new(pipe, PollFlags::IN)];
    let limit = PollTime::try_from(LONG).unwrap();
    assert_eq!(poll(&mut ready, Some(&limit)), Ok(1), "nothing ever came");
}
