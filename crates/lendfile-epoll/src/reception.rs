//! A reception under way: what is still expected, at what rate, where it goes, and how system calls
//! move it. Other backends have ways of their own, and keep their books here.

use std::fmt;
use std::io::{self, ErrorKind as IoErrorKind};
use std::os::fd::BorrowedFd;
use std::task::{Context, Poll};
use std::time::Duration;

use lendfile_core::capabilities::{self, Refusal};
use lendfile_core::{Capabilities, Error, Method, MethodSet, Progress, Sent};

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

/// What a [`RecvFile`](crate::RecvFile) has under way. For backends.
pub struct Reception<'a, S: Socket> {
    socket: &'a S,
    arrival: Arrival<'a, S>,
    file: Destination<'a>,
    /// Bytes still expected; `None` until the end of the stream.
    left: Option<u64>,
    requested: Method,
    capabilities: Capabilities,
    /// By this socket or this file.
    refused: MethodSet,
    fallback: Fallback,
    pacer: Option<Pacer>,
    turn_bytes: u64,
    progress: Progress,
    /// Taken from the socket when writing failed.
    unwritten: Vec<u8>,
}

impl<'a, S: Socket> Reception<'a, S> {
    pub(crate) fn new(
        socket: &'a S,
        file: Destination<'a>,
        left: Option<u64>,
        options: TransferOptions,
        capabilities: Capabilities,
        progress: Progress,
    ) -> Self {
        Self {
            socket,
            arrival: Arrival::new(socket, PATIENCE),
            file,
            left,
            requested: options.method,
            capabilities,
            refused: MethodSet::EMPTY,
            fallback: options.fallback,
            pacer: options.rate_limit.map(Pacer::new),
            turn_bytes: options.turn_bytes,
            progress,
            unwritten: Vec::new(),
        }
    }

    /// Where bytes come from.
    pub fn socket(&self) -> &'a S {
        self.socket
    }

    /// Where they go.
    pub fn file(&self) -> BorrowedFd<'a> {
        self.file.file()
    }

    /// Where in the file the next byte goes.
    pub fn offset(&self) -> u64 {
        self.file.offset()
    }

    /// Bytes still expected; `None` until the end of the stream.
    pub fn left(&self) -> Option<u64> {
        self.left
    }

    /// Bytes that may be moved in one poll.
    pub fn turn_bytes(&self) -> u64 {
        self.turn_bytes
    }

    /// The method to use now.
    ///
    /// # Errors
    ///
    /// None that was not found when it began.
    pub fn method(&self) -> Result<Method, Error> {
        capabilities::choose_for_receiving(self.requested, &self.capabilities, self.refused)
    }

    /// Waits for the rate: how many of `wanted` bytes may be taken now, at least one.
    pub fn poll_allowance(&mut self, cx: &mut Context<'_>, wanted: u64) -> Poll<u64> {
        poll_allowance(&mut self.pacer, cx, wanted)
    }

    /// Waits until the socket is readable or at its end; `left` bytes are still expected.
    ///
    /// # Errors
    ///
    /// When the runtime is shutting down.
    pub fn poll_arrival(&mut self, cx: &mut Context<'_>, left: u64) -> Poll<io::Result<()>> {
        self.arrival.poll_ready(cx, left)
    }

    /// Notes that bytes have come out of the socket, or will.
    pub fn came(&mut self, bytes: u64) {
        self.arrival.moved(bytes);
        if let Some(pacer) = &mut self.pacer {
            pacer.take(bytes);
        }
    }

    /// Books bytes that are in the file, and for good out of the socket.
    pub fn wrote(&mut self, sent: Sent) {
        let bytes = sent.bytes as u64;
        self.file.advance(bytes);
        if let Some(left) = &mut self.left {
            *left -= bytes;
        }
        self.progress.record(sent);
    }

    /// Books that it waits.
    pub fn record_wait(&self) {
        self.progress.record_wait();
    }

    /// Goes on without `method`, unless that is not allowed.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](lendfile_core::ErrorKind::Unavailable) if no other is.
    pub fn refuse(&mut self, method: Method, error: io::Error) -> Result<(), Error> {
        let ends = "this socket and this file";
        self.fallback
            .without(method, &mut self.refused, ends, error)
    }

    pub(crate) fn into_unwritten(self) -> Vec<u8> {
        self.unwritten
    }

    pub(crate) fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut turn_left = self.turn_bytes;
        while self.left != Some(0) {
            if turn_left == 0 {
                return yield_turn(cx);
            }
            let left = self.left.unwrap_or(u64::MAX);
            let wanted = left.min(turn_left).min(SPLICE_BYTES);
            let ready = match self.poll_allowance(cx, wanted) {
                Poll::Ready(allowed) => self.poll_arrival(cx, left)?.map(|()| allowed),
                Poll::Pending => Poll::Pending,
            };
            let Poll::Ready(allowed) = ready else {
                self.record_wait();
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
                    self.came(bytes);
                    turn_left = turn_left.saturating_sub(bytes);
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
        let method = self.method()?;
        if method != Method::Splice {
            return self.copy(max);
        }
        match Pipe::take() {
            // Whoever insists on splice has it whatever the pipe.
            Ok(pipe) if pipe.capacity() >= USEFUL_PIPE_BYTES || self.insists() => {
                self.splice(pipe, max)
            }
            Ok(_) => self.copy(max),
            Err(error) => {
                self.fallback.without_pipe(error)?;
                self.copy(max)
            }
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
                self.refuse(Method::Splice, error)?;
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
                        true => self.refuse(Method::Splice, error).err().map(Into::into),
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

    fn record(&mut self, method: Method, bytes: usize, syscalls: u32) {
        self.wrote(Sent {
            bytes,
            method,
            syscalls,
            cold_waits: 0,
        });
    }
}

impl<S: Socket> fmt::Debug for Reception<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reception")
            .field("file", &self.file)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
