//! How the command fails: one line that says cause and cure, and exit code 1, or 2 for wrong usage
//! (most of which is clap's to tell).

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use lendfile::{Error, ErrorKind};
use rustix::io::Errno;

/// The cure when descriptors have run out: each thread needs a few.
const MORE_DESCRIPTORS: &str = "ask for fewer by --threads, or allow more by ulimit -n";

/// A failure to be shown to a person.
#[derive(Debug)]
pub(crate) struct Failure {
    line: String,
    code: u8,
}

/// As clap has it.
const USAGE: u8 = 2;

impl Failure {
    pub(crate) fn new(line: impl Display) -> Self {
        Self {
            line: line.to_string(),
            code: 1,
        }
    }

    /// It was asked for something that cannot be, whatever the machine: a flag, a variable or a
    /// line of the file is wrong.
    pub(crate) fn usage(line: impl Display) -> Self {
        Self {
            code: USAGE,
            ..Self::new(line)
        }
    }

    /// The directory cannot be served, or whatever else `purpose` says.
    pub(crate) fn directory(purpose: &str, path: &Path, error: &io::Error) -> Self {
        let cure = match error.kind() {
            io::ErrorKind::NotFound => "check the spelling",
            io::ErrorKind::NotADirectory => "name the directory that holds the file",
            io::ErrorKind::PermissionDenied => "run as a user who may read it",
            _ => "name a directory that can be read",
        };
        Self::new(format_args!(
            "cannot {purpose} {}: {error}; {cure}",
            path.display()
        ))
    }

    /// The address cannot be listened on.
    pub(crate) fn listen(addr: impl Display, error: &io::Error) -> Self {
        let addr = addr.to_string();
        let cure = match error.kind() {
            _ if is_exhausted(error) => MORE_DESCRIPTORS,
            io::ErrorKind::AddrInUse => "stop the other server, or choose another by --listen",
            io::ErrorKind::AlreadyExists => {
                "choose another by --listen, or remove it if nobody needs it"
            }
            io::ErrorKind::NotFound => "make the directory, or check the spelling",
            io::ErrorKind::PermissionDenied if addr.starts_with("unix:") => {
                "run as a user who may write to its directory, or choose another by --listen"
            }
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 are privileged: choose another by --listen, or grant CAP_NET_BIND_SERVICE"
            }
            io::ErrorKind::AddrNotAvailable => {
                "the address is not one of this machine's: choose one that is, or 0.0.0.0"
            }
            _ => "choose another address by --listen",
        };
        Self::new(format_args!("cannot listen on {addr}: {error}; {cure}"))
    }

    /// A file beside those that are served cannot be read or written.
    pub(crate) fn file(purpose: &str, path: &Path, error: &io::Error) -> Self {
        let cure = match error.kind() {
            io::ErrorKind::NotFound => "check the spelling",
            io::ErrorKind::PermissionDenied => "run as a user who may",
            _ => "choose another",
        };
        let path = path.display();
        Self::new(format_args!("cannot {purpose} {path}: {error}; {cure}"))
    }

    /// The certificate and its key cannot be used; the error names the file.
    pub(crate) fn tls(error: &io::Error) -> Self {
        Self::new(format_args!(
            "cannot speak TLS: {error}; give the chain by --tls-cert and its key by --tls-key, in PEM form"
        ))
    }

    /// Two flags that belong together were not both given.
    pub(crate) fn half(given: &str, missing: &str) -> Self {
        Self::usage(format_args!("{given} needs {missing}; give both"))
    }

    /// The metrics' address cannot be listened on.
    pub(crate) fn metrics(addr: impl Display, error: &io::Error) -> Self {
        Self::new(format_args!(
            "cannot serve metrics on {addr}: {error}; choose another address by --metrics"
        ))
    }

    /// The threads cannot be set up.
    pub(crate) fn start(error: &io::Error) -> Self {
        let cure = match error.kind() {
            _ if is_exhausted(error) => MORE_DESCRIPTORS,
            io::ErrorKind::Unsupported => "choose another by --method",
            _ => "ask for fewer by --threads",
        };
        Self::new(format_args!("cannot start the threads: {error}; {cure}"))
    }

    /// There is no ring; the error says what to do about it, unless something has run out.
    pub(crate) fn ring(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Exhausted => Self::new(format_args!(
                "cannot start the threads: {error}; {MORE_DESCRIPTORS}"
            )),
            _ => Self::new(format_args!("cannot serve by a ring: {error}")),
        }
    }

    /// The process cannot become what it was asked to.
    pub(crate) fn confine(what: impl Display, error: impl Display, cure: &str) -> Self {
        Self::new(format_args!("cannot {what}: {error}; {cure}"))
    }

    /// Writes the line to standard error.
    pub(crate) fn report(self) -> ExitCode {
        // Nobody is left to tell if standard error is gone.
        _ = writeln!(io::stderr(), "lendfile: {}", self.line);
        self.code.into()
    }
}

fn is_exhausted(error: &io::Error) -> bool {
    let ours = error
        .get_ref()
        .and_then(|error| error.downcast_ref::<Error>());
    ours.is_some_and(|error| error.kind() == ErrorKind::Exhausted)
        || matches!(
            Errno::from_io_error(error),
            Some(Errno::MFILE | Errno::NFILE)
        )
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.line)
    }
}
