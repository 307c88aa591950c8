//! An access log: a line for each exchange, when it has ended.
//!
//! - `record`: what is kept of an exchange.
//! - `line`: what a line looks like, and how nobody can forge one.
//! - `writer`: how lines reach the file without anybody waiting for the disk.

mod line;
mod record;
mod writer;

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::{fmt, str};

use self::line::Formatter;
use self::record::{Begun, Ended};
use self::writer::{Target, Writer, open};
use crate::observe::{Exchange, Head, Observer};

/// What the lines of an [`AccessLog`] look like. Times are UTC, and of the end of the exchange or up to
/// a tick of the kernel's clock before it (1 to 10 ms); bytes are those of the body that were really
/// sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogFormat {
    /// NCSA's common log format:
    /// `192.0.2.1 - - [26/Nov/2026:05:48:04 +0000] "GET /a HTTP/1.1" 200 1024`.
    Common,
    /// The same, and the request's `Referer` and `User-Agent` in quotes.
    #[default]
    Combined,
    /// An object per line: `time` (RFC 3339), `peer`, `method`, `target`, `version`, `host`,
    /// `status`, `bytes`, `outcome` (`complete`, `aborted`), `via` (the
    /// [method](lendfile_core::Method) that carried most of the body; `copy (tls)` through TLS),
    /// `duration_us`, `referer`, `user_agent`. What is not known is `null`.
    Json,
}

impl LogFormat {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Common, Self::Combined, Self::Json];

    /// The name used on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Common => "common",
            Self::Combined => "combined",
            Self::Json => "json",
        }
    }
}

impl str::FromStr for LogFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .iter()
            .copied()
            .find(|format| format.name() == name)
            .ok_or_else(|| format!("no log format is named {name:?}"))
    }
}

/// Writes a line for each exchange to a file, or wherever you say.
///
/// What they are made of is gathered in memory, and a thread of the log's own makes and writes them,
/// so that nobody waits for the disk: each within a quarter of a second. If it cannot keep up (4 MiB
/// gathered by a thread that serves), further lines are [dropped and counted](AccessLog::dropped).
///
/// Whatever a client sends, it cannot make two lines of one, end a quoted field, or reach a
/// terminal with control characters: those, quotes, backslashes and everything outside of ASCII
/// are escaped (`\x22`; in JSON `\u0022`).
///
/// Give clones of it to the servers whose exchanges belong in it; when the last one is dropped, all
/// lines are written before the drop returns.
///
/// # Examples
///
/// ```no_run
/// # async fn run() -> std::io::Result<()> {
/// use lendfile::{AccessLog, LogFormat, ServeDir};
///
/// let log = AccessLog::to_file("/var/log/lendfile.log", LogFormat::Combined)?;
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
/// lendfile::serve(listener, ServeDir::new("public")?).with_observer(log.clone()).await
/// # }
/// ```
#[derive(Clone)]
pub struct AccessLog {
    format: LogFormat,
    writer: Arc<Writer>,
}

impl AccessLog {
    /// Appends to a file, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// Those of opening it and of starting a thread.
    pub fn to_file(path: impl Into<PathBuf>, format: LogFormat) -> io::Result<Self> {
        let path = path.into();
        Self::to_open_file(open(&path)?, path, format)
    }

    /// Appends to a file that is open already, and is opened by `path` again: for a process that
    /// gives its privileges away before it starts a thread.
    ///
    /// # Errors
    ///
    /// Those of starting a thread.
    pub fn to_open_file(
        file: File,
        path: impl Into<PathBuf>,
        format: LogFormat,
    ) -> io::Result<Self> {
        Self::new(Target::file(file, path.into()), format)
    }

    /// Writes to `writer`, whole lines at a time, from a thread of its own.
    ///
    /// # Errors
    ///
    /// Those of starting a thread.
    pub fn to_writer(writer: impl Write + Send + 'static, format: LogFormat) -> io::Result<Self> {
        Self::new(Target::writer(writer), format)
    }

    fn new(target: Target, format: LogFormat) -> io::Result<Self> {
        Ok(Self {
            format,
            writer: Arc::new(Writer::start(target, Formatter::new(format))?),
        })
    }

    /// Opens the file by its name again, after it has been renamed. Lines are lost in neither. If
    /// it cannot be opened, the old one is kept. Does nothing for another writer. Returns at once.
    pub fn reopen(&self) {
        self.writer.reopen();
    }

    /// Waits until every line gathered so far has been written.
    pub fn flush(&self) {
        self.writer.flush();
    }

    /// Lines that were lost: the log's thread could not keep up, or its target failed. Of a write that
    /// failed, some may be there all the same.
    pub fn dropped(&self) -> u64 {
        self.writer.dropped()
    }
}

impl Observer for AccessLog {
    type Notes = Begun;

    fn wants_duration(&self) -> bool {
        self.format == LogFormat::Json
    }

    fn begin(&self, head: &Head<'_>) -> Begun {
        Begun::new(self.format, head)
    }

    fn end(&self, begun: &Begun, exchange: &Exchange) {
        self.writer.push(begun, Ended::now(self.format, exchange));
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog")
            .field("format", &self.format)
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
