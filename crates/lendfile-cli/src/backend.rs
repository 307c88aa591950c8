//! What threads run on: tokio's readiness, or a ring.

use std::future::Future;
use std::io;
use std::thread;

use clap::ValueEnum;
use lendfile::{Capabilities, Error, ErrorKind, Method};
use lendfile_uring::{Options, Uring};

use crate::failure::Failure;

/// The backend, as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// The ring where there is one, which waits for cold files; else epoll
    Auto,
    /// tokio's readiness
    Epoll,
    /// A ring (io_uring), or an error if there is none
    Uring,
}

/// The backend, as it is to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chosen {
    Epoll,
    Uring(Options),
}

impl Backend {
    /// What is served by when nothing is said: epoll, which needs nothing that a machine may lack
    /// and whose failures are errors (tokio-uring panics when a ring runs out of memory).
    pub(crate) fn default_for(method: Method) -> Self {
        match needs_ring(method) {
            true => Self::Uring,
            false => Self::Epoll,
        }
    }

    /// Whether it has the method on any machine.
    ///
    /// # Errors
    ///
    /// Wrong usage.
    pub(crate) fn can(self, method: Method) -> Result<(), Failure> {
        if self != Self::Epoll || !needs_ring(method) {
            return Ok(());
        }
        let others = Method::ALL
            .iter()
            .copied()
            .filter(|method| !needs_ring(*method));
        let others: Vec<_> = others.map(Method::name).collect();
        Err(Failure::usage(format_args!(
            "--method {method} needs --backend uring; --backend epoll has {}",
            others.join(", ")
        )))
    }

    /// Finds out, by making a ring, which backend there is; `auto` says so if it is epoll. Methods
    /// of a ring need one, and a method that only epoll has does not.
    ///
    /// # Errors
    ///
    /// That of the ring if it was asked for, or if it failed without being denied.
    pub(crate) fn choose(self, method: Method, options: Options) -> Result<Chosen, Error> {
        if self == Self::Epoll {
            return Ok(Chosen::Epoll);
        }
        match try_ring(options) {
            Ok(found) if method != Method::Auto && !found.methods.contains(method) => {
                Err(Error::new(
                    ErrorKind::Unavailable,
                    // The only one that a ring may lack: its buffers are locked.
                    format!(
                        "no buffers are to be had for --method {method}; allow more locked memory by `ulimit -l` or systemd's LimitMEMLOCK=, or choose another by --method"
                    ),
                ))
            }
            Ok(_) => Ok(Chosen::Uring(options)),
            Err(error) if error.is_unsupported() && self == Self::Auto && !needs_ring(method) => {
                tracing::warn!(%error, "serving with epoll");
                Ok(Chosen::Epoll)
            }
            Err(error) => Err(error),
        }
    }
}

fn needs_ring(method: Method) -> bool {
    matches!(
        method,
        Method::RingFixed | Method::RingHybrid | Method::RingSplice
    )
}

/// What rings can do here, found out by making one: on a thread that ends, since a runtime belongs
/// to its thread.
///
/// # Errors
///
/// Why there is none.
pub(crate) fn try_ring(options: Options) -> Result<Capabilities, Error> {
    thread::scope(|scope| {
        let tried = scope.spawn(move || {
            let runtime = lendfile_uring::Runtime::with_options(options)?;
            Ok(*runtime.capabilities())
        });
        tried
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl Chosen {
    /// A runtime for this thread.
    ///
    /// # Errors
    ///
    /// Without descriptors or memory.
    pub(crate) fn runtime(self) -> io::Result<Runtime> {
        Ok(match self {
            Self::Epoll => Runtime::Epoll(
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?,
            ),
            Self::Uring(options) => {
                Runtime::Uring(Box::new(lendfile_uring::Runtime::with_options(options)?))
            }
        })
    }
}

/// What one thread runs on.
pub(crate) enum Runtime {
    Epoll(tokio::runtime::Runtime),
    Uring(Box<lendfile_uring::Runtime>),
}

impl Runtime {
    /// Runs a future, which is given the ring's backend if there is a ring.
    pub(crate) fn block_on<F: Future>(&self, future: impl FnOnce(Option<Uring>) -> F) -> F::Output {
        match self {
            Self::Epoll(runtime) => runtime.block_on(async { future(None).await }),
            Self::Uring(runtime) => runtime.block_on(async { future(Uring::new().ok()).await }),
        }
    }
}
