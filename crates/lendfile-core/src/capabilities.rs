//! What a transport can do, as plain data, and the fallback ladder, as pure functions. Nothing
//! else in the workspace decides which method is used or given up.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

use crate::{Error, ErrorKind, Method, MethodSet, OpenFile};

/// What a transport can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The methods it implements and this machine allows.
    pub methods: MethodSet,
}

impl Capabilities {
    /// Capabilities with just these methods. `Copy` is always among them.
    pub const fn new(methods: MethodSet) -> Self {
        Self {
            methods: methods.with(Method::Copy),
        }
    }
}

/// The ways from best to last, for a file in the page cache.
const LADDER: [Method; 2] = [Method::Sendfile, Method::Copy];

/// The method to use for one file: `requested` if it can be had, else the next rung.
///
/// `refused` are the methods that this file's filesystem has refused before ([`refusal`]); they
/// are passed over even if asked for by name, since the alternative is an aborted response.
///
/// # Errors
///
/// [`ErrorKind::Unavailable`] if a method was asked for by name and the transport does not have
/// it: an explicit choice is not downgraded.
pub fn choose(
    requested: Method,
    capabilities: &Capabilities,
    refused: MethodSet,
) -> Result<Method, Error> {
    if requested != Method::Auto && !capabilities.methods.contains(requested) {
        return Err(Error::new(
            ErrorKind::Unavailable,
            format!("method {requested} is not available on this transport"),
        ));
    }
    let usable =
        |method: Method| capabilities.methods.contains(method) && !refused.contains(method);
    let start = match requested {
        Method::Auto => 0,
        named => LADDER.iter().position(|rung| *rung == named).unwrap_or(0),
    };
    Ok(LADDER[start..]
        .iter()
        .copied()
        .find(|method| usable(*method))
        .unwrap_or(Method::Copy))
}

static DOWNGRADES: AtomicU64 = AtomicU64::new(0);

/// How often a file has been given a lower rung of the ladder in this process.
pub fn downgrades() -> u64 {
    DOWNGRADES.load(Ordering::Relaxed)
}

/// Gives `file` the next rung, because its filesystem has refused `method`: for as long as it is
/// open, logged and counted once.
pub fn downgrade(file: &OpenFile, method: Method, capabilities: &Capabilities, error: &io::Error) {
    if !file.refuse(method) {
        return;
    }
    DOWNGRADES.fetch_add(1, Ordering::Relaxed);
    let next = choose(Method::Auto, capabilities, file.refused()).unwrap_or(Method::Copy);
    tracing::warn!(
        from = method.name(),
        to = next.name(),
        errno = %error,
        "the file's filesystem refuses the method; it is sent by the next one",
    );
}

/// What an errno of a method's system call means for the file it was tried on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The transfer failed; another method would fail as well.
    Error,
    /// This file's filesystem does not support the method: use the next rung from now on.
    Unsupported,
}

/// Sorts the errno of a failed sendfile or splice.
///
/// Filesystems without `splice_read` answer EINVAL, seccomp profiles and old kernels ENOSYS, some
/// FUSE servers EOPNOTSUPP, 32-bit inodes EOVERFLOW. An unknown errno is an error and never taken
/// for "unsupported".
pub fn refusal(error: &io::Error) -> Refusal {
    match Errno::from_io_error(error) {
        Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::OVERFLOW) => {
            Refusal::Unsupported
        }
        _ => Refusal::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Capabilities = Capabilities::new(MethodSet::EMPTY.with(Method::Sendfile));
    const COPY_ONLY: Capabilities = Capabilities::new(MethodSet::EMPTY);

    #[test]
    fn auto_takes_the_best_rung_the_file_has_not_refused() {
        let refused = MethodSet::EMPTY.with(Method::Sendfile);
        assert_eq!(
            choose(Method::Auto, &BOTH, MethodSet::EMPTY).unwrap(),
            Method::Sendfile
        );
        assert_eq!(choose(Method::Auto, &BOTH, refused).unwrap(), Method::Copy);
        assert_eq!(
            choose(Method::Auto, &COPY_ONLY, MethodSet::EMPTY).unwrap(),
            Method::Copy
        );
    }

    #[test]
    fn a_named_method_never_becomes_a_better_one() {
        assert_eq!(
            choose(Method::Copy, &BOTH, MethodSet::EMPTY).unwrap(),
            Method::Copy
        );
    }

    #[test]
    fn a_named_method_the_transport_lacks_is_an_error() {
        let error = choose(Method::Sendfile, &COPY_ONLY, MethodSet::EMPTY).unwrap_err();
        assert!(error.is_unsupported());
    }

    #[test]
    fn an_unknown_errno_is_not_a_refusal() {
        for errno in [
            Errno::IO,
            Errno::NOMEM,
            Errno::PERM,
            Errno::AGAIN,
            Errno::BADF,
        ] {
            assert_eq!(refusal(&errno.into()), Refusal::Error, "{errno:?}");
        }
        assert_eq!(refusal(&Errno::INVAL.into()), Refusal::Unsupported);
        assert_eq!(refusal(&io::Error::other("no errno")), Refusal::Error);
    }
}
