//! The one error type of the core and its backends, sorted by who can act on it.

use std::borrow::Cow;
use std::{error, fmt, io};

/// Why a transfer failed.
///
/// A peer that goes away is an ordinary [`io::Error`] of the socket and not one of these.
///
/// Converts into [`io::Error`] (keeping itself as the payload), which is what streams return; get
/// it back with `io_error.get_ref().and_then(|e| e.downcast_ref::<lendfile_core::Error>())`.
pub struct Error {
    kind: ErrorKind,
    message: Cow<'static, str>,
    source: Option<io::Error>,
}

/// Who can act on an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Descriptors, memory or another of the process's limits have run out.
    Exhausted,
    /// The file ended early or lost pages while it was being sent. The connection must be closed:
    /// the peer was promised more bytes than there are.
    FileChanged,
    /// Reading the file failed (an I/O error of its filesystem).
    FileUnreadable,
    /// The caller asked for something that can never work, such as a region beyond the file.
    Misuse,
    /// The method asked for is not to be had here.
    Unavailable,
}

impl Error {
    /// An error of the given kind; the message is lower-case and carries the numbers.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// Adds the system's error as the source.
    #[must_use]
    pub fn with_source(mut self, source: io::Error) -> Self {
        self.source = Some(source);
        self
    }

    /// Who can act on it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the file changed under the transfer.
    pub fn is_file_changed(&self) -> bool {
        self.kind == ErrorKind::FileChanged
    }

    /// Whether the method asked for is not to be had here.
    pub fn is_unsupported(&self) -> bool {
        self.kind == ErrorKind::Unavailable
    }
}

/// Logs an error that is the file's fault, at level WARN: whoever looks after the files wants to
/// know. Peers that go away are everyday and are not logged here.
pub fn log_file_failure(error: &io::Error) {
    let ours = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
    if ours.is_some_and(|e| matches!(e.kind, ErrorKind::FileChanged | ErrorKind::FileUnreadable)) {
        tracing::warn!(%error, "a file could not be sent whole; its connection is closed");
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.kind)
            .field("message", &self.message)
            .field("source", &self.source)
            .finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source.as_ref().map(|e| e as _)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind {
            ErrorKind::FileChanged => io::ErrorKind::UnexpectedEof,
            ErrorKind::Exhausted | ErrorKind::FileUnreadable => io::ErrorKind::Other,
            ErrorKind::Misuse => io::ErrorKind::InvalidInput,
            ErrorKind::Unavailable => io::ErrorKind::Unsupported,
        };
        io::Error::new(kind, error)
    }
}
