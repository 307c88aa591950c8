//! Receiving from a socket into a file, as a plain future.

use std::fmt;
use std::future::Future;
use std::io::{self, ErrorKind as IoErrorKind};
use std::ops::{Bound, RangeBounds};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use lendfile_core::capabilities::{self, Refusal};
use lendfile_core::{
    Error, ErrorKind, Failure, Method, MethodSet, Outcome, Progress, Sent, Transfer, statistics,
};

use crate::arrival::Arrival;
use crate::borrowed::receive;
use crate::destination::{Destination, read_out};
use crate::options::Fallback;
use crate::pace::{Pacer, poll_allowance};
use crate::socket::is_transient;
use crate::turn::yield_turn;
use crate::{Pipe, Socket, TransferOptions, copy, plumbing};

/// The most that goes through the pipe at a time.
const SPLICE_BYTES: u64 = 1 << 20;

/// With a smaller pipe copying is as cheap: CPU per GiB relative to a read + write loop of 256 KiB
/// was 0.65–0.7 with a pipe of 1 MiB, 0.8 with 256 KiB, 0.95 with 128 KiB and 1.0–1.4 with 64 KiB
/// (ext4, veth, Linux 6.18).
const USEFUL_PIPE_BYTES: usize = 256 << 10;

/// Writes end at a multiple of this where they can, so that the page cache gets whole pages and
/// large folios.
const ALIGNMENT_BYTES: u64 = 64 << 10;

/// How long bytes may lie in the socket when a flow ebbs; see [`Arrival`].
const PATIENCE: Duration = Duration::from_millis(10);

/// Receives from `socket` into the part `range` of `file`: exactly as many bytes as it is long, or
/// if it has no end, all until the peer ends the stream. Resolves when they are in the file, which
/// is not to say on the disk.
///
/// By [`Method::Splice`], the choice of [`Method::Auto`], bytes go from the socket's pages to the
/// page cache with one copy by CPU; [`Method::Copy`] takes two. The file must be a regular file,
/// open for writing and not for appending; it grows as needed and is not truncated. What the caller
/// has read from the socket before is the caller's to write.
///
/// **Writing may wait for the disk**, since Linux has no other buffered writes to most filesystems:
/// when more is dirty than `vm.dirty_ratio` allows, the kernel makes the thread wait inside the
/// call. A turn of [`turn_bytes`](TransferOptions::turn_bytes) bounds how much is written between
/// two polls. Where uploads outrun the disk, run them in a runtime of their own.
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
    let progress = Progress::begin();
    let begun = (|| {
        capabilities::choose_for_receiving(options.method, MethodSet::EMPTY)?;
        let (start, left) = bounds(&range)?;
        let file = Destination::new(file.as_fd(), start)?;
        Ok(Box::new(Receiving {
            socket,
            arrival: Arrival::new(socket, PATIENCE),
            file,
            left,
            requested: options.method,
            refused: MethodSet::EMPTY,
            fallback: options.fallback,
            pacer: options.rate_limit.map(Pacer::new),
            turn_bytes: options.turn_bytes,
            progress: progress.clone(),
            unwritten: Vec::new(),
        }))
    })();
    let len = match &begun {
        Ok(receiving) => receiving.left,
        Err(_) => Some(0),
    };
    RecvFile {
        state: match begun {
            Ok(receiving) => State::Running(receiving),
            Err(error) => State::Refused(error),
        },
        len,
        progress,
    }
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
    Running(Box<Receiving<'a, S>>),
}

struct Receiving<'a, S: Socket> {
    socket: &'a S,
    arrival: Arrival<'a, S>,
    file: Destination<'a>,
    /// Bytes still expected; `None` until the end of the stream.
    left: Option<u64>,
    requested: Method,
    /// By this socket or this file.
    refused: MethodSet,
    fallback: Fallback,
    pacer: Option<Pacer>,
    turn_bytes: u64,
    progress: Progress,
    /// Taken from the socket when writing failed.
    unwritten: Vec<u8>,
}

impl<S: Socket> RecvFile<'_, S> {
    /// What has been written, to be watched while the future runs elsewhere.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    fn end(&self, outcome: Outcome) -> Transfer {
        let len = self.len.unwrap_or(self.progress.bytes());
        self.progress.end(outcome, len)
    }
}

impl<S: Socket> Receiving<'_, S> {
    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut turn_left = self.turn_bytes;
        while self.left != Some(0) {
            if turn_left == 0 {
                return yield_turn(cx);
            }
            let left = self.left.unwrap_or(u64::MAX);
            let wanted = left.min(turn_left).min(SPLICE_BYTES);
            let ready = match poll_allowance(&mut self.pacer, cx, wanted) {
                Poll::Ready(allowed) => self.arrival.poll_ready(cx, left)?.map(|()| allowed),
                Poll::Pending => Poll::Pending,
            };
            let Poll::Ready(allowed) = ready else {
                self.progress.record_wait();
                return Poll::Pending;
            };
            match self.take(self.aligned(allowed)) {
                Ok(0) if self.left.is_none() => return Poll::Ready(Ok(())),
                Ok(0) => {
                    let message = format!("the peer ended the stream {left} bytes early");
                    let error = io::Error::new(IoErrorKind::UnexpectedEof, message);
                    return Poll::Ready(Err(error));
                }
                Ok(bytes) => {
                    if let Some(left) = &mut self.left {
                        *left -= bytes;
                    }
                    self.arrival.moved(bytes);
                    turn_left = turn_left.saturating_sub(bytes);
                    if let Some(pacer) = &mut self.pacer {
                        pacer.take(bytes);
                    }
                }
                Err(error) if is_transient(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// As many bytes of those allowed as end at a boundary of the file, if they are many.
    fn aligned(&self, allowed: u64) -> usize {
        let beyond = (self.file.offset() + allowed) % ALIGNMENT_BYTES;
        let bytes = match beyond * 2 < allowed && allowed > ALIGNMENT_BYTES {
            true => allowed - beyond,
            false => allowed,
        };
        usize::try_from(bytes).expect("at most SPLICE_BYTES")
    }

    /// Takes up to `max` bytes out of the socket and puts them into the file; 0 at the end of the
    /// stream.
    fn take(&mut self, max: usize) -> io::Result<u64> {
        let method = capabilities::choose_for_receiving(self.requested, self.refused)?;
        if method != Method::Splice {
            return self.copy(max);
        }
        match Pipe::take() {
            // Whoever insists on splice has it whatever the pipe.
            Ok(pipe) if pipe.capacity() >= USEFUL_PIPE_BYTES || self.insists() => {
                self.splice(pipe, max)
            }
            Ok(_) => self.copy(max),
            Err(error) if self.fallback == Fallback::Refused => {
                let message = "no pipe is to be had, and no other method is allowed";
                Err(Error::new(ErrorKind::Unavailable, message)
                    .with_source(error)
                    .into())
            }
            Err(_) => self.copy(max),
        }
    }

    fn insists(&self) -> bool {
        self.fallback == Fallback::Refused || self.requested == Method::Splice
    }

    fn splice(&mut self, mut pipe: Pipe, max: usize) -> io::Result<u64> {
        let (socket, progress) = (self.socket, &self.progress);
        let taken = socket.try_read_io(|| {
            progress.record_syscalls(1);
            plumbing::fill(&mut pipe, socket, max)
        });
        let taken = match taken {
            Err(error) if capabilities::refusal(&error) == Refusal::Unsupported => {
                self.refuse_splice(error)?;
                return self.copy(max);
            }
            taken => taken?,
        };
        while pipe.held() > 0 {
            match self.file.take_from(&mut pipe) {
                Ok(bytes) => self.record(Method::Splice, bytes, 1),
                Err(error) => {
                    let mut rest = read_out(&mut pipe)?;
                    let unsupported = capabilities::refusal(&error) == Refusal::Unsupported;
                    let error = match unsupported {
                        true => self.refuse_splice(error).err(),
                        false => Some(error),
                    };
                    if let Some(error) = error {
                        self.unwritten = rest;
                        return Err(error);
                    }
                    if let Err((written, error)) = self.write(&rest) {
                        rest.drain(..written);
                        self.unwritten = rest;
                        return Err(error);
                    }
                }
            }
        }
        Ok(taken as u64)
    }

    fn copy(&mut self, max: usize) -> io::Result<u64> {
        copy::with_buffer(|buffer| {
            let max = max.min(buffer.len());
            let (socket, progress) = (self.socket, &self.progress);
            let taken = socket.try_read_io(|| {
                progress.record_syscalls(1);
                receive(socket, &mut buffer[..max])
            })?;
            self.write(&buffer[..taken]).map_err(|(written, error)| {
                self.unwritten = buffer[written..taken].to_vec();
                error
            })?;
            Ok(taken as u64)
        })
    }

    /// Writes all of `bytes`; on failure also tells how many were written.
    fn write(&mut self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut written = 0;
        while written < bytes.len() {
            let n = self.file.write(&bytes[written..]);
            let n = n.map_err(|error| (written, error))?;
            self.record(Method::Copy, n, 1);
            written += n;
        }
        Ok(())
    }

    fn record(&self, method: Method, bytes: usize, syscalls: u32) {
        self.progress.record(Sent {
            bytes,
            method,
            syscalls,
            cold_waits: 0,
        });
    }

    /// Goes on by copying, unless that is not allowed.
    fn refuse_splice(&mut self, error: io::Error) -> io::Result<()> {
        if self.fallback == Fallback::Refused {
            let message = "splice cannot be had between this socket and this file";
            return Err(Error::new(ErrorKind::Unavailable, message)
                .with_source(error)
                .into());
        }
        statistics::DOWNGRADES.increment();
        tracing::warn!(errno = %error, "splice is refused; the file is received by copying");
        self.refused = self.refused.with(Method::Splice);
        Ok(())
    }
}

impl<S: Socket> Future for RecvFile<'_, S> {
    type Output = Result<Transfer, Failure>;

    /// # Panics
    ///
    /// If polled after it had ended.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = match &mut self.state {
            State::Ended => panic!("polled after it had ended"),
            State::Refused(_) => Ok(()),
            State::Running(receiving) => ready!(receiving.poll_all(cx)),
        };
        let ended = std::mem::replace(&mut self.state, State::Ended);
        let (error, unwritten) = match (ended, result) {
            (State::Refused(error), _) => (error, Vec::new()),
            (State::Running(receiving), Err(error)) => (error, receiving.unwritten),
            (_, Ok(()) | Err(_)) => return Poll::Ready(Ok(self.end(Outcome::Complete))),
        };
        let failure = Failure::new(self.end(Outcome::Aborted), error);
        Poll::Ready(Err(failure.with_unwritten(unwritten)))
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
