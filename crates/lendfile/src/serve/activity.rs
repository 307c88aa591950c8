//! What one connection is doing: counters kept by its stream, its service and its bodies, and read
//! by its clock. Keeping them costs a few unlocked loads and stores per call, and no system call,
//! no look at the time and no timer: the clock samples them instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use bytes::{Buf, Bytes};
use lendfile_core::Ledger;

/// The counters of one connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// The books of the stream below.
    ledger: Arc<Ledger>,
    /// Bytes that came from the peer. Only the connection's task writes it, and `written`.
    read: AtomicU64,
    /// Bytes that the socket's buffer has accepted, whatever they were.
    written: AtomicU64,
    /// Bytes of responses' bodies that the stream has accepted.
    bodies: AtomicU64,
    /// Bytes of bodies that the HTTP library holds.
    owed: AtomicU64,
    /// Requests begun.
    requests: AtomicU64,
    /// Requests whose response's body has not been handed to the HTTP library whole.
    in_flight: AtomicU32,
    /// Those of them that wait for the service or its body, not for the peer.
    ours: AtomicU32,
    /// `read` when the last request ended: what has come since belongs to a head.
    read_at_rest: AtomicU64,
    /// Whether the socket refused a part of what was last written to it.
    unsent: AtomicBool,
    http2: AtomicBool,
    /// Whether the peer is cut off, and what it has not taken is thrown away.
    cut_off: AtomicBool,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// Bytes of responses that were accepted. Over HTTP/2 those of bodies only: the rest answers
    /// what the peer sends (PING, SETTINGS, further requests), which it does without taking
    /// anything that it is owed.
    pub(super) accepted: u64,
    pub(super) requests: u64,
    pub(super) doing: Doing,
    pub(super) http2: bool,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Doing {
    /// Nothing is asked and nothing is owed.
    #[default]
    Resting,
    /// Part of a request's head has come.
    ReadingHead,
    /// The socket is full of bytes for the peer.
    Sending,
    /// The service has not answered, or its body waits for something.
    Serving,
    /// The stream waits for a file's pages.
    Reading,
    /// There are bytes for the peer and the socket has room: HTTP/2's window is closed.
    Stalled,
}

impl Doing {
    /// Whether it is the peer's turn to accept bytes.
    pub(super) fn is_owing(self) -> bool {
        matches!(self, Self::Sending | Self::Stalled)
    }
}

impl Activity {
    /// Of a connection whose stream keeps `ledger`.
    pub(super) fn new(ledger: Arc<Ledger>) -> Self {
        Self {
            ledger,
            ..Self::default()
        }
    }

    pub(super) fn read(&self, bytes: u64) {
        self.read.store(self.read.load(Relaxed) + bytes, Relaxed);
    }

    /// Notes that `bytes` were accepted, and whether that was all there was.
    pub(super) fn written(&self, bytes: u64, unsent: bool) {
        self.written
            .store(self.written.load(Relaxed) + bytes, Relaxed);
        self.unsent.store(unsent, Relaxed);
    }

    pub(super) fn blocked(&self) {
        self.unsent.store(true, Relaxed);
    }

    pub(super) fn cut_off(&self) {
        self.cut_off.store(true, Relaxed);
    }

    pub(super) fn is_cut_off(&self) -> bool {
        self.cut_off.load(Relaxed)
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    pub(super) fn is_http2(&self) -> bool {
        self.http2.load(Relaxed)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let (in_flight, ours) = (self.in_flight.load(Relaxed), self.ours.load(Relaxed));
        let read = self.read.load(Relaxed);
        let requests = self.requests();
        let http2 = self.is_http2();
        let doing = if self.unsent.load(Relaxed) {
            match self.ledger.waits_for_file() {
                true => Doing::Reading,
                false => Doing::Sending,
            }
        } else if in_flight > ours || self.owed.load(Relaxed) > 0 {
            Doing::Stalled
        } else if in_flight > 0 {
            Doing::Serving
        } else if requests == 0 || !http2 && read > self.read_at_rest.load(Relaxed) {
            Doing::ReadingHead
        } else {
            Doing::Resting
        };
        Snapshot {
            accepted: match http2 {
                true => self.bodies.load(Relaxed),
                false => self.written.load(Relaxed),
            },
            requests,
            doing,
            http2,
        }
    }
}

/// One request under way; ends when dropped. It begins as ours: the service has it.
#[derive(Debug)]
pub(super) struct InFlight {
    activity: Arc<Activity>,
    ours: bool,
}

impl InFlight {
    pub(super) fn begin(activity: &Arc<Activity>, http2: bool) -> Self {
        activity.requests.fetch_add(1, Relaxed);
        activity.in_flight.fetch_add(1, Relaxed);
        activity.ours.fetch_add(1, Relaxed);
        if http2 {
            activity.http2.store(true, Relaxed);
        }
        Self {
            activity: activity.clone(),
            ours: true,
        }
    }

    /// A part of its response's body, as the HTTP library gets it.
    pub(super) fn hand_over(&self, bytes: Bytes) -> Owed {
        self.activity.owed.fetch_add(bytes.len() as u64, Relaxed);
        let activity = self.activity.clone();
        Owed { bytes, activity }
    }

    /// Notes whether it waits for the service or its body.
    pub(super) fn waits_for_us(&mut self, ours: bool) {
        if self.ours != ours {
            self.ours = ours;
            match ours {
                true => self.activity.ours.fetch_add(1, Relaxed),
                false => self.activity.ours.fetch_sub(1, Relaxed),
            };
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.waits_for_us(false);
        if self.activity.in_flight.fetch_sub(1, Relaxed) == 1 {
            let read = self.activity.read.load(Relaxed);
            self.activity.read_at_rest.store(read, Relaxed);
        }
    }
}

/// Bytes of a body on their way: handed to the HTTP library, owed until the stream has accepted
/// them. (With HTTP/2 that may be long after the body's end: it waits for the peer's window.)
///
/// The pointers are those of the bytes, so what is lent stays lent.
#[derive(Debug)]
pub(super) struct Owed {
    bytes: Bytes,
    activity: Arc<Activity>,
}

impl Owed {
    fn accepted(&self, bytes: usize) {
        self.activity.owed.fetch_sub(bytes as u64, Relaxed);
        self.activity.bodies.fetch_add(bytes as u64, Relaxed);
    }
}

impl Buf for Owed {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, bytes: usize) {
        self.bytes.advance(bytes);
        self.accepted(bytes);
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        let bytes = self.bytes.copy_to_bytes(len);
        self.accepted(len);
        bytes
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        let left = self.bytes.len() as u64;
        self.activity.owed.fetch_sub(left, Relaxed);
    }
}
