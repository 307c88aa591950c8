//! What is opened beside the sockets: the access log, the metrics' listener, the certificate; and
//! what of it is opened again on SIGHUP.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use lendfile::{AccessLog, Connections, LogFormat, ServeDir, Tls};

use crate::args::Serve;
use crate::confine::Reach;
use crate::failure::Failure;
use crate::metrics::{Metrics, MetricsServer};

/// The name that stands for standard output.
const STDOUT: &str = "-";

/// What needs the privileges that the process was started with. Opening it starts no thread.
pub(super) struct Opened {
    log: Option<Log>,
    metrics: Option<std::net::TcpListener>,
    tls: Option<Tls>,
}

enum Log {
    File(File, PathBuf),
    Stdout,
}

impl Opened {
    pub(super) fn open(args: &Serve) -> Result<Self, Failure> {
        let asked = &args.observation;
        let log = match &asked.access_log {
            None => None,
            Some(path) if path.as_os_str() == STDOUT => Some(Log::Stdout),
            Some(path) => {
                let file = OpenOptions::new().append(true).create(true).open(path);
                let file = file.map_err(|error| Failure::file("write", path, &error))?;
                Some(Log::File(file, path.clone()))
            }
        };
        let metrics = asked
            .metrics
            .map(|addr| {
                let failed = |error| Failure::metrics(addr, &error);
                std::net::TcpListener::bind(addr).map_err(failed)
            })
            .transpose()?;
        let tls = match (&args.tls.tls_cert, &args.tls.tls_key) {
            (Some(certificates), Some(key)) => {
                for path in [certificates, key] {
                    File::open(path).map_err(|error| Failure::file("read", path, &error))?;
                }
                Some(Tls::from_pem_files(certificates, key).map_err(|error| Failure::tls(&error))?)
            }
            (None, None) => None,
            (Some(_), None) => return Err(Failure::half("--tls-cert", "--tls-key")),
            (None, Some(_)) => return Err(Failure::half("--tls-key", "--tls-cert")),
        };
        Ok(Self { log, metrics, tls })
    }

    /// What must stay within reach to be opened again.
    pub(super) fn reach(&self, args: &Serve) -> Reach {
        let mut reach = Reach::default();
        if let Some(Log::File(_, path)) = &self.log {
            reach.write.extend(folders(path));
        }
        for path in [&args.tls.tls_cert, &args.tls.tls_key]
            .into_iter()
            .flatten()
        {
            reach.read.extend(folders(path));
        }
        reach
    }

    /// Starts the log's thread.
    pub(super) fn start(
        self,
        format: LogFormat,
        connections: &Connections,
        site: &ServeDir,
    ) -> io::Result<(Observed, Option<MetricsServer>)> {
        let log = match self.log {
            None => None,
            Some(Log::File(file, path)) => Some(AccessLog::to_open_file(file, path, format)?),
            Some(Log::Stdout) => Some(AccessLog::to_writer(io::stdout(), format)?),
        };
        let metrics = self
            .metrics
            .is_some()
            .then(|| Metrics::new(connections.clone(), site.clone(), log.clone()));
        let server = match (self.metrics, &metrics) {
            (Some(listener), Some(metrics)) => Some(MetricsServer::new(listener, metrics.clone())?),
            _ => None,
        };
        let tls = self.tls;
        Ok((Observed { log, metrics, tls }, server))
    }
}

/// The folders that a path can be opened in: its own, and that of what it leads to. (Certificates
/// are often links to the newest one, elsewhere.)
fn folders(path: &Path) -> Vec<PathBuf> {
    let own = path
        .parent()
        .map(|parent| match parent.as_os_str().is_empty() {
            true => PathBuf::from("."),
            false => parent.to_owned(),
        });
    let real = fs::canonicalize(path).ok();
    let real = real.and_then(|path| path.parent().map(Path::to_owned));
    own.into_iter().chain(real).collect()
}

/// What every server of the process tells, and speaks.
#[derive(Clone)]
pub(super) struct Observed {
    pub(super) log: Option<AccessLog>,
    pub(super) metrics: Option<Metrics>,
    pub(super) tls: Option<Tls>,
}

impl Observed {
    /// The observers, if there are any: without, requests are spared the books.
    pub(super) fn observers(&self) -> Option<(Option<AccessLog>, Option<Metrics>)> {
        let any = self.log.is_some() || self.metrics.is_some();
        any.then(|| (self.log.clone(), self.metrics.clone()))
    }

    /// On SIGHUP. What cannot be had again stays as it is.
    pub(super) fn reload(&self) {
        if let Some(log) = &self.log {
            log.reopen();
        }
        if let Some(tls) = &self.tls {
            match tls.reload() {
                Ok(()) => tracing::info!("the certificate was read again"),
                Err(error) => tracing::error!(%error, "the old certificate stays in use"),
            }
        }
    }
}
