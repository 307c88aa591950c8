//! What one connection is doing: counters kept by its stream, its service and its bodies, and read
//! by its clock. Keeping them costs a few unlocked loads and stores per call, and no system call,
//! no look at the time and no timer: the clock samples them instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// The counters of one connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Bytes that came from the peer. Only the connection's task writes it, and `written`.
    read: AtomicU64,
    /// Bytes that the socket's buffer has accepted.
    written: AtomicU64,
    /// Requests begun.
    requests: AtomicU64,
    /// Requests whose body has not been handed over whole.
    in_flight: AtomicU32,
    /// Those of them that wait for the service or its body, not for the peer.
    ours: AtomicU32,
    /// `read` when the last request ended: what has come since belongs to a head.
    read_at_rest: AtomicU64,
    /// Whether the socket refused a part of what was last written to it.
    unsent: AtomicBool,
    http2: AtomicBool,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) written: u64,
    pub(super) read: u64,
    pub(super) requests: u64,
    pub(super) doing: Doing,
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
    /// There are bytes for the peer and the socket has room: HTTP/2's window is closed.
    Stalled,
}

impl Activity {
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
        let doing = if self.unsent.load(Relaxed) {
            Doing::Sending
        } else if in_flight > ours {
            Doing::Stalled
        } else if in_flight > 0 {
            Doing::Serving
        } else if requests == 0 || !self.is_http2() && read > self.read_at_rest.load(Relaxed) {
            Doing::ReadingHead
        } else {
            Doing::Resting
        };
        Snapshot {
            written: self.written.load(Relaxed),
            read,
            requests,
            doing,
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
