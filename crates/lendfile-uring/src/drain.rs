//! From a flow's first window into the socket.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use lendfile_core::{Continuation, Sent};
use lendfile_epoll::{Socket, is_writable};
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::pipe::SpliceFlags;

use crate::flow::{Demand, Flow, Stop, is_interruption};
use crate::ring::Ring;
use crate::sys::Operation;
use crate::window::Window;

/// What it takes to send from a flow.
pub(crate) struct Drain<'a, S> {
    pub(crate) ring: &'a Rc<Ring>,
    pub(crate) flow: &'a mut Flow,
    pub(crate) key: usize,
    pub(crate) socket: &'a S,
    pub(crate) demand: Demand<'a>,
    /// Bytes that may be sent by one call.
    pub(crate) at_most: usize,
}

impl<S: Socket> Drain<'_, S> {
    /// Sends from the first window by system calls that do not wait.
    pub(crate) fn poll_inline(&mut self, cx: &mut Context<'_>) -> Poll<Result<Sent, Stop>> {
        let mut syscalls = 0;
        loop {
            let portion = ready!(self.poll_portion(cx))?;
            let Some(window) = self.flow.first() else {
                continue;
            };
            let sent = self.socket.try_write_io(|| {
                syscalls += 1;
                send(window, self.socket, portion)
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if is_interruption(&error) => {}
                sent => return Poll::Ready(self.sent(sent, syscalls)),
            }
        }
    }

    /// Sends from the first window by the ring, through `socket`, a duplicate of the socket's
    /// descriptor: the kernel may look it up when the connection is long gone.
    ///
    /// What is under way is remembered if this is dropped while pending, and reported to the next
    /// call, which must be for the same bytes.
    pub(crate) fn poll_by_ring(
        &mut self,
        cx: &mut Context<'_>,
        socket: &Arc<OwnedFd>,
    ) -> Poll<Result<Sent, Stop>> {
        loop {
            self.flow.waits_for_file = false;
            if let Some(drain) = &mut self.flow.drain {
                let result = ready!(Pin::new(drain).poll(cx)).result;
                self.flow.drain = None;
                if !self.flow.is_at(self.demand.region) {
                    return Poll::Ready(Err(Stop::Unclaimed));
                }
                match result {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        // Believed only if it is so still: the readiness that tokio knows of may
                        // be newer than the attempt.
                        _ = self.socket.try_write_io(|| match is_writable(self.socket) {
                            true => Ok(()),
                            false => Err(io::ErrorKind::WouldBlock.into()),
                        });
                    }
                    Err(error) if is_interruption(&error) => {}
                    sent => return Poll::Ready(self.sent(sent, 0)),
                }
            }
            let portion = ready!(self.poll_portion(cx))?;
            let Some(pipe) = self.flow.first().and_then(|window| window.pipe()) else {
                return Poll::Ready(Err(Stop::Missing(io::ErrorKind::Unsupported.into())));
            };
            let len = u32::try_from(portion.bytes).unwrap_or(u32::MAX);
            let operation = Operation::drain(pipe.reader(), socket, len, portion.splice_flags());
            self.flow.submit_drain(self.ring, operation);
        }
    }

    /// Waits until something is there and the socket takes bytes: how much may be sent now.
    fn poll_portion(&mut self, cx: &mut Context<'_>) -> Poll<Result<Portion, Stop>> {
        // A stalled peer's connection does not even begin.
        if self.flow.is_idle() {
            ready!(self.poll_writable(cx))?;
        }
        self.flow.waits_for_file = true;
        let window = ready!(self.flow.poll_window(self.ring, self.key, cx, &self.demand))?;
        let region_bytes = usize::try_from(self.demand.region.len()).unwrap_or(usize::MAX);
        let portion = Portion {
            bytes: window.held().min(region_bytes).min(self.at_most),
            more: window.held().min(self.at_most) < region_bytes
                || self.demand.continuation == Continuation::More,
        };
        ready!(self.poll_writable(cx))?;
        Poll::Ready(Ok(portion))
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        self.flow.waits_for_file = false;
        match self.socket.poll_write_ready(cx) {
            Poll::Ready(ready) => Poll::Ready(ready.map_err(Stop::Socket)),
            Poll::Pending => {
                self.flow.park(self.ring, self.key);
                Poll::Pending
            }
        }
    }

    fn sent(&mut self, sent: io::Result<usize>, syscalls: u32) -> Result<Sent, Stop> {
        let bytes = match sent {
            // Neither call says it of a socket; to try again would spin.
            Ok(0) => return Err(Stop::Socket(io::ErrorKind::WriteZero.into())),
            sent => sent.map_err(Stop::Socket)?,
        };
        self.flow.sent(self.ring, &self.demand, bytes);
        Ok(Sent {
            bytes,
            method: self.demand.method,
            syscalls: syscalls + self.flow.take_syscalls(),
            cold_waits: 0,
        })
    }
}

/// How much of the first window goes now.
#[derive(Clone, Copy)]
struct Portion {
    bytes: usize,
    /// Whether more follows.
    more: bool,
}

impl Portion {
    fn splice_flags(self) -> SpliceFlags {
        match self.more {
            true => SpliceFlags::NONBLOCK | SpliceFlags::MORE,
            false => SpliceFlags::NONBLOCK,
        }
    }
}

fn send<S: Socket>(window: &Window, socket: &S, portion: Portion) -> io::Result<usize> {
    let sent = match (window.pipe(), window.bytes()) {
        (Some(pipe), _) => rustix::pipe::splice(
            pipe.reader(),
            None,
            socket,
            None,
            portion.bytes,
            portion.splice_flags(),
        ),
        (None, Some(bytes)) => {
            let mut flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            flags.set(SendFlags::MORE, portion.more);
            rustix::net::send(socket, &bytes[..portion.bytes], flags)
        }
        (None, None) => Err(Errno::AGAIN),
    };
    Ok(sent?)
}

/// For a connection that went on with other bytes than those that were under way.
pub(crate) fn unclaimed() -> io::Error {
    io::Error::other("bytes of a file were sent that a dropped write has not reported")
}
