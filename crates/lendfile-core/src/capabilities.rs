//! What a transport can do, as plain data, and the fallback ladder, as pure functions. Nothing
//! else in the workspace decides which method is used or given up.

use std::io;

use rustix::io::Errno;

use crate::{Error, ErrorKind, FileRegion, Method, MethodSet, OpenFile, statistics};

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

/// The rung below: what is tried when a method cannot be had for one file. Never a way that is
/// better than what was asked for, and `Copy` in the end, which always can.
const fn below(method: Method) -> Method {
    match method {
        Method::Auto => Method::Sendfile,
        Method::RingSplice => Method::RingHybrid,
        Method::RingHybrid => Method::Splice,
        Method::Splice => Method::Sendfile,
        Method::Copy | Method::Mmap | Method::RingFixed | Method::Sendfile => Method::Copy,
    }
}

/// The method to use for one file: `requested` if it can be had, else the next rung.
///
/// `refused` are the methods that cannot be had for it now: those that its filesystem has refused
/// ([`refusal`]), and those for which something is missing at the moment (a pipe). They are passed
/// over even if asked for by name, since the alternative is an aborted response.
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
    let mut method = requested;
    while method != Method::Copy && !usable(method) {
        method = below(method);
    }
    Ok(method)
}

/// The method for a region that is not known to be in the page cache, if that is another one than
/// [`choose`] names: a ring waits for the disk elsewhere. Only for who leaves the choice to us.
pub fn choose_cold(
    requested: Method,
    capabilities: &Capabilities,
    refused: MethodSet,
) -> Option<Method> {
    let method = Method::RingHybrid;
    let usable = capabilities.methods.contains(method) && !refused.contains(method);
    (requested == Method::Auto && usable).then_some(method)
}

/// The same without the ladder: for callers that would rather fail than lose a method silently.
///
/// # Errors
///
/// [`ErrorKind::Unavailable`] if the method that [`choose`] would give were it not refused is.
pub fn insist(
    requested: Method,
    capabilities: &Capabilities,
    refused: MethodSet,
) -> Result<Method, Error> {
    let method = choose(requested, capabilities, MethodSet::EMPTY)?;
    match refused.contains(method) {
        false => Ok(method),
        true => Err(Error::new(
            ErrorKind::Unavailable,
            format!("method {method} cannot be had for this file, and no other is allowed"),
        )),
    }
}

/// The method by which bytes are taken out of a socket, into a file or another socket: through a
/// ring's buffers where there is one, else by splice, or by copying if those are `refused`.
///
/// # Errors
///
/// [`ErrorKind::Unavailable`] if the method asked for only sends, or is not one of the
/// `capabilities`.
pub fn choose_for_receiving(
    requested: Method,
    capabilities: &Capabilities,
    refused: MethodSet,
) -> Result<Method, Error> {
    let has = |method: &Method| capabilities.methods.contains(*method);
    let usable = |method: &Method| has(method) && !refused.contains(*method);
    let candidates: &[Method] = match requested {
        Method::Auto => &[Method::RingFixed, Method::Splice],
        Method::Copy => &[],
        Method::RingFixed if has(&requested) => &[Method::RingFixed],
        Method::Splice if has(&requested) => &[Method::Splice],
        other => {
            let message = format!("method {other} does not receive here");
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
    };
    let usable = candidates.iter().copied().find(usable);
    Ok(usable.unwrap_or(Method::Copy))
}

/// Gives `file` the next rung, because it cannot be sent by `method`: for as long as it is open,
/// logged and counted ([`Statistics::downgrades`](crate::statistics::Statistics)) once.
pub fn downgrade(file: &OpenFile, method: Method, capabilities: &Capabilities, error: &io::Error) {
    if !file.refuse(method) {
        return;
    }
    statistics::DOWNGRADES.increment();
    let next = choose(method, capabilities, file.refused()).unwrap_or(Method::Copy);
    tracing::warn!(
        from = method.name(),
        to = next.name(),
        errno = %error,
        "the file cannot be sent by the method; it is sent by the next one",
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

/// Names the file in an error that is its fault, after a call that touches both it and a socket.
///
/// These are what filesystems answer to reads, and no socket to writes: an I/O error, a checksum
/// that does not match, a FUSE or network filesystem whose server has gone. All else is taken for
/// the peer's doing and left as it is.
pub fn blame(error: io::Error, region: &FileRegion) -> io::Error {
    match Errno::from_io_error(&error) {
        Some(
            Errno::ACCESS
            | Errno::BADMSG
            | Errno::CONNABORTED
            | Errno::IO
            | Errno::NODATA
            | Errno::NOTCONN
            | Errno::NXIO
            | Errno::REMOTEIO
            | Errno::STALE
            | Errno::UCLEAN,
        ) => region.unreadable(error).into(),
        _ => error,
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
        let all = Method::ALL
            .iter()
            .copied()
            .fold(MethodSet::EMPTY, MethodSet::with);
        let all = Capabilities::new(all);
        let ladder = [
            (Method::Copy, Method::Copy),
            (Method::Mmap, Method::Copy),
            (Method::RingFixed, Method::Copy),
            (Method::RingHybrid, Method::Splice),
            (Method::RingSplice, Method::RingHybrid),
            (Method::Sendfile, Method::Copy),
            (Method::Splice, Method::Sendfile),
        ];
        for (method, next) in ladder {
            let chosen = |refused| choose(method, &all, refused).unwrap();
            assert_eq!(chosen(MethodSet::EMPTY), method);
            assert_eq!(chosen(MethodSet::EMPTY.with(method)), next);
        }
    }

    #[test]
    fn a_cold_file_goes_by_the_ring_only_where_there_is_one_and_nothing_else_was_asked_for() {
        let ring = Capabilities::new(MethodSet::EMPTY.with(Method::RingHybrid));
        let none = MethodSet::EMPTY;
        let by_ring = Some(Method::RingHybrid);
        assert_eq!(choose_cold(Method::Auto, &ring, none), by_ring);
        assert_eq!(choose_cold(Method::Sendfile, &ring, none), None);
        assert_eq!(choose_cold(Method::Auto, &BOTH, none), None);
        assert_eq!(choose_cold(Method::Auto, &ring, ring.methods), None);
    }

    #[test]
    fn who_insists_gets_the_method_or_an_error() {
        let refused = MethodSet::EMPTY.with(Method::Sendfile);
        for requested in [Method::Auto, Method::Sendfile] {
            let had = insist(requested, &BOTH, MethodSet::EMPTY).unwrap();
            assert_eq!(had, Method::Sendfile);
            let error = insist(requested, &BOTH, refused).unwrap_err();
            assert!(error.is_unsupported());
        }
        assert_eq!(insist(Method::Copy, &BOTH, refused).unwrap(), Method::Copy);
    }

    #[test]
    fn bytes_are_received_by_splice_or_copied() {
        let none = MethodSet::EMPTY;
        let epoll = Capabilities::new(BOTH.methods.with(Method::Splice));
        let refused = none.with(Method::Splice);
        let chosen = |requested, refused| choose_for_receiving(requested, &epoll, refused).unwrap();
        for requested in [Method::Auto, Method::Splice] {
            assert_eq!(chosen(requested, none), Method::Splice);
            assert_eq!(chosen(requested, refused), Method::Copy);
        }
        assert_eq!(chosen(Method::Copy, none), Method::Copy);
        for method in [Method::Sendfile, Method::RingFixed] {
            let error = choose_for_receiving(method, &epoll, none).unwrap_err();
            assert!(error.is_unsupported());
        }
    }

    #[test]
    fn a_ring_receives_unless_it_is_refused_or_another_method_was_asked_for() {
        let none = MethodSet::EMPTY;
        let methods = none.with(Method::Splice).with(Method::RingFixed);
        let ring = Capabilities::new(methods);
        let chosen = |requested, refused| choose_for_receiving(requested, &ring, refused).unwrap();
        let refused = none.with(Method::RingFixed);
        assert_eq!(chosen(Method::Auto, none), Method::RingFixed);
        assert_eq!(chosen(Method::Auto, refused), Method::Splice);
        assert_eq!(chosen(Method::Auto, methods), Method::Copy);
        assert_eq!(chosen(Method::RingFixed, none), Method::RingFixed);
        assert_eq!(chosen(Method::RingFixed, refused), Method::Copy);
        assert_eq!(chosen(Method::Splice, none), Method::Splice);
    }

    #[test]
    fn every_ladder_ends_in_copy() {
        let refused = Method::ALL
            .iter()
            .copied()
            .fold(MethodSet::EMPTY, MethodSet::with);
        for &method in Method::ALL {
            let all = Capabilities::new(refused);
            assert_eq!(choose(method, &all, refused).unwrap(), Method::Copy);
        }
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
