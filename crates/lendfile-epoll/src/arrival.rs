//! Waiting until something has arrived; after bulk, until much has.
//!
//! A receiver that is faster than its sender is woken for every segment, and moves little each
//! time. With `SO_RCVLOWAT` at 256 KiB the kernel wakes it when that much is there: receiving to a
//! file took 0.28 s of CPU per GiB instead of 0.43, with a quarter of the system calls (veth, MTU
//! 1500; loopback 0.28 instead of 0.32; Linux 6.18). What never fills the mark is not left lying:
//! a timer takes the mark away.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use lendfile_core::low_water;
use tokio::time::Sleep;

use crate::Socket;

/// The mark, and what must have been moved since the last wait for it to be set.
const MARK_BYTES: u64 = 256 << 10;

/// A socket that is waited for, and what is known of its flow.
#[derive(Debug)]
pub(crate) struct Arrival<'a, S: Socket> {
    socket: &'a S,
    /// The mark its owner has set, once this has set another.
    owners: Option<i32>,
    /// The longest that bytes below the mark lie waiting.
    patience: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    /// Bytes moved since the last wait.
    moved: u64,
}

impl<'a, S: Socket> Arrival<'a, S> {
    pub(crate) fn new(socket: &'a S, patience: Duration) -> Self {
        Self {
            socket,
            owners: None,
            patience,
            sleep: None,
            moved: 0,
        }
    }

    /// Notes that bytes were taken out of the socket.
    pub(crate) fn moved(&mut self, bytes: u64) {
        self.moved += bytes;
    }

    /// Waits until the socket is readable or at its end; `left` bytes are still expected.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>, left: u64) -> Poll<io::Result<()>> {
        if let Poll::Ready(ready) = self.socket.poll_read_ready(cx) {
            self.sleep = None;
            return Poll::Ready(ready);
        }
        if self.sleep.is_none() {
            // The mark stays as long as the flow does, but never beyond what is to come.
            let bulk = self.moved >= MARK_BYTES && self.socket.has_low_water_mark();
            self.moved = 0;
            if !bulk || left < MARK_BYTES || !self.set() {
                self.unset();
                return Poll::Pending;
            }
            self.sleep = Some(Box::pin(tokio::time::sleep(self.patience)));
        }
        if let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
            // If anything is there, the kernel says so now.
            self.unset();
        }
        Poll::Pending
    }

    /// Whether the mark is set.
    fn set(&mut self) -> bool {
        if self.owners.is_some() {
            return true;
        }
        let mark = i32::try_from(MARK_BYTES).expect("256 KiB");
        let owners = low_water::of(self.socket);
        self.owners = owners
            .ok()
            .filter(|_| low_water::set(self.socket, mark).is_ok());
        self.owners.is_some()
    }

    fn unset(&mut self) {
        if let Some(owners) = self.owners.take()
            && let Err(error) = low_water::set(self.socket, owners)
        {
            tracing::debug!(%error, "the receive low-water mark could not be put back");
        }
    }
}

impl<S: Socket> Drop for Arrival<'_, S> {
    /// The socket's owner finds its own mark again.
    fn drop(&mut self) {
        self.unset();
    }
}
