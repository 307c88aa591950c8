//! A transfer that ended in an error, with all that is known of it.

use std::{error, fmt, io};

use crate::Transfer;

/// Why a transfer failed, what it had done by then, and the bytes that were left in its hands.
///
/// Converts into [`io::Error`] of the same kind, which keeps it as its payload.
pub struct Failure<R = Transfer> {
    report: Box<R>,
    error: io::Error,
    unwritten: Vec<u8>,
}

impl<R> Failure<R> {
    /// A failure without bytes left over.
    pub fn new(report: R, error: io::Error) -> Self {
        Self {
            report: Box::new(report),
            error,
            unwritten: Vec::new(),
        }
    }

    /// Adds the bytes that were taken from the socket and did not reach the file.
    #[must_use]
    pub fn with_unwritten(self, unwritten: Vec<u8>) -> Self {
        Self { unwritten, ..self }
    }

    /// What had been done by then; its counts are exact.
    pub fn report(&self) -> &R {
        &self.report
    }

    /// The cause.
    pub fn error(&self) -> &io::Error {
        &self.error
    }

    /// The cause's kind.
    pub fn kind(&self) -> io::ErrorKind {
        self.error.kind()
    }

    /// Bytes that were taken from the socket and could not be written to the file, such as on a
    /// full disk. They follow on what the report counts; what comes next is still in the socket.
    /// Empty unless writing failed.
    pub fn unwritten(&self) -> &[u8] {
        &self.unwritten
    }

    /// Report, cause and [unwritten](Failure::unwritten) bytes.
    pub fn into_parts(self) -> (R, io::Error, Vec<u8>) {
        (*self.report, self.error, self.unwritten)
    }
}

impl<R> fmt::Display for Failure<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "transfer failed: {}", self.error)?;
        match self.unwritten.len() {
            0 => Ok(()),
            n => write!(f, " ({n} bytes were received and not written)"),
        }
    }
}

impl<R: fmt::Debug> fmt::Debug for Failure<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("error", &self.error)
            .field("report", &self.report)
            .field("unwritten_bytes", &self.unwritten.len())
            .finish()
    }
}

impl<R: fmt::Debug> error::Error for Failure<R> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.error)
    }
}

impl<R: fmt::Debug + Send + Sync + 'static> From<Failure<R>> for io::Error {
    fn from(failure: Failure<R>) -> Self {
        Self::new(failure.error.kind(), failure)
    }
}
