//! What a refused ring means for whoever asked for one, and what can be done about it.

use std::fs;

use lendfile_core::{Error, ErrorKind};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::probe::{Ability, Cause, ENTER, Reason, SETUP, judge};
use crate::sys::WORKERS;

/// The sysctl that denies rings: 1 to those without CAP_SYS_ADMIN, 2 to all.
const SYSCTL: &str = "/proc/sys/kernel/io_uring_disabled";

/// The error for a runtime that cannot be had.
pub(crate) fn error(reason: Reason) -> Error {
    // Rings are locked memory, too: ENOMEM may be the limit's or the machine's doing.
    if let (SETUP, Cause::Errno(errno)) = (reason.step, reason.cause)
        && Errno::from_raw_os_error(errno) == Errno::NOMEM
        && let Some(limit) = getrlimit(Resource::Memlock).current
    {
        let message = format!(
            "io_uring is not available: {reason}; RLIMIT_MEMLOCK is {limit} bytes: allow more by \
             `ulimit -l` or systemd's LimitMEMLOCK=, or use the epoll backend"
        );
        return Error::new(ErrorKind::Unavailable, message);
    }
    match judge(Err(reason)) {
        Ability::Unavailable(reason) => Error::new(
            ErrorKind::Unavailable,
            format!("io_uring is not available: {reason}; {}", cure(reason)),
        ),
        _ => Error::new(
            ErrorKind::Exhausted,
            format!("io_uring could not be set up: {reason}"),
        ),
    }
}

/// What would make it available.
fn cure(reason: Reason) -> String {
    let errno = match reason.cause {
        Cause::Errno(errno) => Errno::from_raw_os_error(errno),
        _ => return "a newer kernel has it; until then use the epoll backend".to_owned(),
    };
    match (reason.step, errno) {
        (SETUP | ENTER, Errno::PERM) => match disabled() {
            Some(level) => format!(
                "kernel.io_uring_disabled is {level}: allow it by `sysctl kernel.io_uring_disabled=0`, \
                 or use the epoll backend"
            ),
            None => "a seccomp profile denies it (containers' default): allow io_uring_setup, \
                     io_uring_enter and io_uring_register there, or use the epoll backend"
                .to_owned(),
        },
        (SETUP | ENTER, Errno::NOSYS) => "the kernel is built without it, or a seccomp profile \
                                          hides it; use the epoll backend"
            .to_owned(),
        (SETUP | ENTER, Errno::ACCESS) => {
            "a security module denies it; use the epoll backend".to_owned()
        }
        (WORKERS, _) => {
            "its workers cannot be bounded before Linux 5.15; use the epoll backend".to_owned()
        }
        _ => "use the epoll backend".to_owned(),
    }
}

/// The sysctl's value, if it denies something.
fn disabled() -> Option<String> {
    let value = fs::read_to_string(SYSCTL).ok()?;
    let value = value.trim();
    (value != "0").then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::failed;

    fn refused(step: &'static str, errno: Errno) -> Error {
        error(failed(step, &errno.into()))
    }

    #[test]
    fn a_denied_ring_is_unavailable_and_the_error_names_the_cure() {
        for step in [SETUP, ENTER, WORKERS] {
            for errno in [Errno::PERM, Errno::NOSYS, Errno::ACCESS, Errno::INVAL] {
                let error = refused(step, errno);
                if error.is_unsupported() {
                    assert!(
                        error.to_string().contains("use the epoll backend"),
                        "{error}"
                    );
                }
            }
        }
        assert!(refused(SETUP, Errno::PERM).is_unsupported());
        assert!(refused(SETUP, Errno::NOSYS).is_unsupported());
        assert!(refused(WORKERS, Errno::INVAL).is_unsupported());
    }

    #[test]
    fn without_descriptors_it_is_exhausted_and_not_unavailable() {
        for errno in [Errno::MFILE, Errno::NFILE] {
            assert_eq!(refused(SETUP, errno).kind(), ErrorKind::Exhausted);
        }
    }
}
