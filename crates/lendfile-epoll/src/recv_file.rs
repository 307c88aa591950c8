//! Receiving from a socket into a file, as a plain future.

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lendfile_core::{
    Capabilities, Error, ErrorKind, Failure, MethodSet, Outcome, Progress, Transfer, capabilities,
};

use crate::destination::Destination;
use crate::reception::Reception;
use crate::sender::CAPABILITIES;
use crate::{Socket, TransferOptions};

/// Receives from `socket` into the part `range` of `file`: exactly as many bytes as it is long, or
/// if it has no end, all until the peer ends the stream. Resolves when they are in the file, which
/// is not to say on the disk.
///
/// By [`Splice`](lendfile_core::Method::Splice), the choice of
/// [`Auto`](lendfile_core::Method::Auto), bytes go from the socket's pages to the page cache with one
/// copy by CPU; [`Copy`](lendfile_core::Method::Copy) takes two. The file must be a regular file,
/// open for writing and not for appending; it grows as needed and is not truncated. What the caller
/// has read from the socket before is the caller's to write.
///
/// **Writing may wait for the disk**, since Linux has no other buffered writes to most filesystems:
/// when more is dirty than `vm.dirty_ratio` allows, the kernel makes the thread wait inside the
/// call. A turn of [`turn_bytes`](TransferOptions::turn_bytes) bounds how much is written between
/// two polls. Where uploads outrun the disk, run them in a runtime of their own, or
/// by lendfile-uring's `recv_file`.
///
/// Only one task may receive from the socket at a time; another may send.
///
/// # Errors
///
/// A [`Failure`] whose report counts exactly what is in the file. When writing failed (a full disk,
/// a quota), bytes that had left the socket by then are in [`Failure::unwritten`]; none is lost. A
/// peer that ends the stream before the range is full gives
/// [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof). Kinds `Misuse` (the file is not of the
/// sort above, or the range is reversed) and `Unavailable` are found before a byte is taken.
///
/// # Cancel safety
///
/// Between polls no byte is anywhere but in the socket or the file. A future that is dropped has
/// written exactly [`Progress::bytes`]; go on with the range that begins so much later.
///
/// # Panics
///
/// When polled outside of a tokio runtime with timers.
///
/// # Examples
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use lendfile_epoll::{TransferOptions, recv_file};
///
/// let (socket, _) = tokio::net::TcpListener::bind("127.0.0.1:7000").await?.accept().await?;
/// let file = std::fs::File::create("upload")?;
/// let transfer = recv_file(&socket, &file, .., TransferOptions::new()).await?;
/// println!("{} bytes", transfer.bytes_sent());
/// # Ok(())
/// # }
/// ```
pub fn recv_file<'a, S: Socket>(
    socket: &'a S,
    file: &'a impl AsFd,
    range: impl RangeBounds<u64>,
    options: TransferOptions,
) -> RecvFile<'a, S> {
    RecvFile::with_capabilities(socket, file, range, options, CAPABILITIES)
}

/// Where it begins, and its length if it has an end.
fn bounds(range: &impl RangeBounds<u64>) -> io::Result<(u64, Option<u64>)> {
    let beyond = || Error::new(ErrorKind::Misuse, "range beyond what a file can hold");
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.checked_add(1).ok_or_else(beyond)?,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => Some(last.checked_add(1).ok_or_else(beyond)?),
        Bound::Excluded(end) => Some(*end),
        Bound::Unbounded => None,
    };
    // Offsets are signed in the kernel.
    if start.max(end.unwrap_or(0)) > i64::MAX as u64 {
        return Err(beyond().into());
    }
    let Some(end) = end else {
        return Ok((start, None));
    };
    let reversed = || {
        let message = format!("range from {start} to {end} is reversed");
        Error::new(ErrorKind::Misuse, message)
    };
    Ok((start, Some(end.checked_sub(start).ok_or_else(reversed)?)))
}

/// A file being received. Made by [`recv_file`].
#[must_use = "futures do nothing unless polled"]
pub struct RecvFile<'a, S: Socket> {
    state: State<'a, S>,
    /// Of the range, if it has an end.
    len: Option<u64>,
    progress: Progress,
}

enum State<'a, S: Socket> {
    Ended,
    Refused(io::Error),
    Running(Box<Reception<'a, S>>),
}

impl<'a, S: Socket> RecvFile<'a, S> {
    /// What has been written, to be watched while the future runs elsewhere.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// As [`recv_file`], of a backend that can do more. For backends, as is all that follows: they
    /// move bytes themselves, by the [`Reception`], and poll this to have it go on, or end, by
    /// system calls.
    pub fn with_capabilities(
        socket: &'a S,
        file: &'a impl AsFd,
        range: impl RangeBounds<u64>,
        options: TransferOptions,
        capabilities: Capabilities,
    ) -> Self {
        let progress = Progress::begin();
        let begun = (|| {
            capabilities::choose_for_receiving(options.method, &capabilities, MethodSet::EMPTY)?;
            let (start, left) = bounds(&range)?;
            let file = Destination::new(file.as_fd(), start)?;
            let progress = progress.clone();
            Ok(Reception::new(
                socket,
                file,
                left,
                options,
                capabilities,
                progress,
            ))
        })();
        let len = match &begun {
            Ok(reception) => reception.left(),
            Err(_) => Some(0),
        };
        Self {
            state: match begun {
                Ok(reception) => State::Running(Box::new(reception)),
                Err(error) => State::Refused(error),
            },
            len,
            progress,
        }
    }

    /// What is under way; `None` if it was refused, or has ended.
    pub fn reception(&mut self) -> Option<&mut Reception<'a, S>> {
        match &mut self.state {
            State::Running(reception) => Some(reception),
            State::Ended | State::Refused(_) => None,
        }
    }

    /// Ends it with an error.
    pub fn fail(&mut self, error: io::Error) -> Failure {
        let unwritten = match std::mem::replace(&mut self.state, State::Ended) {
            State::Running(reception) => reception.into_unwritten(),
            State::Ended | State::Refused(_) => Vec::new(),
        };
        Failure::new(self.end(Outcome::Aborted), error).with_unwritten(unwritten)
    }

    fn end(&self, outcome: Outcome) -> Transfer {
        let len = self.len.unwrap_or(self.progress.bytes());
        self.progress.end(outcome, len)
    }
}

impl<S: Socket> Future for RecvFile<'_, S> {
    type Output = Result<Transfer, Failure>;

    /// # Panics
    ///
    /// If polled after it had ended.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = match &mut self.state {
            State::Running(reception) => ready!(reception.poll_all(cx)),
            State::Ended => panic!("polled after it had ended"),
            State::Refused(_) => match std::mem::replace(&mut self.state, State::Ended) {
                State::Refused(error) => Err(error),
                State::Running(_) | State::Ended => Ok(()),
            },
        };
        Poll::Ready(match result {
            Ok(()) => {
                self.state = State::Ended;
                Ok(self.end(Outcome::Complete))
            }
            Err(error) => Err(self.fail(error)),
        })
    }
}

impl<S: Socket> Drop for RecvFile<'_, S> {
    fn drop(&mut self) {
        if matches!(self.state, State::Running(_)) && self.progress.bytes() > 0 {
            self.end(Outcome::Aborted);
        }
    }
}

impl<S: Socket> fmt::Debug for RecvFile<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvFile")
            .field("len", &self.len)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}
