//! A connection's flow of file bytes: two windows in turn, the next filled while this one drains.
//!
//! It knows where in which file it is; whoever asks for another place starts anew. It does not send
//! anything: [`drain`](crate::drain) does.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use lendfile_core::{Continuation, FileRegion, Method, OpenFile};
use rustix::io::Errno;

use crate::direct::DirectFile;
use crate::ring::Ring;
use crate::sys::{InFlight, Operation, Source};
use crate::window::{Kind, Origin, Window};

/// Windows of one connection: one drains while the other is filled.
const WINDOWS: usize = 2;

/// System calls for one operation: one gives it to the kernel, one the no-op behind the operation
/// before it ([`sys::flush`](crate::sys)).
pub(crate) const ENTERS: u32 = 2;

/// How often in a row an operation may be interrupted before that is an error.
pub(crate) const INTERRUPTIONS: u32 = 16;

/// ERESTARTSYS, which the kernel hides from system calls but not from rings
/// (include/linux/errno.h).
const RESTART: i32 = 512;

/// One connection's.
#[derive(Default)]
pub(crate) struct Flow {
    file: Option<Arc<OpenFile>>,
    windows: VecDeque<Window>,
    /// Up to where windows may be filled.
    horizon: u64,
    /// Bytes of the file sent one behind the other.
    run: u64,
    interruptions: u32,
    direct: Option<DirectFile>,
    /// The first window on its way into the socket, by the ring.
    pub(crate) drain: Option<InFlight>,
    parked: bool,
    /// Whether what it last began to wait for is a window to be filled, not the socket.
    pub(crate) waits_for_file: bool,
    /// Whether it waits for a share.
    pub(crate) waits: bool,
    /// Made for operations since they were last asked for.
    syscalls: u32,
}

/// Why nothing can be sent by the ring.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The file ended at the region's start or before it.
    Ended,
    /// The file cannot be read, or not so.
    Failed(io::Error),
    /// Something is not to be had now (a pipe, a buffer); another method may do.
    Missing(io::Error),
    /// The socket failed.
    Socket(io::Error),
    /// Bytes were sent of which nobody was told, and now others are to be sent.
    Unclaimed,
}

/// What is asked of a flow.
pub(crate) struct Demand<'a> {
    /// What is to be sent.
    pub(crate) region: &'a FileRegion,
    /// Whether more follows behind the region.
    pub(crate) continuation: Continuation,
    /// One of the ring's methods.
    pub(crate) method: Method,
}

impl Demand<'_> {
    /// What windows are to be made of.
    fn kind(&self) -> Kind {
        match self.method {
            Method::RingFixed => Kind::Buffers,
            _ => Kind::Pipes,
        }
    }
}

impl Flow {
    /// Waits until the first window holds the beginning of the region, and has the next one filled.
    ///
    /// Windows reach past the end of the region only if more follows it, and then not further than
    /// what was sent in one go before: that the file goes on is a guess.
    pub(crate) fn poll_window(
        &mut self,
        ring: &Rc<Ring>,
        key: usize,
        cx: &mut Context<'_>,
        demand: &Demand<'_>,
    ) -> Poll<Result<&mut Window, Stop>> {
        self.unpark(ring, key);
        self.waits = false;
        self.aim(demand);
        loop {
            if self.windows.is_empty() {
                let Some(share) = ring.share(demand.kind()) else {
                    ring.wait_for_share(demand.kind(), key, cx);
                    self.waits = true;
                    return Poll::Pending;
                };
                let window = Window::new(ring, demand.kind(), share).map_err(Stop::Missing)?;
                self.fill(ring, demand, window, demand.region.offset())
                    .map_err(Stop::Failed)?;
            }
            self.fill_next(ring, demand);
            match ready!(self.windows[0].poll_filled(cx)) {
                Ok(0) => {
                    self.reset();
                    return Poll::Ready(Err(Stop::Ended));
                }
                Ok(_) => break,
                Err(error) => {
                    self.empty();
                    // Some filesystems take O_DIRECT and refuse what it reads.
                    if Errno::from_io_error(&error) == Some(Errno::INVAL)
                        && self.direct.as_mut().is_some_and(DirectFile::give_up)
                    {
                        continue;
                    }
                    if !is_interruption(&error) || self.interruptions == INTERRUPTIONS {
                        self.reset();
                        return Poll::Ready(Err(Stop::Failed(error)));
                    }
                    self.interruptions += 1;
                }
            }
        }
        self.interruptions = 0;
        Poll::Ready(Ok(&mut self.windows[0]))
    }

    /// Makes the flow one of the demand's file from the region's start.
    fn aim(&mut self, demand: &Demand<'_>) {
        let region = demand.region;
        let first = self.windows.front();
        let fits = first.is_none_or(|window| {
            window.offset() == region.offset() && window.kind() == demand.kind()
        });
        if !self.is_of(region) || !fits {
            self.reset();
            self.file = Some(region.file().clone());
        }
        let end = region.offset() + region.len();
        self.horizon = match demand.continuation {
            Continuation::End => end,
            Continuation::More => region.file().len().min(end.saturating_add(self.run)),
        };
    }

    /// Begins to fill a second window, if there is something for it and pipes are not scarce.
    fn fill_next(&mut self, ring: &Rc<Ring>, demand: &Demand<'_>) {
        let Some(last) = self.windows.back() else {
            return;
        };
        let next = last.end();
        let budget = ring.budget(demand.kind());
        if self.windows.len() == WINDOWS || next >= self.horizon || budget.is_scarce() {
            return;
        }
        let Some(share) = budget.take() else {
            return;
        };
        // Whatever is wrong will be wrong again when the first window has been sent.
        if let Ok(window) = Window::new(ring, demand.kind(), share) {
            _ = self.fill(ring, demand, window, next);
        }
    }

    /// Has `window` filled from `offset`, behind the others.
    fn fill(
        &mut self,
        ring: &Ring,
        demand: &Demand<'_>,
        mut window: Window,
        offset: u64,
    ) -> io::Result<()> {
        let origin = self.origin(ring, demand);
        window.fill(ring, &origin, offset, self.horizon)?;
        self.syscalls += ENTERS;
        self.windows.push_back(window);
        Ok(())
    }

    /// Notes that `n` bytes of the first window were sent. An empty window is filled again at
    /// once, behind the others.
    pub(crate) fn sent(&mut self, ring: &Rc<Ring>, demand: &Demand<'_>, n: usize) {
        self.run += n as u64;
        self.windows[0].sent(n);
        if self.windows[0].held() > 0 {
            return;
        }
        let Some(empty) = self.windows.pop_front() else {
            return;
        };
        let next = self.windows.back().map_or(empty.offset(), Window::end);
        if next < self.horizon {
            // What fails now will fail again when it is asked for.
            _ = self.fill(ring, demand, empty, next);
        }
    }

    /// The first window.
    pub(crate) fn first(&self) -> Option<&Window> {
        self.windows.front()
    }

    /// Whether nothing is filled or being filled.
    pub(crate) fn is_idle(&self) -> bool {
        self.windows.is_empty()
    }

    /// Whether the first window begins where `region` does.
    pub(crate) fn is_at(&self, region: &FileRegion) -> bool {
        let first = self.windows.front();
        self.is_of(region) && first.is_some_and(|window| window.offset() == region.offset())
    }

    fn is_of(&self, region: &FileRegion) -> bool {
        (self.file.as_ref()).is_some_and(|file| Arc::ptr_eq(file, region.file()))
    }

    /// Has the ring move the first window into the socket.
    pub(crate) fn submit_drain(&mut self, ring: &Ring, operation: Operation) {
        self.syscalls += ENTERS;
        self.drain = Some(ring.submit(operation));
    }

    /// Waits for what the ring has under way into the socket, and returns how much that was.
    pub(crate) fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let Some(drain) = &mut self.drain else {
            return Poll::Ready(0);
        };
        let completion = ready!(Pin::new(drain).poll(cx));
        self.drain = None;
        let n = completion.result.unwrap_or(0);
        if let Some(window) = self.windows.front_mut() {
            window.sent(n);
        }
        Poll::Ready(n)
    }

    /// System calls made for operations since this was last asked.
    pub(crate) fn take_syscalls(&mut self) -> u32 {
        std::mem::take(&mut self.syscalls)
    }

    /// Notes that it waits for the socket: what it holds may be taken from it if others want pipes.
    pub(crate) fn park(&mut self, ring: &Ring, key: usize) {
        if let Some(window) = self.windows.front()
            && !self.parked
        {
            self.parked = true;
            ring.park(key);
            ring.budget(window.kind()).wake_one();
        }
    }

    fn unpark(&mut self, ring: &Ring, key: usize) {
        if std::mem::take(&mut self.parked) {
            ring.unpark(key);
        }
    }

    /// Gives up what it holds, because another connection can use it now.
    pub(crate) fn give_up(&mut self) {
        self.parked = false;
        self.empty();
    }

    fn empty(&mut self) {
        if self.drain.take().is_some()
            && let Some(window) = self.windows.front_mut()
        {
            window.spoil();
        }
        for window in self.windows.drain(..) {
            window.discard();
        }
    }

    /// Lets go of everything: nothing of the file follows.
    pub(crate) fn reset(&mut self) {
        self.empty();
        self.file = None;
        self.direct = None;
        self.run = 0;
    }

    fn origin(&mut self, ring: &Ring, demand: &Demand<'_>) -> Origin {
        let file = demand.region.file();
        if demand.kind() == Kind::Buffers && ring.options.direct_io {
            let direct = self.direct.get_or_insert_with(|| DirectFile::open(file));
            if let Some(origin) = direct.origin() {
                return origin;
            }
        }
        Origin {
            source: Source::Cached(file.clone()),
            alignment: 1,
        }
    }
}

/// Whether the same is to be tried again.
pub(crate) fn is_interruption(error: &io::Error) -> bool {
    error.raw_os_error() == Some(RESTART) || Errno::from_io_error(error) == Some(Errno::INTR)
}
