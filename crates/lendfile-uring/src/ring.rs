//! What a thread with a ring has besides tokio-uring's runtime: its connections' flows and intakes,
//! its bounds, its registered buffers.
//!
//! Transports must be `Send`, as hyper and axum want them, and nothing of tokio-uring is. So all
//! that belongs to the ring stays here, in a table of the thread, and a transport has only the
//! number of its place in it ([`Place`]).

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Context;

use lendfile_core::{Capabilities, Error, ErrorKind, statistics};
use slab::Slab;
use tokio::sync::Notify;

use crate::Options;
use crate::budget::{Budget, Share};
use crate::flow::Flow;
use crate::intake::Intake;
use crate::sys::{Buffer, Buffers, InFlight, Operation};
use crate::window::Kind;

thread_local! {
    static RING: RefCell<Option<Rc<Ring>>> = const { RefCell::new(None) };
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// One thread's.
pub(crate) struct Ring {
    id: u64,
    pub(crate) options: Options,
    pub(crate) capabilities: Capabilities,
    /// Whether the thread is inside `Runtime::block_on`; operations can be submitted only there.
    entered: Cell<bool>,
    closing: Cell<bool>,
    /// Whether handing an operation to the kernel ended in a panic: tokio-uring cannot be trusted to
    /// end any more.
    broken: Cell<bool>,
    in_flight: Rc<Cell<usize>>,
    /// Of pipes, and of registered buffers.
    pipe_budget: Rc<Budget>,
    buffer_budget: Rc<Budget>,
    buffers: OnceCell<Option<Buffers>>,
    /// `None` while the tenant is being polled.
    tenants: RefCell<Slab<Option<Tenant>>>,
    /// Flows that wait for their sockets and have something filled, the longest first.
    parked: RefCell<VecDeque<usize>>,
    orphans: Arc<Orphans>,
}

/// What has a place in the table.
enum Tenant {
    /// From a file to a socket.
    Flow(Box<Flow>),
    /// From a socket to a file.
    Intake(Box<Intake>),
}

/// Places whose owners were dropped on other threads.
#[derive(Default)]
struct Orphans {
    keys: Mutex<Vec<usize>>,
    /// Told of each.
    one_more: Notify,
}

impl Orphans {
    fn push(&self, key: usize) {
        lock(&self.keys).push(key);
        self.one_more.notify_one();
    }
}

impl Ring {
    /// Makes it this thread's.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Misuse`] if the thread has one.
    pub(crate) fn install(options: Options, capabilities: Capabilities) -> Result<Rc<Self>, Error> {
        RING.with_borrow_mut(|slot| {
            if slot.is_some() {
                let message = "this thread has a ring runtime already";
                return Err(Error::new(ErrorKind::Misuse, message));
            }
            let ring = Rc::new(Self {
                id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
                capabilities,
                entered: Cell::new(false),
                closing: Cell::new(false),
                broken: Cell::new(false),
                in_flight: Rc::default(),
                pipe_budget: Budget::new(options.windows),
                buffer_budget: Budget::new(options.windows.min(options.buffers)),
                buffers: OnceCell::new(),
                tenants: RefCell::default(),
                parked: RefCell::default(),
                orphans: Arc::default(),
                options,
            });
            Ok(slot.insert(ring).clone())
        })
    }

    /// Takes it away from this thread.
    pub(crate) fn uninstall(&self) {
        // Bound, so that it is dropped when nothing is borrowed any more.
        let ring = RING.with_borrow_mut(Option::take);
        drop(ring);
    }

    /// This thread's, if it has one and can be used now.
    pub(crate) fn current() -> Option<Rc<Self>> {
        let ring = Self::installed()?;
        let usable = ring.entered.get() && !ring.closing.get() && !ring.broken.get();
        usable.then_some(ring)
    }

    fn installed() -> Option<Rc<Self>> {
        RING.try_with(|slot| slot.borrow().clone()).ok().flatten()
    }

    /// Marks the thread as inside `block_on` until the result is dropped.
    pub(crate) fn enter(self: &Rc<Self>) -> Entered {
        self.entered.set(true);
        Entered(self.clone())
    }

    /// Ends all that has a place; from now on nothing is submitted any more. What is in flight stays in
    /// flight, and is owned by tokio-uring from now on.
    pub(crate) fn close(&self) {
        self.closing.set(true);
        let tenants = self.tenants.take();
        drop(tenants);
        self.pipe_budget.wake_all();
        self.buffer_budget.wake_all();
    }

    /// Operations that the kernel has not completed.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    /// A place for a new transport.
    pub(crate) fn flow_place(&self) -> Place {
        self.place(Tenant::Flow(Box::default()))
    }

    /// A place for a new reception.
    pub(crate) fn intake_place(&self) -> Place {
        self.place(Tenant::Intake(Box::default()))
    }

    fn place(&self, tenant: Tenant) -> Place {
        Place {
            key: self.tenants.borrow_mut().insert(Some(tenant)),
            ring: self.id,
            orphans: self.orphans.clone(),
        }
    }

    /// Gives `operation` to the kernel.
    ///
    /// # Panics
    ///
    /// If the kernel does not take it (tokio-uring panics then). No operation goes by this ring
    /// afterwards.
    pub(crate) fn submit(&self, operation: Operation) -> InFlight {
        statistics::RING_OPERATIONS.increment();
        self.broken.set(true);
        let in_flight = operation.submit(&self.in_flight);
        self.broken.set(false);
        in_flight
    }

    /// Whether an operation could not be handed over.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// What windows of a kind are shares of.
    pub(crate) fn budget(&self, kind: Kind) -> &Rc<Budget> {
        match kind {
            Kind::Buffers => &self.buffer_budget,
            Kind::Pipes => &self.pipe_budget,
        }
    }

    /// A share of the thread's windows: one that is left, or that of a flow which can do nothing with
    /// it now.
    pub(crate) fn share(&self, kind: Kind) -> Option<Rc<Share>> {
        loop {
            match self.budget(kind).take() {
                Some(share) => return Some(share),
                None if self.rob() => {}
                None => return None,
            }
        }
    }

    /// Has the task of the tenant at `key` woken when it may find a share; counted.
    pub(crate) fn wait_for_share(&self, kind: Kind, key: usize, cx: &Context<'_>) {
        statistics::RING_WAITS.increment();
        self.budget(kind).wait(key, cx);
    }

    /// A registered buffer; `None` if all are in use or none can be registered.
    pub(crate) fn buffer(&self) -> Option<Buffer> {
        let buffers = self.buffers.get_or_init(|| {
            let (count, bytes) = (self.options.buffers, self.options.buffer_bytes);
            Buffers::register(count, bytes)
                .inspect(|buffers| self.buffer_budget.limit_to(buffers.len()))
                .inspect_err(|error| tracing::warn!(%error, "no buffer can be registered"))
                .ok()
        });
        buffers.as_ref()?.take()
    }

    /// Notes that the flow at `key` waits for its socket with something filled.
    pub(crate) fn park(&self, key: usize) {
        self.parked.borrow_mut().push_back(key);
    }

    /// Notes that it does not wait any more.
    pub(crate) fn unpark(&self, key: usize) {
        self.parked.borrow_mut().retain(|parked| *parked != key);
    }

    /// Takes from the flow that has waited longest for its socket what was filled for it, which is
    /// filled again when the socket takes bytes. Returns whether there was one.
    fn rob(&self) -> bool {
        let Some(key) = self.parked.borrow_mut().pop_front() else {
            return false;
        };
        // Taken out, since what is given up wakes tasks and goes back to a pool.
        if let Some(mut tenant) = self.take(key) {
            if let Tenant::Flow(flow) = &mut tenant {
                flow.give_up();
            }
            self.put(key, tenant);
        }
        true
    }

    fn take(&self, key: usize) -> Option<Tenant> {
        self.tenants.borrow_mut().get_mut(key)?.take()
    }

    fn put(&self, key: usize, tenant: Tenant) {
        if let Some(slot) = self.tenants.borrow_mut().get_mut(key) {
            *slot = Some(tenant);
        }
    }

    fn remove(&self, key: usize) {
        self.unpark(key);
        let tenant = self.tenants.borrow_mut().try_remove(key);
        drop(tenant);
        self.stop_waiting(key);
        self.pass_on();
    }

    /// Notes that the tenant at `key` waits for no share.
    pub(crate) fn stop_waiting(&self, key: usize) {
        self.pipe_budget.forget(key);
        self.buffer_budget.forget(key);
    }

    /// Wakes who waits for a share that is left, or that can be taken from a flow which waits for
    /// its socket.
    pub(crate) fn pass_on(&self) {
        let can_rob = !self.parked.borrow().is_empty();
        for budget in [&self.pipe_budget, &self.buffer_budget] {
            match can_rob {
                true => budget.wake_one(),
                false => budget.pass_on(),
            }
        }
    }

    /// Removes those whose owners are dropped on other threads: they may have a socket or a file open,
    /// and windows that others wait for. A task of the ring's thread; it never ends.
    pub(crate) async fn bury_orphans(self: Rc<Self>) {
        loop {
            self.orphans.one_more.notified().await;
            let orphans = std::mem::take(&mut *lock(&self.orphans.keys));
            for key in orphans {
                self.remove(key);
            }
        }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("options", &self.options)
            .field("in_flight", &self.in_flight)
            .field("pipes", &self.pipe_budget)
            .field("buffers", &self.buffer_budget)
            .finish_non_exhaustive()
    }
}

/// While the thread is inside `block_on`.
pub(crate) struct Entered(Rc<Ring>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.entered.set(false);
    }
}

/// A transport's or reception's place in the table of the thread it was made on.
pub(crate) struct Place {
    key: usize,
    ring: u64,
    orphans: Arc<Orphans>,
}

impl Place {
    pub(crate) fn key(&self) -> usize {
        self.key
    }

    /// Runs `f` on the transport's flow; `None` where the thread's ring is not the one that the
    /// place is of, or cannot be used now.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&Rc<Ring>, &mut Flow) -> R) -> Option<R> {
        self.with_tenant(|ring, tenant| match tenant {
            Tenant::Flow(flow) => Some(f(ring, flow)),
            Tenant::Intake(_) => None,
        })
    }

    /// The same for a reception's intake.
    pub(crate) fn with_intake<R>(&self, f: impl FnOnce(&Rc<Ring>, &mut Intake) -> R) -> Option<R> {
        self.with_tenant(|ring, tenant| match tenant {
            Tenant::Intake(intake) => Some(f(ring, intake)),
            Tenant::Flow(_) => None,
        })
    }

    fn with_tenant<R>(&self, f: impl FnOnce(&Rc<Ring>, &mut Tenant) -> Option<R>) -> Option<R> {
        let ring = Ring::current().filter(|ring| ring.id == self.ring)?;
        let mut tenant = ring.take(self.key)?;
        let result = f(&ring, &mut tenant);
        ring.put(self.key, tenant);
        result
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        match Ring::installed().filter(|ring| ring.id == self.ring) {
            Some(ring) => ring.remove(self.key),
            // Its ring will find it, if it still exists.
            None => self.orphans.push(self.key),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place")
            .field("key", &self.key)
            .field("ring", &self.ring)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
