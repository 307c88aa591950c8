//! The abilities, one function each, and what their refusals mean. To add one, write its function
//! and one line in [`ALL`].

use std::fs;
use std::io::{self, IoSliceMut, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use landlock::{LandlockStatus, RulesetError};
use lendfile_core::lent::residency;
use lendfile_uring::Cause;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2, sendfile};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use super::errno;
use super::report::{Finding, Outcome, Trouble};
use super::subject::Subject;
use crate::confine;

/// How long a socket may take. Both ends are on this machine and the bytes fit their buffers, so
/// this only keeps a broken machine from hanging the probe.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// The largest pipe an unprivileged process may ask for by default (fs.pipe-max-size). Measured on
/// Linux 6.18: ring splice moves 6.0–8.3 GB/s through it, 3.1–3.5 GB/s through 64 KiB.
const PIPE_BYTES: usize = 1 << 20;

/// Something to try.
#[derive(Debug)]
pub(super) struct Ability {
    name: &'static str,
    attempt: fn(&Subject) -> Result<Note, Setback>,
    /// The errors that mean "not to be had here", each with its cure. Any other is a failure.
    refusals: &'static [(Errno, &'static str)],
}

/// What is worth knowing about something that works.
type Note = Option<String>;

/// How an attempt ended that did not work.
#[derive(Debug)]
enum Setback {
    /// The call in question failed; the ability's refusals say whether that is a "no".
    Error(&'static str, io::Error),
    /// Something went wrong on the way to it or after it, which is never a "no".
    Failed(&'static str, io::Error),
    /// It is known to be a "no".
    Refused(&'static str, io::Error),
    /// What it needs, by name, did not work.
    Untried(&'static str),
}

const IO_URING: &str = "io_uring";

/// Everything that is tried, in the order of the report.
pub(super) const ALL: &[Ability] = &[
    Ability::new("sendfile to TCP", sendfile_to_tcp, BY_REFERENCE),
    Ability::new("sendfile to UNIX", sendfile_to_unix, BY_REFERENCE),
    Ability::new("splice to TCP", splice_to_tcp, BY_REFERENCE),
    Ability::new("splice to UNIX", splice_to_unix, BY_REFERENCE),
    Ability::new("pipe of 1 MiB", large_pipe, PIPE),
    Ability::new("openat2 beneath", open_beneath, OPENAT2),
    Ability::new("openat2 cached", open_cached, OPENAT2_CACHED),
    Ability::new("preadv2 nowait", read_nowait, PREADV2),
    Ability::new("cachestat", cachestat, CACHESTAT),
    Ability::new("mincore", mincore, &[]),
    Ability::new(IO_URING, ring, RING),
    Ability::new("ring splice", ring_splice, RING_SPLICE),
    Ability::new("ring workers", ring_workers, RING_WORKERS),
    Ability::new("ring buffers", ring_buffers, RING_BUFFERS),
    Ability::new("Landlock", landlock, LANDLOCK),
];

const OTHER_FILESYSTEM: &str =
    "files on another filesystem (ext4, xfs, btrfs, tmpfs); lendfile copies these";
const BY_REFERENCE: &[(Errno, &str)] = &[
    (Errno::INVAL, OTHER_FILESYSTEM),
    (Errno::OPNOTSUPP, OTHER_FILESYSTEM),
    (Errno::OVERFLOW, OTHER_FILESYSTEM),
    (
        Errno::NOSYS,
        "a sandbox or seccomp profile that allows the call",
    ),
];

const PIPE: &[(Errno, &str)] = &[(
    Errno::PERM,
    "sysctl fs.pipe-max-size=1048576, or a higher fs.pipe-user-pages-soft (in pages, for all \
     pipes of a user)",
)];

const OPENAT2_CALL: &str = "kernel >= 5.6 and a seccomp profile that allows openat2";
const OPENAT2: &[(Errno, &str)] = &[(Errno::NOSYS, OPENAT2_CALL), (Errno::PERM, OPENAT2_CALL)];
const OPENAT2_CACHED: &[(Errno, &str)] = &[
    (Errno::INVAL, "kernel >= 5.12"),
    (Errno::NOSYS, OPENAT2_CALL),
    (Errno::PERM, OPENAT2_CALL),
];

const PREADV2: &[(Errno, &str)] = &[
    (
        Errno::OPNOTSUPP,
        "files on a filesystem that has it (ext4, xfs, btrfs; not overlayfs, tmpfs, FUSE)",
    ),
    (
        Errno::NOSYS,
        "kernel >= 4.14 and a seccomp profile that allows preadv2",
    ),
];

const CACHESTAT: &[(Errno, &str)] = &[
    (Errno::NOSYS, "kernel >= 6.5"),
    (Errno::PERM, "files that this user owns or may write"),
];

const RING_ALLOWED: &str =
    "sysctl kernel.io_uring_disabled=0, and a seccomp profile that allows io_uring";
const RING: &[(Errno, &str)] = &[
    (
        Errno::ACCESS,
        "a security module's policy (SELinux, AppArmor) that allows io_uring",
    ),
    (
        Errno::NOSYS,
        "kernel >= 5.11 with io_uring, and a seccomp profile that allows it",
    ),
    (Errno::PERM, RING_ALLOWED),
];
const RING_SPLICE: &[(Errno, &str)] = &[
    (Errno::INVAL, "kernel >= 5.11"),
    (Errno::NOSYS, RING_ALLOWED),
    (Errno::PERM, RING_ALLOWED),
];

const RING_WORKERS: &[(Errno, &str)] = &[(
    Errno::INVAL,
    "kernel >= 5.15, which can bound a ring's worker threads",
)];
const RING_BUFFERS: &[(Errno, &str)] = &[(
    Errno::NOMEM,
    "a higher RLIMIT_MEMLOCK (ulimit -l), for ring-fixed",
)];

const LANDLOCK: &[(Errno, &str)] = &[
    (
        Errno::NOSYS,
        "kernel >= 5.13 built with Landlock, and a seccomp profile that allows it; serve runs \
         without (--sandbox=auto), confined by openat2 only",
    ),
    (
        Errno::OPNOTSUPP,
        "landlock in the list lsm= of the kernel's command line; serve runs without \
         (--sandbox=auto), confined by openat2 only",
    ),
];

/// Cures for running out of something, whoever ran out.
const EXHAUSTED: &[(Errno, &str)] = &[
    (Errno::MFILE, "a higher RLIMIT_NOFILE (ulimit -n)"),
    (Errno::NFILE, "a higher fs.file-max"),
    (
        Errno::NOMEM,
        "more memory; before kernel 5.12 a higher RLIMIT_MEMLOCK (ulimit -l)",
    ),
];

impl Ability {
    const fn new(
        name: &'static str,
        attempt: fn(&Subject) -> Result<Note, Setback>,
        refusals: &'static [(Errno, &'static str)],
    ) -> Self {
        Self {
            name,
            attempt,
            refusals,
        }
    }

    /// Tries it.
    pub(super) fn find_out(&self, subject: &Subject) -> Finding {
        Finding {
            name: self.name,
            outcome: self.judge((self.attempt)(subject)),
        }
    }

    fn judge(&self, attempt: Result<Note, Setback>) -> Outcome {
        match attempt {
            Ok(note) => Outcome::Works { note },
            Err(Setback::Untried(needs)) => Outcome::Untried { needs },
            Err(Setback::Refused(step, error)) => {
                Outcome::Unavailable(trouble(step, &error, self.refusals))
            }
            Err(Setback::Error(step, error)) if find(self.refusals, &error).is_some() => {
                Outcome::Unavailable(trouble(step, &error, self.refusals))
            }
            Err(Setback::Error(step, error) | Setback::Failed(step, error)) => {
                Outcome::Failed(trouble(step, &error, EXHAUSTED))
            }
        }
    }
}

fn trouble(step: &'static str, error: &io::Error, cures: &[(Errno, &'static str)]) -> Trouble {
    let errno = error.raw_os_error();
    Trouble {
        step,
        errno,
        errno_name: errno.and_then(errno::name),
        message: error.to_string(),
        cure: find(cures, error),
    }
}

fn find(cures: &[(Errno, &'static str)], error: &io::Error) -> Option<&'static str> {
    let errno = Errno::from_io_error(error)?;
    let (_, cure) = cures.iter().find(|(known, _)| *known == errno)?;
    Some(cure)
}

/// An error of the call in question.
fn at<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Setback {
    move |error| Setback::Error(step, error.into())
}

/// An error of anything else.
fn failed<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Setback {
    move |error| Setback::Failed(step, error.into())
}

fn sendfile_to_tcp(subject: &Subject) -> Result<Note, Setback> {
    let (sender, receiver) = tcp_pair().map_err(failed("TCP over loopback"))?;
    send_by_sendfile(subject, &sender)?;
    receive(subject, receiver)
}

fn sendfile_to_unix(subject: &Subject) -> Result<Note, Setback> {
    let (sender, receiver) = unix_pair().map_err(failed("socketpair"))?;
    send_by_sendfile(subject, &sender)?;
    receive(subject, receiver)
}

fn splice_to_tcp(subject: &Subject) -> Result<Note, Setback> {
    let (sender, receiver) = tcp_pair().map_err(failed("TCP over loopback"))?;
    send_by_splice(subject, &sender)?;
    receive(subject, receiver)
}

fn splice_to_unix(subject: &Subject) -> Result<Note, Setback> {
    let (sender, receiver) = unix_pair().map_err(failed("socketpair"))?;
    send_by_splice(subject, &sender)?;
    receive(subject, receiver)
}

fn large_pipe(_: &Subject) -> Result<Note, Setback> {
    let (_reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(failed("pipe2"))?;
    let granted = fcntl_setpipe_size(&writer, PIPE_BYTES).map_err(at("F_SETPIPE_SZ"))?;
    Ok(Some(format!("granted {granted} bytes")))
}

/// Opens something inside the directory, and checks that the way out is closed.
fn open_beneath(subject: &Subject) -> Result<Note, Setback> {
    let open = |path| {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        openat2(
            &subject.directory,
            path,
            flags,
            Mode::empty(),
            ResolveFlags::BENEATH,
        )
    };
    open(".").map_err(at("openat2"))?;
    match open("..") {
        Err(Errno::XDEV) => Ok(None),
        Err(errno) => Err(failed("openat2 of ..")(errno)),
        Ok(_) => Err(wrong("openat2 of ..", "it led out of the directory")),
    }
}

fn open_cached(subject: &Subject) -> Result<Note, Setback> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat2(
        &subject.directory,
        ".",
        flags,
        Mode::empty(),
        ResolveFlags::CACHED,
    ) {
        Ok(_) => Ok(None),
        Err(Errno::AGAIN) => Ok(Some("answers EAGAIN: not in the cache".to_owned())),
        Err(errno) => Err(at("openat2")(errno)),
    }
}

fn read_nowait(subject: &Subject) -> Result<Note, Setback> {
    let mut bytes = vec![0; subject.bytes.len()];
    let mut buffers = [IoSliceMut::new(&mut bytes)];
    match preadv2(&subject.file, &mut buffers, 0, ReadWriteFlags::NOWAIT) {
        Ok(count) if bytes[..count] == subject.bytes[..count] => Ok(None),
        Ok(_) => Err(wrong("preadv2", "it read other bytes than pread")),
        // An answer, if a surprising one: the bytes have just been read.
        Err(Errno::AGAIN) => Ok(Some("answers EAGAIN: not in the page cache".to_owned())),
        Err(errno) => Err(at("preadv2")(errno)),
    }
}

fn cachestat(subject: &Subject) -> Result<Note, Setback> {
    let pages = residency::cachestat(&subject.file, 0, subject.bytes.len() as u64)
        .map_err(at("cachestat"))?;
    resident(pages)
}

fn mincore(subject: &Subject) -> Result<Note, Setback> {
    let pages = residency::mincore(&subject.file, 0, subject.bytes.len()).map_err(at("mincore"))?;
    resident(pages)
}

/// The bytes have just been read, so they are in the page cache.
fn resident(pages: u64) -> Result<Note, Setback> {
    Ok(match pages {
        0 => Some("answers 0 pages for a file just read: not to be believed here".to_owned()),
        _ => None,
    })
}

fn ring(subject: &Subject) -> Result<Note, Setback> {
    by_uring(subject.uring.ring)
}

fn ring_splice(subject: &Subject) -> Result<Note, Setback> {
    by_uring(subject.uring.splice)
}

fn ring_workers(subject: &Subject) -> Result<Note, Setback> {
    by_uring(subject.uring.workers)
}

fn ring_buffers(subject: &Subject) -> Result<Note, Setback> {
    by_uring(subject.uring.buffers)
}

/// Takes over the verdict of the crate that tried it.
fn by_uring(ability: lendfile_uring::Ability) -> Result<Note, Setback> {
    let error = |cause: Cause| match cause {
        Cause::Errno(errno) => io::Error::from_raw_os_error(errno),
        other => io::Error::other(other.to_string()),
    };
    match ability {
        lendfile_uring::Ability::Works => Ok(None),
        lendfile_uring::Ability::Unavailable(reason) => {
            Err(Setback::Refused(reason.step, error(reason.cause)))
        }
        lendfile_uring::Ability::Failed(reason) => {
            Err(Setback::Failed(reason.step, error(reason.cause)))
        }
        lendfile_uring::Ability::Untried => Err(Setback::Untried(IO_URING)),
        other => Err(wrong("lendfile_uring::probe", &other.to_string())),
    }
}

/// Confines a thread that ends, as `serve --sandbox` does itself, and checks that it cannot get at
/// the directory any more.
fn landlock(subject: &Subject) -> Result<Note, Setback> {
    let confined = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let status = confine::nothing_within_reach()?;
            Ok::<_, RulesetError>((status, fs::read_dir(&subject.path).map(drop)))
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let refused = |errno: Errno| Setback::Refused("landlock_create_ruleset", errno.into());
    let (status, open) =
        confined.map_err(|error| failed("landlock_restrict_self")(io::Error::other(error)))?;
    let abi = match status {
        LandlockStatus::NotEnabled => return Err(refused(Errno::OPNOTSUPP)),
        LandlockStatus::NotImplemented => return Err(refused(Errno::NOSYS)),
        LandlockStatus::Available {
            effective_abi,
            kernel_abi,
        } => kernel_abi.unwrap_or(effective_abi as i32),
    };
    match open {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(Some(format!(
            "ABI {abi}: --sandbox confines serve to its directory{}",
            match abi {
                ..4 => "; to no connections of its own from ABI 4 on (kernel 6.7)",
                _ => " and to no connections of its own",
            }
        ))),
        Err(error) => Err(failed("opening, confined")(error)),
        Ok(()) => Err(wrong("opening, confined", "it was not denied")),
    }
}

fn send_by_sendfile(subject: &Subject, socket: impl AsFd) -> Result<(), Setback> {
    let length = subject.bytes.len();
    let mut sent = 0;
    while sent < length {
        let mut offset = sent as u64;
        match sendfile(&socket, &subject.file, Some(&mut offset), length - sent) {
            Ok(0) => return Err(wrong("sendfile", "the file ended early")),
            Ok(count) => sent += count,
            Err(errno) => return Err(at("sendfile")(errno)),
        }
    }
    Ok(())
}

/// File to pipe, pipe to socket, in as many turns as the pipe's capacity asks for.
fn send_by_splice(subject: &Subject, socket: impl AsFd) -> Result<(), Setback> {
    let (reader, writer) =
        pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(failed("pipe2"))?;
    let length = subject.bytes.len();
    let mut sent = 0;
    while sent < length {
        let mut offset = sent as u64;
        let turn = length - sent;
        let flags = SpliceFlags::empty();
        let filled = splice(&subject.file, Some(&mut offset), &writer, None, turn, flags)
            .map_err(at("splice from the file"))?;
        if filled == 0 {
            return Err(wrong("splice from the file", "the file ended early"));
        }
        let mut drained = 0;
        while drained < filled {
            match splice(&reader, None, &socket, None, filled - drained, flags) {
                Ok(0) => return Err(wrong("splice to the socket", "the pipe lost bytes")),
                Ok(count) => drained += count,
                Err(errno) => return Err(at("splice to the socket")(errno)),
            }
        }
        sent += filled;
    }
    Ok(())
}

/// Reads what was sent and compares it with what read(2) gave.
fn receive(subject: &Subject, mut socket: impl Read) -> Result<Note, Setback> {
    let mut bytes = vec![0; subject.bytes.len()];
    socket.read_exact(&mut bytes).map_err(failed("receive"))?;
    if bytes == subject.bytes {
        Ok(None)
    } else {
        Err(wrong(
            "receive",
            "the peer got other bytes than the file has",
        ))
    }
}

fn tcp_pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let sender = TcpStream::connect_timeout(&listener.local_addr()?, TIME_LIMIT)?;
    let (receiver, peer) = listener.accept()?;
    if peer != sender.local_addr()? {
        return Err(io::Error::other("a stranger connected"));
    }
    sender.set_write_timeout(Some(TIME_LIMIT))?;
    receiver.set_read_timeout(Some(TIME_LIMIT))?;
    Ok((sender, receiver))
}

fn unix_pair() -> io::Result<(UnixStream, UnixStream)> {
    let (sender, receiver) = UnixStream::pair()?;
    sender.set_write_timeout(Some(TIME_LIMIT))?;
    receiver.set_read_timeout(Some(TIME_LIMIT))?;
    Ok((sender, receiver))
}

fn wrong(step: &'static str, what: &str) -> Setback {
    Setback::Failed(step, io::Error::other(what))
}

#[cfg(test)]
mod tests;
