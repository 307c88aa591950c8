//! What the process is allowed: descriptors, the user it is, and what the kernel lets it reach.

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus,
};
use nix::unistd::{User, initgroups, setgid, setuid};
use rustix::fs::{Dir, Mode, OFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::args::serve::Sandbox;
use crate::failure::Failure;

/// Descriptors for everything but connections: runtimes, listening sockets, logs.
const OTHER_DESCRIPTORS: u64 = 32;

/// How many descriptors the process may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Descriptors(u64);

impl Descriptors {
    /// Raises the soft limit to the hard one. The soft limit of 1,024 is for programs that use
    /// `select(2)`; a connection costs one descriptor, and one more while its file is open.
    pub(crate) fn raise() -> Self {
        let limit = getrlimit(Resource::Nofile);
        let wanted = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if limit.current != limit.maximum && setrlimit(Resource::Nofile, wanted).is_err() {
            tracing::warn!("the limit of open files stays {:?}", limit.current);
            return Self(limit.current.unwrap_or(u64::MAX));
        }
        tracing::info!(from = ?limit.current, to = ?limit.maximum, "open files allowed");
        Self(limit.maximum.unwrap_or(u64::MAX))
    }

    /// How many files may be kept open.
    pub(crate) fn files(self) -> u64 {
        self.0.saturating_sub(OTHER_DESCRIPTORS) / 8
    }

    /// How many connections they are enough for, leaving a quarter for files.
    pub(crate) fn connections(self) -> Option<NonZeroUsize> {
        let most = self.0.saturating_sub(OTHER_DESCRIPTORS) / 4 * 3;
        NonZeroUsize::new(usize::try_from(most).unwrap_or(usize::MAX).max(1))
    }
}

/// Whether the directory can be served: opened by a path, and read.
pub(crate) fn readable(dir: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(dir, flags, Mode::empty())?;
    // Searching it is another permission than reading it.
    rustix::fs::accessat(
        &dir,
        ".",
        rustix::fs::Access::EXEC_OK,
        rustix::fs::AtFlags::EACCESS,
    )?;
    Dir::read_from(&dir)?.next().transpose()?;
    Ok(())
}

/// Becomes another user with its groups, for good. Before any thread is started.
pub(crate) fn become_user(name: &str) -> Result<(), Failure> {
    let fail = |error: &dyn std::fmt::Display, cure| {
        Failure::confine(format_args!("become user {name}"), error, cure)
    };
    let user = User::from_name(name)
        .map_err(|errno| fail(&errno, "choose another by --user"))?
        .ok_or_else(|| fail(&"no such user", "choose another by --user"))?;
    let c_name = std::ffi::CString::new(name).map_err(|error| fail(&error, "check the name"))?;
    initgroups(&c_name, user.gid)
        .and_then(|()| setgid(user.gid))
        .and_then(|()| setuid(user.uid))
        .map_err(|errno| fail(&errno, "start as root, or leave --user out"))?;
    Ok(())
}

/// Folders that stay within reach beside the directory that is served.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    /// Files in them can be opened for reading.
    pub(crate) read: Vec<PathBuf>,
    /// Files in them can be made and opened for writing.
    pub(crate) write: Vec<PathBuf>,
    /// Files in them can be removed.
    pub(crate) remove: Vec<PathBuf>,
}

/// Lets the kernel confine this process, and every thread it starts, to reading `dir`, to `reach`,
/// and to accepting connections.
pub(crate) fn sandbox(when: Sandbox, dir: &Path, reach: &Reach) -> Result<(), Failure> {
    if when == Sandbox::Off {
        return Ok(());
    }
    let fail = |error: &dyn std::fmt::Display| {
        Failure::confine(
            "confine the process",
            error,
            "use a kernel with Landlock (5.13), or --sandbox=auto",
        )
    };
    match (restrict(dir, reach), when) {
        (Ok(RulesetStatus::NotEnforced), Sandbox::On) => {
            Err(fail(&"the kernel has no Landlock, or it is off"))
        }
        (Ok(status), _) => {
            tracing::info!(?status, "confined by Landlock");
            Ok(())
        }
        (Err(error), Sandbox::On) => Err(fail(&error)),
        (Err(error), _) => {
            tracing::warn!(%error, "not confined by Landlock");
            Ok(())
        }
    }
}

/// The version of the rules: what a kernel does not know of them is left out.
const RULES: ABI = ABI::V5;

/// Rules that allow nothing yet.
fn no_access() -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(RULES))?
        // No rule allows any: a file server never connects.
        .handle_access(AccessNet::ConnectTcp)?
        .create()
}

/// Confines this thread, for good, to the descriptors that it has; says what Landlock there is.
pub(crate) fn nothing_within_reach() -> Result<LandlockStatus, RulesetError> {
    Ok(no_access()?.restrict_self()?.landlock)
}

fn restrict(dir: &Path, reach: &Reach) -> Result<RulesetStatus, RulesetError> {
    let mut rules = no_access()?;
    // Of /proc this process reads its own state only (open files are reached by descriptor).
    for path in [dir, Path::new("/proc/self")] {
        if let Ok(path) = PathFd::new(path) {
            rules = rules.add_rule(PathBeneath::new(
                path,
                AccessFs::from_read(RULES) & !AccessFs::Execute,
            ))?;
        }
    }
    for (paths, access) in [
        (&reach.read, AccessFs::ReadFile.into()),
        (&reach.write, AccessFs::WriteFile | AccessFs::MakeReg),
        (&reach.remove, AccessFs::RemoveFile.into()),
    ] {
        for path in paths {
            if let Ok(path) = PathFd::new(path) {
                rules = rules.add_rule(PathBeneath::new(path, access))?;
            }
        }
    }
    // Pipes are emptied into it; without it a new one is made whenever a socket is full.
    if let Ok(null) = PathFd::new("/dev/null") {
        rules = rules.add_rule(PathBeneath::new(null, AccessFs::WriteFile))?;
    }
    Ok(rules.restrict_self()?.ruleset)
}
