//! The crate's one error: what went wrong, sorted by who can act on it.

use std::fmt;
use std::io;

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a measurement, or a part of it, could not be made.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<io::Error>,
}

/// Who can act on an [`Error`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// The contestant answered wrongly, stalled, or died: its figures must not be used.
    Disqualified,
    /// The operating system refused something the measurement needs.
    System,
    /// Something this machine or this user does not have: a program, a privilege, a second core.
    Unavailable,
}

impl Error {
    /// A contestant's wrong answer.
    pub fn disqualified(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Disqualified,
            message: message.into(),
            source: None,
        }
    }

    /// A refusal by the operating system while doing `what`.
    pub fn system(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self {
            kind: Kind::System,
            message: what.into(),
            source: Some(source.into()),
        }
    }

    /// Something that is not to be had here; `message` should say what would help.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Unavailable,
            message: message.into(),
            source: None,
        }
    }

    /// Who can act.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether the thing asked for is not to be had on this machine.
    pub fn is_unavailable(&self) -> bool {
        self.kind == Kind::Unavailable
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
