//! One thread of the server: a runtime, and in it a server per place.

use std::future::IntoFuture;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use futures_util::future::{BoxFuture, try_join_all};
use lendfile::{Accept, Connections, Limits, Method};
use lendfile_bench::ticker::Ticker;
use lendfile_uring::Uring;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::cors::WithCors;
use super::observe::Observed;
use super::trim;
use crate::args::Serve;
use crate::backend::Chosen;

type Server = BoxFuture<'static, io::Result<()>>;

/// What all servers of the process have in common.
#[derive(Clone)]
pub(super) struct Common {
    service: WithCors,
    pub(super) backend: Chosen,
    pub(super) method: Method,
    pub(super) limits: Limits,
    pub(super) connections: Connections,
    pub(super) observed: Observed,
    pub(super) grace: std::time::Duration,
    pub(super) stopping: CancellationToken,
    pub(super) ticker: Option<Ticker>,
    /// Told when many connections have gone.
    pub(super) ebb: Arc<Notify>,
}

impl Common {
    pub(super) fn new(
        args: &Serve,
        service: WithCors,
        backend: Chosen,
        connections: Connections,
        observed: Observed,
    ) -> Self {
        Self {
            service,
            backend,
            method: args.method,
            limits: args.limits.limits(),
            connections,
            observed,
            grace: args.limits.grace,
            stopping: CancellationToken::new(),
            ticker: args.ticker.then(Ticker::default),
            ebb: Arc::default(),
        }
    }

    fn serve<L: Accept>(&self, listener: L, uring: Option<&Uring>) -> io::Result<Server> {
        let mut serve = lendfile::serve(listener, self.service.clone())
            .with_limits(self.limits.clone())
            .with_connections(self.connections.clone())
            .with_grace_period(self.grace)
            .with_graceful_shutdown(self.stopping.clone().cancelled_owned());
        if let Some(observers) = self.observed.observers() {
            serve = serve.with_observer(observers);
        }
        if let Some(tls) = &self.observed.tls {
            serve = serve.with_tls(tls.clone());
        }
        Ok(match uring {
            None => serve.with_method(self.method)?.into_future(),
            Some(uring) => serve
                .with_backend(uring.clone())?
                .with_method(self.method)?
                .into_future(),
        })
    }
}

/// A thread's share of the sockets.
pub(super) struct Worker {
    pub(super) tcp: Vec<TcpListener>,
    pub(super) unix: Vec<UnixListener>,
    pub(super) common: Common,
}

impl Worker {
    /// Starts the thread, and returns when it serves.
    pub(super) fn start(self) -> io::Result<JoinHandle<io::Result<()>>> {
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::Builder::new().spawn(move || self.run(&ready))?;
        match is_ready.recv() {
            Ok(()) => Ok(thread),
            // It has ended without saying so.
            Err(_) => thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a worker thread panicked")))
                .and(Err(io::Error::other("a worker thread ended at once"))),
        }
    }

    /// Made on the thread itself, since a ring's runtime does not leave it.
    fn run(self, ready: &mpsc::Sender<()>) -> io::Result<()> {
        let common = self.common;
        common.backend.runtime()?.block_on(async |uring| {
            let uring = uring.as_ref();
            let mut servers = Vec::new();
            for listener in self.tcp {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                servers.push(common.serve(listener, uring)?);
            }
            for listener in self.unix {
                let listener = tokio::net::UnixListener::from_std(listener)?;
                servers.push(common.serve(listener, uring)?);
            }
            if let Some(ticker) = common.ticker {
                tokio::spawn(async move { ticker.run().await });
            }
            tokio::spawn(trim::renew_caches(common.ebb));
            _ = ready.send(());
            try_join_all(servers).await.map(drop)
        })
    }
}
