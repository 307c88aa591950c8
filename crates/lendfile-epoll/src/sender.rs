//! Sending regions of files over one socket: which method, tried how often, waiting for what.

use std::io::{self, IoSlice};
use std::mem;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use lendfile_core::capabilities::{self, Refusal};
use lendfile_core::lent::CannotLend;
use lendfile_core::{Capabilities, Continuation, FileRegion, Method, MethodSet, Sent, statistics};
use rustix::net::SendFlags;

use crate::cold::{Cold, NotWarm};
use crate::cork::Cork;
use crate::kept::Kept;
use crate::options::Fallback;
use crate::socket::is_transient;
use crate::{FileReader, Pipe, Socket, copy, mmap, sendfile, splice};

/// What tokio's sockets can do everywhere.
pub(crate) const CAPABILITIES: Capabilities = Capabilities::new(
    MethodSet::EMPTY
        .with(Method::Mmap)
        .with(Method::Sendfile)
        .with(Method::Splice),
);

/// A call that lasts longer has waited for something: 1 MiB takes 0.15 ms.
const STALL: Duration = Duration::from_millis(5);

/// What one socket is sent files with. Not the socket itself, which may be borrowed.
#[derive(Debug)]
pub(crate) struct FileSender {
    method: Method,
    fallback: Fallback,
    cork: Cork,
    reader: FileReader,
    cold: Cold,
    /// Whether what it last began to wait for is the file.
    waits_for_file: bool,
    kept: Option<Kept>,
    spent: Spent,
}

/// What was spent since the last progress.
#[derive(Debug, Default)]
struct Spent {
    syscalls: u32,
    cold_waits: u32,
}

impl Spent {
    fn on(&mut self, bytes: usize, method: Method) -> Sent {
        let Self {
            syscalls,
            cold_waits,
        } = mem::take(self);
        Sent {
            bytes,
            method,
            syscalls,
            cold_waits,
        }
    }
}

impl FileSender {
    pub(crate) fn new() -> Self {
        Self {
            method: Method::Auto,
            fallback: Fallback::Allowed,
            cork: Cork::default(),
            reader: FileReader::new(),
            cold: Cold::default(),
            waits_for_file: false,
            kept: None,
            spent: Spent::default(),
        }
    }

    /// Asks for a method from now on; one that is not of [`CAPABILITIES`] is an error of the next
    /// send.
    pub(crate) fn ask_for(&mut self, method: Method) {
        self.method = method;
    }

    /// A file that cannot be sent by the method is an error from now on.
    pub(crate) fn refuse_fallback(&mut self) {
        self.fallback = Fallback::Refused;
    }

    pub(crate) fn method(&self) -> Method {
        self.method
    }

    /// Whether the last send that was pending waits for the file, not for the socket.
    pub(crate) fn waits_for_file(&self) -> bool {
        self.waits_for_file
    }

    /// Sends bytes from memory; see [`Transport::poll_send`](lendfile_core::Transport::poll_send).
    pub(crate) fn poll_send_plain<S: Socket>(
        &mut self,
        cx: &mut Context<'_>,
        socket: &S,
        plain: &[IoSlice<'_>],
        continuation: Continuation,
    ) -> Poll<io::Result<usize>> {
        let more = copy::more_flag(continuation == Continuation::More);
        loop {
            ready!(socket.poll_write_ready(cx))?;
            match socket.try_write_io(|| copy::send(socket, plain, more)) {
                Err(error) if is_transient(&error) => {}
                sent => {
                    if continuation == Continuation::End {
                        self.release(socket);
                    }
                    return Poll::Ready(sent);
                }
            }
        }
    }

    /// Sends from a file; see
    /// [`Transport::poll_send_file`](lendfile_core::Transport::poll_send_file).
    pub(crate) fn poll_send<S: Socket>(
        &mut self,
        cx: &mut Context<'_>,
        socket: &S,
        region: &FileRegion,
        continuation: Continuation,
    ) -> Poll<io::Result<Sent>> {
        self.cork.hold(socket, region.len(), continuation);
        let sent = ready!(self.poll_method(cx, socket, region, continuation));
        let ended = match &sent {
            Ok(sent) => continuation == Continuation::End && sent.bytes as u64 == region.len(),
            Err(_) => true,
        };
        if ended {
            self.release(socket);
        }
        Poll::Ready(sent)
    }

    /// Has the socket hold back partial segments if a body of `len` bytes gains by it.
    pub(crate) fn hold_back<S: Socket>(&mut self, socket: &S, len: u64, follows: Continuation) {
        self.cork.hold(socket, len, follows);
    }

    /// Lets go of what is held back on the socket.
    pub(crate) fn release<S: Socket>(&mut self, socket: &S) {
        self.cork.release(socket);
    }

    fn poll_method<S: Socket>(
        &mut self,
        cx: &mut Context<'_>,
        socket: &S,
        region: &FileRegion,
        continuation: Continuation,
    ) -> Poll<io::Result<Sent>> {
        // What cannot be had in this call, although the file would allow it.
        let mut missing = MethodSet::EMPTY;
        loop {
            let refused = region.file().refused().and(missing);
            let choose = match self.fallback {
                Fallback::Allowed => capabilities::choose,
                Fallback::Refused => capabilities::insist,
            };
            let method = choose(self.method, &CAPABILITIES, refused)?;
            // First the socket: nothing is read for one that is full.
            self.waits_for_file = false;
            ready!(socket.poll_write_ready(cx))?;
            self.waits_for_file = true;
            let mut part = region.clone();
            let mut follows = continuation;
            if method != Method::Copy {
                let waits = &mut self.spent.cold_waits;
                let warm = match ready!(self.cold.poll_warm(cx, region, waits)) {
                    Ok(warm) => warm,
                    Err(NotWarm::Io(error)) => return Poll::Ready(Err(error)),
                    Err(NotWarm::KeepsNone) => {
                        let reason = io::Error::other("no page of it stays in the page cache");
                        capabilities::downgrade(region.file(), method, &CAPABILITIES, &reason);
                        continue;
                    }
                };
                part = part.split_to(warm);
                if part.len() < region.len() {
                    follows = Continuation::More;
                }
            }
            let began = Instant::now();
            let syscalls = &mut self.spent.syscalls;
            let sent = match method {
                Method::Sendfile => sendfile::send(socket, &part, syscalls).map(|n| (n, method)),
                Method::Splice => match Pipe::take() {
                    Ok(mut pipe) => splice::send(socket, &part, follows, &mut pipe, syscalls)
                        .map(|n| (n, method)),
                    Err(_) => {
                        missing = missing.with(method);
                        continue;
                    }
                },
                Method::Mmap => match mmap::send(socket, region, part.len(), follows, syscalls) {
                    Ok(sent) => Ok(sent),
                    Err(mmap::Failure::Io(error)) => Err(error),
                    Err(mmap::Failure::CannotMap(CannotLend::Poisoned)) => {
                        return Poll::Ready(Err(region.ended_early().into()));
                    }
                    Err(mmap::Failure::CannotMap(reason)) => {
                        let reason = io::Error::other(reason);
                        capabilities::downgrade(region.file(), method, &CAPABILITIES, &reason);
                        continue;
                    }
                },
                _ => match ready!(self.poll_copy(cx, socket, region, continuation)) {
                    Ok(n) => Ok((n, method)),
                    Err(error) => Err(error),
                },
            };
            match sent {
                Ok((0, _)) => return Poll::Ready(Err(region.ended_early().into())),
                Ok((bytes, method)) => {
                    if began.elapsed() > STALL {
                        self.note_stall(region, method);
                    }
                    self.cold.sent(region.offset(), bytes as u64);
                    self.spent.cold_waits += self.reader.take_cold_waits();
                    return Poll::Ready(Ok(self.spent.on(bytes, method)));
                }
                Err(error) if is_transient(&error) => {}
                Err(error) => match capabilities::refusal(&error) {
                    Refusal::Unsupported if method != Method::Copy => {
                        capabilities::downgrade(region.file(), method, &CAPABILITIES, &error);
                    }
                    _ => return Poll::Ready(Err(capabilities::blame(error, region))),
                },
            }
        }
    }

    /// A call took so long that it has probably waited for the disk: what is believed of the file
    /// is wrong, or the thread was not running.
    fn note_stall(&mut self, region: &FileRegion, method: Method) {
        statistics::STALLS.increment();
        region.file().forget_warm();
        tracing::debug!(
            method = method.name(),
            "a send took long; is the file in the page cache?"
        );
    }

    /// One read and one send; WouldBlock if the socket is full.
    fn poll_copy<S: Socket>(
        &mut self,
        cx: &mut Context<'_>,
        socket: &S,
        region: &FileRegion,
        continuation: Continuation,
    ) -> Poll<io::Result<usize>> {
        // Whether more of the region follows is known only when it has been read.
        let send = |bytes: &[u8]| {
            let more = match bytes.len() as u64 == region.len() {
                true => copy::more_flag(continuation == Continuation::More),
                false => SendFlags::MORE,
            };
            socket.try_write_io(|| copy::send(socket, &[IoSlice::new(bytes)], more))
        };
        let (reader, syscalls) = (&mut self.reader, &mut self.spent.syscalls);
        let kept = self.kept.take_if(|kept| !kept.of(region).is_empty());
        if let Some(kept) = kept {
            *syscalls += 1;
            let bytes = kept.of(region);
            let sent = send(bytes);
            if !matches!(sent, Ok(n) if n == bytes.len()) {
                self.kept = Some(kept);
            }
            return Poll::Ready(sent);
        }
        self.kept = None;
        copy::with_buffer(|buffer| {
            let n = ready!(reader.poll_read(cx, region, buffer))?;
            *syscalls += 2;
            let sent = send(&buffer[..n]);
            let taken = sent.as_ref().map_or(0, |n| *n);
            let mut rest = region.clone();
            rest.advance(taken as u64);
            self.kept = Kept::new(&rest, &buffer[taken..n]);
            Poll::Ready(sent)
        })
    }
}
