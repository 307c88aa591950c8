//! `lendfile serve`: one runtime per thread, each with a listening socket of its own.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::process;
use std::thread;

use lendfile::ServeDir;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::args::Serve;
use crate::failure::Failure;

/// Connections that wait to be accepted, per thread; the kernel cuts it to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// Exit code of a process that a second SIGINT stopped, as a shell would see it.
const INTERRUPTED: i32 = 130;

/// Serves until a signal comes.
pub(crate) fn run(args: &Serve) -> Result<(), Failure> {
    let service =
        ServeDir::new(&args.dir).map_err(|error| Failure::directory(&args.dir, &error))?;
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
    let workers: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            let (args, service, stopped) = (args.clone(), service.clone(), stopped.clone());
            thread::spawn(move || work(&args, listener, service, stopped))
        })
        .collect();
    drop(stopped);
    announce(addr);
    runtime()
        .and_then(|runtime| runtime.block_on(wait_for_signal()))
        .map_err(|error| Failure::new(format_args!("cannot wait for signals: {error}")))?;
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
    // SO_REUSEPORT would let a second server of the same user share the port unnoticed, so the
    // address is tried without it first.
    let first = bind(addr, Sharing::Exclusive)?;
    if threads == 1 {
        return Ok(vec![first]);
    }
    let addr = first.local_addr()?;
    drop(first);
    (0..threads).map(|_| bind(addr, Sharing::Shared)).collect()
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

fn work(
    args: &Serve,
    listener: TcpListener,
    service: ServeDir,
    mut stopped: watch::Receiver<()>,
) -> io::Result<()> {
    runtime()?.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        lendfile::serve(listener, service)
            .with_method(args.method)?
            .with_graceful_shutdown(async move {
                // Resolves when the sender is gone.
                _ = stopped.changed().await;
            })
            .await
    })
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// The first line on standard output; programs wait for it.
fn announce(addr: SocketAddr) {
    let mut stdout = io::stdout().lock();
    // A reader that has gone away is no reason to stop serving.
    _ = writeln!(stdout, "listening on http://{addr}");
    _ = stdout.flush();
}

/// Waits for the first SIGINT or SIGTERM; the second ends the process at once.
async fn wait_for_signal() -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    thread::spawn(move || {
        let waiting = runtime().map(|runtime| {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            });
        });
        if waiting.is_ok() {
            process::exit(INTERRUPTED);
        }
    });
    Ok(())
}
