//! tokio's runtime with a ring: what tokio-uring makes, within bounds, and ended in order.

use std::fmt;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use lendfile_core::{Capabilities, Error, Method};

use crate::probe::{SETUP, failed};
use crate::ring::Ring;
use crate::sys::{self, QUEUE_ENTRIES, Setup};
use crate::{Options, refusal};

/// Completions that fit before the kernel has to keep them elsewhere: several for each operation
/// that the default limits allow.
const COMPLETIONS: u32 = 1024;

/// Time for operations in flight to end when the runtime does. All have been cancelled then; what
/// takes longer waits for a device that does not answer.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Time between two looks at the number of operations in flight.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A current-thread tokio runtime with a ring. One per thread; it stays on it.
///
/// Everything of tokio works inside: sockets, timers, `tokio::spawn`, hyper. Make a
/// [`Uring`](crate::Uring) inside of it for a server's connections.
///
/// # Examples
///
/// ```no_run
/// # fn main() -> Result<(), lendfile_core::Error> {
/// let runtime = lendfile_uring::Runtime::new()?;
/// runtime.block_on(async {
///     // tokio::net::TcpListener, lendfile::serve(...).with_backend(Uring::new()?)
/// });
/// # Ok(())
/// # }
/// ```
pub struct Runtime {
    inner: Inner,
    ring: Rc<Ring>,
}

/// tokio-uring's runtime, which is dropped only when the kernel has nothing of it any more: else it,
/// and all that its operations name, is kept until the process ends. Also when a panic drops it.
struct Inner {
    /// `None` only in `drop`.
    runtime: Option<tokio_uring::Runtime>,
    ring: Rc<Ring>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let runtime = self.runtime.take();
        let operations = self.ring.in_flight();
        if operations > 0 || self.ring.is_broken() {
            tracing::error!(operations, "ring operations do not end; their ring is kept");
            Box::leak(Box::new(runtime));
        } else {
            drop(runtime);
        }
        self.ring.uninstall();
    }
}

impl Runtime {
    /// A runtime with the default limits.
    ///
    /// # Errors
    ///
    /// As [`Runtime::with_options`].
    ///
    /// # Panics
    ///
    /// Inside of another runtime.
    pub fn new() -> Result<Self, Error> {
        Self::with_options(Options::default())
    }

    /// A runtime on this thread.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](lendfile_core::ErrorKind::Unavailable) if this machine denies io_uring or lacks a part of it, with the
    /// cure; [`Exhausted`](lendfile_core::ErrorKind::Exhausted) without descriptors or memory;
    /// [`Misuse`](lendfile_core::ErrorKind::Misuse) if the thread has such a runtime already.
    ///
    /// # Panics
    ///
    /// Inside of another runtime.
    pub fn with_options(options: Options) -> Result<Self, Error> {
        let options = options.sane();
        // tokio-uring's own `Runtime::new` would leak a runtime when the ring is denied.
        let setup = sys::set_up(options.workers, options.buffer_bytes).map_err(refusal::error)?;
        let ring = Ring::install(options, capabilities(&setup))?;
        let mut builder = tokio_uring::builder();
        builder.entries(QUEUE_ENTRIES);
        builder.uring_builder(tokio_uring::uring_builder().setup_cqsize(COMPLETIONS));
        match tokio_uring::Runtime::new(&builder) {
            Ok(runtime) => {
                let inner = Inner {
                    runtime: Some(runtime),
                    ring: ring.clone(),
                };
                let this = Self { inner, ring };
                let burying = this.ring.clone().bury_orphans();
                this.inner()
                    .block_on(async { drop(tokio_uring::spawn(burying)) });
                Ok(this)
            }
            Err(error) => {
                ring.uninstall();
                Err(refusal::error(failed(SETUP, &error)))
            }
        }
    }

    /// Runs a future to its end, and all that is spawned meanwhile. What was spawned stops in
    /// between and goes on with the next call.
    ///
    /// # Panics
    ///
    /// If the future does, or inside of another runtime.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let _entered = self.ring.enter();
        self.inner().block_on(future)
    }

    fn inner(&self) -> &tokio_uring::Runtime {
        let runtime = self.inner.runtime.as_ref();
        runtime.expect("taken only in drop")
    }

    /// What its transports can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.ring.capabilities
    }

    /// Ring operations that have not completed.
    pub fn in_flight(&self) -> usize {
        self.ring.in_flight()
    }
}

/// The methods that go by the ring here, and those that do not need it.
fn capabilities(setup: &Setup) -> Capabilities {
    let epoll = lendfile_epoll::EpollTransport::<tokio::net::TcpStream>::backend_capabilities();
    let mut methods = epoll
        .methods
        .with(Method::RingHybrid)
        .with(Method::RingSplice);
    if setup.buffers.works() {
        methods = methods.with(Method::RingFixed);
    }
    Capabilities::new(methods)
}

impl Drop for Runtime {
    /// Ends the runtime's tasks. Operations in flight are cancelled, and their ends waited for, for
    /// up to five seconds. Should one not end, the ring and all that its operations name is kept
    /// until the process ends: the kernel may still use it.
    fn drop(&mut self) {
        self.ring.close();
        if self.ring.in_flight() > 0 && !self.ring.is_broken() {
            self.inner().block_on(async {
                sys::cancel_all();
                let drained = async {
                    while self.ring.in_flight() > 0 {
                        tokio::time::sleep(LOOK_AGAIN).await;
                    }
                };
                _ = tokio::time::timeout(DRAIN_TIME, drained).await;
            });
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("ring", &self.ring)
            .finish_non_exhaustive()
    }
}
