//! The signals of `serve`.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Request {
    /// Reopen and read again what can change.
    Reload,
    /// End: the first time when what runs has finished, the second time at once.
    Stop(SignalKind),
}

/// The signals that are caught.
pub(super) struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Catches them from now on.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    pub(super) async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.hangup.recv() => Request::Reload,
            _ = self.interrupt.recv() => Request::Stop(SignalKind::interrupt()),
            _ = self.terminate.recv() => Request::Stop(SignalKind::terminate()),
        }
    }

    /// The next one that asks to end; `reload` is called for those that do not.
    pub(super) async fn stop(&mut self, mut reload: impl FnMut()) -> SignalKind {
        loop {
            match self.next().await {
                Request::Reload => reload(),
                Request::Stop(signal) => return signal,
            }
        }
    }
}
