//! One direction of a relay.

use std::io::{self, IoSlice};
use std::mem;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use lendfile_core::capabilities::{self, Refusal};
use lendfile_core::{Error, Method, MethodSet, Outcome, Progress, Sent, Transfer};
use rustix::net::SendFlags;

use crate::arrival::Arrival;
use crate::borrowed::{receive, shutdown_write};
use crate::destination::read_out;
use crate::options::Fallback;
use crate::pace::{Pacer, poll_allowance};
use crate::sender::CAPABILITIES;
use crate::socket::is_transient;
use crate::turn::yield_turn;
use crate::{Pipe, Socket, TransferOptions, copy, plumbing};

/// The most that goes through the pipe at a time.
const SPLICE_BYTES: u64 = 1 << 20;

/// The most that is copied at a time, and kept while the receiver is stalled.
const COPY_BYTES: usize = 64 << 10;

/// How long bytes may lie in the socket when a flow ebbs; see [`Arrival`]. Short, since what is
/// relayed may be a conversation; it is only waited for behind 256 KiB.
const PATIENCE: Duration = Duration::from_millis(1);

pub(super) struct Direction<'a, F: Socket, T: Socket> {
    from: &'a F,
    to: &'a T,
    arrival: Arrival<'a, F>,
    /// What is on its way.
    held: Held,
    received: u64,
    stream: Stream,
    requested: Method,
    /// By one of the sockets.
    refused: MethodSet,
    fallback: Fallback,
    pacer: Option<Pacer>,
    turn_bytes: u64,
    progress: Progress,
}

/// Bytes that have left the one socket and not reached the other.
enum Held {
    Nothing,
    Piped(Pipe),
    Copied { bytes: Vec<u8>, sent: usize },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Open,
    /// The sender has ended it; the receiver is to be told when it has everything.
    Ended,
    /// It was.
    Passed,
}

impl<'a, F: Socket, T: Socket> Direction<'a, F, T> {
    pub(super) fn new(from: &'a F, to: &'a T, options: TransferOptions) -> Self {
        Self {
            from,
            to,
            arrival: Arrival::new(from, PATIENCE),
            held: Held::Nothing,
            received: 0,
            stream: Stream::Open,
            requested: options.method,
            refused: MethodSet::EMPTY,
            fallback: options.fallback,
            pacer: options.rate_limit.map(Pacer::new),
            turn_bytes: options.turn_bytes,
            progress: Progress::begin(),
        }
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    pub(super) fn end(&mut self) -> Transfer {
        let outcome = match self.stream {
            Stream::Passed => Outcome::Complete,
            Stream::Open | Stream::Ended => Outcome::Aborted,
        };
        self.progress.end(outcome, self.received)
    }

    pub(super) fn take_undelivered(&mut self) -> io::Result<Vec<u8>> {
        match mem::replace(&mut self.held, Held::Nothing) {
            Held::Nothing => Ok(Vec::new()),
            Held::Piped(mut pipe) => read_out(&mut pipe),
            Held::Copied { mut bytes, sent } => Ok(bytes.split_off(sent)),
        }
    }

    /// Resolves when the stream has ended and the receiver was told so.
    pub(super) fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut turn_left = self.turn_bytes;
        loop {
            let delivered = self.poll_deliver(cx)?;
            if delivered.is_pending() {
                self.progress.record_wait();
                return Poll::Pending;
            }
            match self.stream {
                Stream::Open => {}
                Stream::Ended => {
                    shutdown_write(self.to)?;
                    self.stream = Stream::Passed;
                }
                Stream::Passed => return Poll::Ready(Ok(())),
            }
            if self.stream == Stream::Passed {
                continue;
            }
            if turn_left == 0 {
                self.let_go();
                return yield_turn(cx);
            }
            let taken = self.poll_take(cx, turn_left.min(SPLICE_BYTES))?;
            let Poll::Ready(taken) = taken else {
                self.let_go();
                self.progress.record_wait();
                return Poll::Pending;
            };
            turn_left = turn_left.saturating_sub(taken);
        }
    }

    /// An empty pipe goes back to the pool before a wait.
    fn let_go(&mut self) {
        self.held = Held::Nothing;
    }

    /// Resolves when nothing is on its way.
    fn poll_deliver(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let to = self.to;
            let (method, delivered) = match &mut self.held {
                Held::Piped(pipe) if pipe.held() > 0 => {
                    ready!(to.poll_write_ready(cx))?;
                    let delivered = to.try_write_io(|| plumbing::drain(pipe, to));
                    (Method::Splice, delivered)
                }
                Held::Copied { bytes, sent } if *sent < bytes.len() => {
                    ready!(to.poll_write_ready(cx))?;
                    let rest = [IoSlice::new(&bytes[*sent..])];
                    let delivered = to.try_write_io(|| copy::send(to, &rest, SendFlags::empty()));
                    *sent += delivered.as_ref().map_or(0, |n| *n);
                    (Method::Copy, delivered)
                }
                Held::Nothing | Held::Piped(_) | Held::Copied { .. } => return Poll::Ready(Ok(())),
            };
            self.progress.record_syscalls(1);
            match delivered {
                Ok(bytes) => self.progress.record(Sent {
                    bytes,
                    method,
                    syscalls: 0,
                    cold_waits: 0,
                }),
                Err(error) if is_transient(&error) => {}
                Err(error)
                    if method == Method::Splice
                        && capabilities::refusal(&error) == Refusal::Unsupported =>
                {
                    let bytes = self.take_undelivered()?;
                    self.held = Held::Copied { bytes, sent: 0 };
                    self.refuse_splice(error)?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Takes bytes out of the sender's socket, at least one unless it has ended the stream.
    fn poll_take(&mut self, cx: &mut Context<'_>, wanted: u64) -> Poll<io::Result<u64>> {
        loop {
            let allowed = ready!(poll_allowance(&mut self.pacer, cx, wanted));
            ready!(self.arrival.poll_ready(cx, u64::MAX))?;
            self.progress.record_syscalls(1);
            match self.take(usize::try_from(allowed).expect("at most SPLICE_BYTES")) {
                Ok(0) => {
                    self.stream = Stream::Ended;
                    return Poll::Ready(Ok(0));
                }
                Ok(bytes) => {
                    let bytes = bytes as u64;
                    self.received += bytes;
                    self.arrival.moved(bytes);
                    if let Some(pacer) = &mut self.pacer {
                        pacer.take(bytes);
                    }
                    return Poll::Ready(Ok(bytes));
                }
                Err(error) if is_transient(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn take(&mut self, max: usize) -> io::Result<usize> {
        let method =
            capabilities::choose_for_receiving(self.requested, &CAPABILITIES, self.refused)?;
        if method != Method::Splice {
            return self.take_copy(max);
        }
        if !matches!(self.held, Held::Piped(_)) {
            self.held = match Pipe::take() {
                Ok(pipe) => Held::Piped(pipe),
                Err(error) => {
                    self.fallback.without_pipe(error)?;
                    return self.take_copy(max);
                }
            };
        }
        let Held::Piped(pipe) = &mut self.held else {
            return self.take_copy(max);
        };
        let from = self.from;
        match from.try_read_io(|| plumbing::fill(pipe, from, max)) {
            Err(error) if capabilities::refusal(&error) == Refusal::Unsupported => {
                self.refuse_splice(error)?;
                self.take_copy(max)
            }
            taken => taken,
        }
    }

    fn take_copy(&mut self, max: usize) -> io::Result<usize> {
        let mut bytes = match mem::replace(&mut self.held, Held::Nothing) {
            Held::Copied { bytes, .. } => bytes,
            Held::Nothing | Held::Piped(_) => Vec::new(),
        };
        bytes.resize(max.min(COPY_BYTES), 0);
        let from = self.from;
        let taken = from.try_read_io(|| receive(from, &mut bytes));
        bytes.truncate(*taken.as_ref().unwrap_or(&0));
        self.held = Held::Copied { bytes, sent: 0 };
        taken
    }

    /// Goes on by copying, unless that is not allowed.
    fn refuse_splice(&mut self, error: io::Error) -> Result<(), Error> {
        let ends = "these sockets";
        self.fallback
            .without(Method::Splice, &mut self.refused, ends, error)
    }
}
