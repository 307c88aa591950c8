//! `lendfile serve`: one runtime per thread, each with a listening socket of its own.

use std::future::IntoFuture;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::process;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use lendfile::{Method, ServeDir};
use lendfile_bench::ticker::{Ticker, announce_stalls};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::args::Serve;
use crate::backend::Chosen;
use crate::failure::Failure;

/// Connections that wait to be accepted, per thread; the kernel cuts it to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// What a shell adds to a signal's number to make the exit code of whom it ended.
const SIGNALLED: i32 = 128;

/// Serves until a signal comes.
pub(crate) fn run(args: &Serve) -> Result<(), Failure> {
    let service =
        ServeDir::new(&args.dir).map_err(|error| Failure::directory("serve", &args.dir, &error))?;
    let threads = args
        .threads
        .or_else(|| thread::available_parallelism().ok())
        .map_or(1, NonZeroUsize::get);
    let listeners =
        listen(args.listen, threads).map_err(|error| Failure::listen(args.listen, &error))?;
    let addr = listeners[0]
        .local_addr()
        .map_err(|error| Failure::listen(args.listen, &error))?;
    let backend = args
        .backend
        .choose(args.method, args.ring_options())
        .map_err(|error| Failure::ring(&error))?;
    let runtime = runtime().map_err(|error| Failure::start(&error))?;
    let mut signals = {
        let _inside = runtime.enter();
        Signals::new().map_err(|error| Failure::start(&error))?
    };
    let ticker = args.ticker.then(Ticker::default);
    let (stop, stopped) = watch::channel(());
    let workers = listeners.into_iter().map(|listener| Worker {
        listener,
        method: args.method,
        backend,
        service: service.clone(),
        stopped: stopped.clone(),
        ticker: ticker.clone(),
    });
    // Everything that can fail comes before the line that says it serves.
    let workers = workers
        .map(Worker::start)
        .collect::<io::Result<Vec<_>>>()
        .map_err(|error| Failure::start(&error))?;
    drop(stopped);
    announce(addr);
    if let Some(ticker) = ticker {
        announce_stalls(ticker).map_err(|error| Failure::start(&error))?;
    }
    runtime.block_on(signals.next());
    thread::spawn(move || {
        let signal = runtime.block_on(signals.next());
        process::exit(SIGNALLED + signal.as_raw_value());
    });
    // The workers hold the other end until they have finished.
    drop(stop);
    for worker in workers {
        worker
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("a worker thread panicked")))
            .map_err(|error| Failure::new(format_args!("serving failed: {error}")))?;
    }
    Ok(())
}

/// One listening socket per thread; the kernel spreads the connections among them.
fn listen(addr: SocketAddr, threads: usize) -> io::Result<Vec<TcpListener>> {
    if threads == 1 {
        return Ok(vec![bind(addr, Sharing::Exclusive)?]);
    }
    // SO_REUSEPORT would let a second server of the same user share the port unnoticed, so a
    // given one is tried without it first. A free one the kernel never takes from others.
    if addr.port() != 0 {
        bind(addr, Sharing::Exclusive)?;
    }
    let first = bind(addr, Sharing::Shared)?;
    let addr = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..threads {
        listeners.push(bind(addr, Sharing::Shared)?);
    }
    Ok(listeners)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Exclusive,
    Shared,
}

fn bind(addr: SocketAddr, sharing: Sharing) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // After a restart, connections of the old server in TIME_WAIT do not keep the port.
    socket.set_reuse_address(true)?;
    if sharing == Sharing::Shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A thread's server.
struct Worker {
    listener: TcpListener,
    method: Method,
    backend: Chosen,
    service: ServeDir,
    stopped: watch::Receiver<()>,
    ticker: Option<Ticker>,
}

impl Worker {
    /// Starts the thread, and returns when it serves.
    fn start(self) -> io::Result<JoinHandle<io::Result<()>>> {
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
        let Self {
            listener,
            method,
            backend,
            service,
            mut stopped,
            ticker,
        } = self;
        backend.runtime()?.block_on(async |uring| {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let serve = lendfile::serve(listener, service).with_graceful_shutdown(async move {
                // Resolves when the sender is gone.
                _ = stopped.changed().await;
            });
            let serving = match uring {
                None => serve.with_method(method)?.into_future(),
                Some(uring) => serve
                    .with_backend(uring)?
                    .with_method(method)?
                    .into_future(),
            };
            if let Some(ticker) = ticker {
                tokio::spawn(async move { ticker.run().await });
            }
            _ = ready.send(());
            serving.await
        })
    }
}

fn runtime() -> io::Result<Runtime> {
    runtime::Builder::new_current_thread().enable_all().build()
}

/// The first line on standard output; programs wait for it.
fn announce(addr: SocketAddr) {
    let mut stdout = io::stdout().lock();
    // A reader that has gone away is no reason to stop serving.
    _ = writeln!(stdout, "listening on http://{addr}");
    _ = stdout.flush();
}

/// The signals that end the process: the first one when what runs has finished, the second one at
/// once.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Catches them from now on.
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
        }
    }
}
