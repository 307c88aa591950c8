//! What can be asked of the futures that send, receive and relay.

use std::io;

use lendfile_core::{Error, ErrorKind, Method, MethodSet, RateLimit, statistics};

/// Bytes a future moves before other tasks of its thread get a turn: 0.3 ms at the 7 GB/s that
/// one core sends, 1 ms at the 2 GB/s that it writes to files. nginx's `sendfile_max_chunk` is the
/// same 2 MiB.
const TURN_BYTES: u64 = 2 << 20;

/// How bytes are moved by [`send_file`](crate::send_file()), [`recv_file`](crate::recv_file()) and
/// [`relay`](crate::relay()).
///
/// # Examples
///
/// ```
/// use std::num::NonZeroU64;
/// use lendfile_epoll::{TransferOptions};
/// use lendfile_core::{Method, RateLimit};
///
/// let options = TransferOptions::new()
///     .method(Method::Splice)
///     .strict()
///     .rate_limit(RateLimit::new(NonZeroU64::new(1 << 20).unwrap()));
/// # drop(options);
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TransferOptions {
    pub(crate) method: Method,
    pub(crate) fallback: Fallback,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) turn_bytes: u64,
}

/// What happens when the method cannot be had for this file, this socket or at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// The next one is used; logged, counted, and visible in the report.
    Allowed,
    /// The transfer ends in an error before a byte goes another way.
    Refused,
}

impl Fallback {
    /// Adds `method`, which the kernel has refused between two ends, to those that are `refused`.
    pub(crate) fn without(
        self,
        method: Method,
        refused: &mut MethodSet,
        ends: &str,
        error: io::Error,
    ) -> Result<(), Error> {
        if self == Self::Refused {
            let message = format!("{method} cannot be had between {ends}");
            return Err(Error::new(ErrorKind::Unavailable, message).with_source(error));
        }
        statistics::DOWNGRADES.increment();
        tracing::warn!(%method, errno = %error, "refused between {ends}; another method is used");
        *refused = refused.with(method);
        Ok(())
    }

    /// Goes on where no pipe is to be had.
    pub(crate) fn without_pipe(self, error: io::Error) -> Result<(), Error> {
        match self {
            Self::Allowed => Ok(()),
            Self::Refused => {
                let message = "no pipe is to be had, and no other method is allowed";
                Err(Error::new(ErrorKind::Unavailable, message).with_source(error))
            }
        }
    }
}

impl Default for TransferOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl TransferOptions {
    /// The best method, fallback allowed, no limit, turns of 2 MiB.
    pub fn new() -> Self {
        Self {
            method: Method::Auto,
            fallback: Fallback::Allowed,
            rate_limit: None,
            turn_bytes: TURN_BYTES,
        }
    }

    /// Asks for a method by name. One that the operation does not have at all is an error.
    #[must_use]
    pub fn method(self, method: Method) -> Self {
        Self { method, ..self }
    }

    /// Refuses fallback: when the method cannot be had for this file, this socket or at this
    /// moment (no pipe), the transfer ends in an error of kind
    /// [`Unavailable`](lendfile_core::ErrorKind::Unavailable) before a byte goes another way. With
    /// [`Method::Auto`] it is the best method that is insisted on.
    #[must_use]
    pub fn strict(self) -> Self {
        Self {
            fallback: Fallback::Refused,
            ..self
        }
    }

    /// Limits the rate; of a relay, that of each direction.
    #[must_use]
    pub fn rate_limit(self, limit: RateLimit) -> Self {
        Self {
            rate_limit: Some(limit),
            ..self
        }
    }

    /// Sets how many bytes are moved before other tasks of the thread get a turn; at least one.
    /// Default: 2 MiB.
    #[must_use]
    pub fn turn_bytes(self, bytes: u64) -> Self {
        Self {
            turn_bytes: bytes.max(1),
            ..self
        }
    }
}
