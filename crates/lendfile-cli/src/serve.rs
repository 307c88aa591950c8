//! `lendfile serve`: one runtime per thread, each with a listening socket of its own.

use std::future::IntoFuture;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::process;
use std::thread::{self, JoinHandle};

use lendfile::ServeDir;
use lendfile_bench::ticker::{Ticker, announce_stalls};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::args::Serve;
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
    let (stop, stopped) = watch::channel(());
    // Everything that can fail comes before the line that says it serves.
    let workers = listeners
        .into_iter()
        .map(|listener| Worker::new(args, listener, service.clone(), stopped.clone()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(|error| Failure::start(&error))?;
    drop(stopped);
    let runtime = runtime().map_err(|error| Failure::start(&error))?;
    let mut signals = {
        let _inside = runtime.enter();
        Signals::new().map_err(|error| Failure::start(&error))?
    };
    let ticker = args.ticker.then(Ticker::default);
    let workers = workers
        .into_iter()
        .map(|worker| worker.start(ticker.clone()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(|error| Failure::start(&error))?;
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

/// A thread's server, ready to run.
struct Worker {
    runtime: Runtime,
    serve: lendfile::Serve<tokio::net::TcpListener, ServeDir>,
}

impl Worker {
    fn new(
        args: &Serve,
        listener: TcpListener,
        service: ServeDir,
        mut stopped: watch::Receiver<()>,
    ) -> io::Result<Self> {
        let runtime = runtime()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let serve = lendfile::serve(listener, service)
            .with_method(args.method)?
            .with_graceful_shutdown(async move {
                // Resolves when the sender is gone.
                _ = stopped.changed().await;
            });
        Ok(Self { runtime, serve })
    }

    fn start(self, ticker: Option<Ticker>) -> io::Result<JoinHandle<io::Result<()>>> {
        thread::Builder::new().spawn(move || {
            self.runtime.block_on(async {
                if let Some(ticker) = ticker {
                    tokio::spawn(async move { ticker.run().await });
                }
                self.serve.into_future().await
            })
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
