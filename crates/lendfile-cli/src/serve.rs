//! `lendfile serve`: one runtime per thread, each with listening sockets of its own.

mod cors;
mod observe;
mod service;
mod signals;
mod trim;
mod worker;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::process;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use lendfile::Connections;
use lendfile_bench::ticker::announce_stalls;
use sd_notify::NotifyState;

use self::cors::WithCors;
use self::observe::{Observed, Opened};
use self::signals::Signals;
use self::worker::{Common, Worker};
use crate::args::Serve;
use crate::backend::Backend;
use crate::confine::{self, Descriptors};
use crate::failure::Failure;
use crate::listen::{self, Place};
use crate::metrics::MetricsServer;

/// What a shell adds to a signal's number to make the exit code of whom it ended.
const SIGNALLED: i32 = 128;

/// Serves until a signal comes. `listens` says whether `--listen` was given, by whatever way.
pub(crate) fn run(args: &Serve, listens: bool) -> Result<(), Failure> {
    if let Some(backend) = args.backend {
        backend.can(args.method)?;
    }
    let descriptors = Descriptors::raise();
    confine::readable(&args.dir).map_err(|error| Failure::directory("serve", &args.dir, &error))?;
    let service = WithCors {
        site: service::site(args, descriptors.files())?,
        cors: service::cors(args)?,
    };
    let threads = args
        .threads
        .or_else(|| thread::available_parallelism().ok())
        .map_or(1, NonZeroUsize::get);
    let places = places(args, listens, threads)?;
    let opened = Opened::open(args)?;
    // Everything that needs privileges is open; no other thread has been started yet.
    if let Some(user) = &args.process.user {
        confine::become_user(user)?;
    }
    let backend = args
        .backend
        .unwrap_or_else(|| Backend::default_for(args.method))
        .choose(args.method, args.ring_options())
        .map_err(|error| Failure::ring(&error))?;
    let mut reach = opened.reach(args);
    reach
        .remove
        .extend(places.iter().filter_map(Place::directory));
    confine::sandbox(args.process.sandbox, &args.dir, &reach)?;
    let most = args.limits.max_connections.or(descriptors.connections());
    let connections = Connections::limited(most, args.limits.per_address());
    let format = args.observation.access_log_format;
    let (observed, metrics) = opened
        .start(format, &connections, &service.site)
        .map_err(|error| Failure::start(&error))?;
    let common = Common::new(args, service, backend, connections, observed);
    serve(args, common, places, threads, metrics)
}

/// Where to listen: what systemd gives and what was asked for. The default only if neither is.
fn places(args: &Serve, listens: bool, threads: usize) -> Result<Vec<Place>, Failure> {
    let mut places = listen::inherited(threads)?;
    if listens || places.is_empty() {
        for listen in &args.listen {
            let opened = listen::private_umask(|| listen::open(listen, args.unix_mode, threads))?;
            places.extend(opened);
        }
    }
    Ok(places)
}

fn serve(
    args: &Serve,
    common: Common,
    mut places: Vec<Place>,
    threads: usize,
    metrics: Option<MetricsServer>,
) -> Result<(), Failure> {
    let start = |error: io::Error| Failure::start(&error);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(start)?;
    let mut signals = {
        let _inside = runtime.enter();
        Signals::new().map_err(start)?
    };
    // Everything that can fail comes before the line that says it serves.
    let mut workers = Vec::new();
    for _ in 0..threads {
        let worker = worker(&mut places, &common).map_err(start)?;
        workers.push(worker.start().map_err(start)?);
    }
    let metrics = metrics.map(|server| {
        let addr = server.local_addr();
        let stopping = server.stopping();
        // Until the process ends, so that it is seen to be stopping.
        runtime.spawn(server.serve(std::future::pending()));
        (addr, stopping)
    });
    announce(
        &places,
        &common.observed,
        metrics.as_ref().map(|(addr, _)| *addr),
    );
    if let Some(ticker) = common.ticker.clone() {
        announce_stalls(ticker).map_err(start)?;
    }
    runtime.spawn(trim::give_back(
        common.connections.clone(),
        common.ebb.clone(),
    ));
    if args.responses.spa.is_some() || args.responses.not_found.is_some() {
        // On a thread, since opening the directory may wait, too.
        let (handle, args) = (runtime.handle().clone(), args.clone());
        thread::spawn(move || handle.block_on(service::look_for_fallback(args)));
    }
    let observed = common.observed.clone();
    runtime.block_on(signals.stop(|| reload(&observed)));
    if let Some((_, stopping)) = metrics {
        stopping.store(true, Relaxed);
    }
    notify(&[NotifyState::Stopping]);
    thread::spawn(move || {
        let signal = runtime.block_on(signals.stop(|| {}));
        process::exit(SIGNALLED + signal.as_raw_value());
    });
    // Takes the paths of Unix sockets away.
    drop(places);
    common.stopping.cancel();
    for worker in workers {
        worker
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("a worker thread panicked")))
            .map_err(|error| Failure::new(format_args!("serving failed: {error}")))?;
    }
    Ok(())
}

/// A worker with a socket of each place.
fn worker(places: &mut [Place], common: &Common) -> io::Result<Worker> {
    let mut worker = Worker {
        tcp: Vec::new(),
        unix: Vec::new(),
        common: common.clone(),
    };
    for place in places {
        match place {
            Place::Tcp(_, listeners) => worker.tcp.extend(listeners.pop()),
            Place::Unix(unix) => worker.unix.push(unix.try_clone()?),
        }
    }
    Ok(worker)
}

/// On SIGHUP: what may have changed is read again.
fn reload(observed: &Observed) {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, now]);
    }
    observed.reload();
    tracing::info!("reloaded");
    notify(&[NotifyState::Ready]);
}

/// The first lines on standard output; programs wait for them.
fn announce(places: &[Place], observed: &Observed, metrics: Option<SocketAddr>) {
    let mut stdout = io::stdout().lock();
    // A reader that has gone away is no reason to stop serving.
    for place in places {
        let place = place.to_string();
        _ = match place.strip_prefix("http://") {
            Some(addr) if observed.tls.is_some() => writeln!(stdout, "listening on https://{addr}"),
            _ => writeln!(stdout, "listening on {place}"),
        };
    }
    if let Some(addr) = metrics {
        _ = writeln!(stdout, "metrics on http://{addr}/metrics");
    }
    _ = stdout.flush();
    notify(&[NotifyState::Ready]);
}

/// Tells systemd, if it waits to be told.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd cannot be told of {state:?}");
    }
}
