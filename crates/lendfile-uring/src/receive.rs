//! From a socket to a file through a reception's intake.
//!
//! Bytes are peeked at, written by the ring, and taken out of the socket when they are in the file.
//! What is let go of in between is still in the socket, so a dropped future has taken exactly what
//! it has counted, and a full disk loses nothing.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use lendfile_core::capabilities::{self, Refusal};
use lendfile_core::{Method, Sent, peek_offset};
use lendfile_epoll::{Reception, Socket, yield_turn};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::direct::ALIGNMENT;
use crate::flow::{INTERRUPTIONS, is_interruption};
use crate::intake::{Intake, Portion};
use crate::ring::Ring;
use crate::target::Target;
use crate::window::Kind;

/// What it takes to receive.
pub(crate) struct Receive<'a, 'b, S: Socket> {
    pub(crate) ring: &'a Rc<Ring>,
    pub(crate) intake: &'a mut Intake,
    pub(crate) key: usize,
    pub(crate) target: &'a mut Target,
    pub(crate) peeks: &'a Peeks<'b, S>,
    pub(crate) reception: &'a mut Reception<'b, S>,
    /// How the socket has ended, behind what is in the intake.
    pub(crate) end: &'a mut Option<End>,
}

/// Why nothing more is received by the ring.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Something failed.
    Failed(io::Error),
    /// Another method may do.
    Refused(io::Error),
}

/// How a socket has ended.
#[derive(Debug)]
pub(crate) enum End {
    /// By the peer's word.
    Closed,
    Failed(io::Error),
}

impl<S: Socket> Receive<'_, '_, S> {
    /// Resolves when all is in the file, or the socket has ended.
    pub(crate) fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        let mut turn_left = self.reception.turn_bytes();
        loop {
            let is_idle = match self.poll_written(cx) {
                Poll::Ready(written) => written.map(|()| true)?,
                Poll::Pending => false,
            };
            if self.is_over() {
                return Poll::Ready(match self.end.take() {
                    Some(End::Failed(error)) => Err(Stop::Failed(error)),
                    Some(End::Closed) | None => Ok(()),
                });
            }
            if self.may_peek()
                && turn_left > 0
                && let Poll::Ready(peeked) = self.poll_peek(cx, turn_left)
            {
                turn_left = turn_left.saturating_sub(peeked?);
                continue;
            }
            let is_moving = is_idle && self.write_next()?;
            if turn_left == 0 {
                return yield_turn(cx);
            }
            if !is_moving {
                self.reception.record_wait();
                return Poll::Pending;
            }
        }
    }

    /// Waits until nothing is being written, and books what was.
    pub(crate) fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Err(stop) = ready!(self.poll_written(cx)) {
            // It comes again when it is tried again, with the same bytes.
            tracing::debug!(?stop, "while settling");
            self.intake.next = None;
            _ = self.peeks.move_to(0);
            if matches!(self.end, Some(End::Closed)) {
                *self.end = None;
            }
        }
        Poll::Ready(())
    }

    fn is_over(&self) -> bool {
        let everything = self.end.is_some() || self.reception.left() == Some(0);
        everything && self.intake.held() == 0
    }

    /// Resolves when nothing is being written.
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        while let Some((written, portion)) = ready!(self.intake.poll_written(cx)) {
            let rest = match written {
                Ok(0) => return Poll::Ready(Err(Stop::Failed(io::ErrorKind::WriteZero.into()))),
                Ok(n) => {
                    self.intake.interruptions = 0;
                    self.take_out(portion, n).map_err(Stop::Failed)?
                }
                Err(error) => {
                    self.may_write_again(error)?;
                    portion
                }
            };
            if !rest.used.is_empty() {
                self.write(rest)?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether what has failed is to be tried again; perhaps otherwise.
    fn may_write_again(&mut self, error: io::Error) -> Result<(), Stop> {
        if is_interruption(&error) && self.intake.interruptions < INTERRUPTIONS {
            self.intake.interruptions += 1;
            return Ok(());
        }
        match capabilities::refusal(&error) {
            // Some filesystems take O_DIRECT and refuse what is written by it.
            Refusal::Unsupported if self.target.give_up_direct() => Ok(()),
            Refusal::Unsupported => Err(Stop::Refused(error)),
            Refusal::Error => Err(Stop::Failed(error)),
        }
    }

    /// Takes the first `n` bytes of a portion, which are in the file, out of the socket; returns what
    /// is left of it.
    fn take_out(&mut self, mut portion: Portion, n: usize) -> io::Result<Portion> {
        let socket = self.reception.socket();
        let until = portion.used.start + n;
        let mut taken: io::Result<()> = Ok(());
        let mut from = portion.used.start;
        while from < until && taken.is_ok() {
            self.intake.syscalls += 1;
            // TCP only counts them, a Unix socket writes the same bytes once more.
            let same = portion.buffer.slice_mut(from..until);
            match rustix::net::recv(socket, same, RecvFlags::TRUNC | RecvFlags::DONTWAIT) {
                Err(Errno::INTR) => {}
                Err(errno) => taken = Err(errno.into()),
                Ok((_, 0)) => taken = Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((_, n)) => from += n,
            }
        }
        self.reception.wrote(Sent {
            bytes: n,
            method: Method::RingFixed,
            syscalls: std::mem::take(&mut self.intake.syscalls),
            cold_waits: 0,
        });
        portion.used.start = until;
        taken.map(|()| portion).map_err(|error| {
            let message = "somebody else has received from the socket";
            tracing::debug!(%error, message);
            io::Error::new(error.kind(), message)
        })
    }

    /// Has the next portion written; false if there is none.
    fn write_next(&mut self) -> Result<bool, Stop> {
        let Some(mut next) = self.intake.next.take() else {
            return Ok(false);
        };
        self.cut(&mut next).map_err(Stop::Failed)?;
        self.reception.came(next.used.len() as u64);
        self.write(next)?;
        Ok(true)
    }

    /// Cuts a portion at the last boundary of the file's pages that it reaches, unless the file ends
    /// there: the page cache gets whole pages, and the disk whole blocks. To get to whole blocks, at
    /// the first. The rest is peeked at again.
    fn cut(&mut self, portion: &mut Portion) -> io::Result<()> {
        let len = portion.used.len() as u64;
        let start = self.reception.offset();
        let to_first = start.next_multiple_of(ALIGNMENT) - start;
        let beyond_last = (start + len) % ALIGNMENT;
        let is_last = self.reception.left() == Some(len) || self.end.is_some();
        let kept = if self.target.is_direct() && to_first > 0 {
            to_first.min(len)
        } else if is_last || beyond_last >= len {
            len
        } else {
            len - beyond_last
        };
        let kept = usize::try_from(kept).map_err(io::Error::other)?;
        if kept == portion.used.len() {
            return Ok(());
        }
        portion.used.end = portion.used.start + kept;
        if matches!(self.end, Some(End::Closed)) {
            *self.end = None;
        }
        self.peeks.move_to(kept)
    }

    fn write(&mut self, portion: Portion) -> Result<(), Stop> {
        let offset = self.reception.offset();
        let written = self.intake.write(self.ring, self.target, offset, portion);
        written.map_err(Stop::Refused)
    }

    /// Bytes still to be peeked at.
    fn unseen(&self) -> u64 {
        let left = self.reception.left();
        left.map_or(u64::MAX, |left| left - self.intake.held() as u64)
    }

    fn may_peek(&self) -> bool {
        let has_room = match (self.intake.is_writing(), &self.intake.next) {
            // Another peek would show the same bytes again.
            (true, _) | (false, Some(_)) if !self.peeks.move_on() => false,
            (_, next) => next.as_ref().is_none_or(|next| next.room() > 0),
        };
        has_room && self.end.is_none() && self.unseen() > 0
    }

    /// Waits until there is more in the socket, and peeks at it: how many bytes.
    ///
    /// Behind bytes that are still in the socket it is only tried, not waited for: that nothing
    /// follows them does not make the socket unreadable, and whoever goes on without this future
    /// must find it as it is. It is tried again when they are written.
    fn poll_peek(&mut self, cx: &mut Context<'_>, turn_left: u64) -> Poll<Result<u64, Stop>> {
        loop {
            let is_first = self.intake.held() == 0;
            let held = self.intake.next.as_ref();
            let held = held.map_or(0, |next| next.used.len() as u64);
            let wanted = held + self.unseen().min(turn_left);
            // The rate allows so much for the whole portion, which is taken from it when it is
            // written.
            let allowed = ready!(self.reception.poll_allowance(cx, wanted));
            let more = allowed.saturating_sub(held);
            if more == 0 {
                return Poll::Pending;
            }
            if is_first {
                ready!(self.reception.poll_arrival(cx, self.unseen())).map_err(Stop::Failed)?;
            }
            let mut next = match self.intake.next.take() {
                Some(next) => next,
                None => ready!(self.poll_empty(cx))?,
            };
            let peeked = self.peek(&mut next, more, is_first);
            if !next.used.is_empty() {
                self.intake.next = Some(next);
            }
            match peeked {
                Err(error) if is_interruption(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !is_first {
                        return Poll::Pending;
                    }
                }
                Err(error) => {
                    *self.end = Some(End::Failed(error));
                    return Poll::Ready(Ok(0));
                }
                Ok(0) => {
                    *self.end = Some(End::Closed);
                    return Poll::Ready(Ok(0));
                }
                Ok(n) => return Poll::Ready(Ok(n as u64)),
            }
        }
    }

    fn peek(&mut self, next: &mut Portion, max: u64, is_first: bool) -> io::Result<usize> {
        let socket = self.reception.socket();
        let max = next.room().min(usize::try_from(max).unwrap_or(usize::MAX));
        let end = next.used.end;
        let room = next.buffer.slice_mut(end..end + max);
        let syscalls = &mut self.intake.syscalls;
        let mut peek = || {
            *syscalls += 1;
            let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
            let (_, n) = rustix::net::recv(socket, &mut *room, flags)?;
            Ok(n)
        };
        let peeked = match is_first {
            true => socket.try_read_io(peek),
            false => peek(),
        }?;
        next.used.end += peeked;
        Ok(peeked)
    }

    /// An empty portion. The first is waited for; a second one is had only if there is plenty.
    fn poll_empty(&mut self, cx: &mut Context<'_>) -> Poll<Result<Portion, Stop>> {
        let budget = self.ring.budget(Kind::Buffers);
        let share = match self.intake.is_writing() {
            true if budget.is_scarce() => None,
            true => budget.take(),
            false => self.ring.share(Kind::Buffers),
        };
        let Some(share) = share else {
            if !self.intake.is_writing() {
                self.ring.wait_for_share(Kind::Buffers, self.key, cx);
                self.intake.waits = true;
            }
            return Poll::Pending;
        };
        let none = || Stop::Refused(io::ErrorKind::OutOfMemory.into());
        let buffer = self.ring.buffer().ok_or_else(none)?;
        Poll::Ready(Ok(Portion::new(buffer, share)))
    }
}

/// Where in a socket the next peek begins; put back when dropped.
pub(crate) struct Peeks<'a, S: AsFd> {
    socket: &'a S,
    /// The owner's setting. `None` where peeks always begin with the first byte: then the next buffer
    /// is filled when the one before is written.
    owners: Option<i32>,
}

impl<'a, S: AsFd> Peeks<'a, S> {
    pub(crate) fn new(socket: &'a S) -> Self {
        let owners = peek_offset::of(socket);
        let owners = owners.ok().filter(|_| peek_offset::set(socket, 0).is_ok());
        Self { socket, owners }
    }

    /// Whether each peek begins where the last one ended.
    fn move_on(&self) -> bool {
        self.owners.is_some()
    }

    /// Has the next one begin so many bytes behind the first in the socket.
    fn move_to(&self, bytes: usize) -> io::Result<()> {
        match self.owners {
            Some(_) => {
                let bytes = i32::try_from(bytes).map_err(io::Error::other)?;
                peek_offset::set(self.socket, bytes)
            }
            None => Ok(()),
        }
    }
}

impl<S: AsFd> Drop for Peeks<'_, S> {
    fn drop(&mut self) {
        if let Some(owners) = self.owners
            && let Err(error) = peek_offset::set(self.socket, owners)
        {
            tracing::debug!(%error, "where the socket is peeked at could not be put back");
        }
    }
}
