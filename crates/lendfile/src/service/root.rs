//! Opening below a root, and never outside of it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lendfile_core::OpenFile;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// How often a path is tried again that was being renamed while it was looked up.
const RENAME_RETRIES: u32 = 128;

/// How long an open waits for a descriptor, in pauses that double from the first to the last: those
/// of files that are being sent become free again.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));

/// For reading. NONBLOCK: a FIFO must not hang the server. NOCTTY: nor a terminal become its own.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

/// A directory, and what lies beneath it: no path leads out of it.
///
/// Paths are resolved from its descriptor, so it may be renamed. One `openat2(2)` with
/// `RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS` confines; where that call is refused (before Linux 5.6,
/// some seccomp profiles) components are opened one by one with `O_NOFOLLOW`, which follows no
/// symbolic link at all.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let root = lendfile::Root::open(".")?;
/// assert!(root.open_file("Cargo.toml").await?.len() > 0);
/// assert!(root.open_file("../../../etc/passwd").await.is_err());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Root {
    directory: Arc<OwnedFd>,
    way: Way,
    symlinks: Symlinks,
}

/// How paths are kept inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// `openat2(2)` with `RESOLVE_BENEATH`.
    Beneath,
    /// One `openat(2)` a component, with `O_NOFOLLOW`.
    Walk,
}

/// Which symbolic links are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Symlinks {
    /// Those that stay inside the root.
    #[default]
    Inside,
    /// None.
    Refuse,
}

/// What a path led to.
#[derive(Clone, Debug)]
pub(super) enum Opened {
    Directory(Arc<OwnedFd>),
    File(Arc<OpenFile>),
}

/// Whether the disk may be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// What is not in memory is [`Failure::WouldWait`].
    MemoryOnly,
    MayWait,
}

/// Why nothing was opened.
#[derive(Debug)]
pub(super) enum Failure {
    /// 403
    Forbidden(io::Error),
    /// 404
    NotFound(io::Error),
    /// 503: out of descriptors or memory.
    Overloaded(io::Error),
    /// 500
    Other(io::Error),
    /// Not an answer: to be asked again where waiting is allowed.
    WouldWait,
}

impl Root {
    /// Opens the directory.
    ///
    /// # Errors
    ///
    /// Those of `open(2)`; ENOTDIR if it is not a directory.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path.as_ref(), flags, Mode::empty())?;
        let way = match beneath(directory.as_fd(), Path::new("."), ResolveFlags::empty()) {
            // A kernel before 5.6, or a seccomp profile without the call.
            Err(Errno::NOSYS | Errno::PERM) => {
                tracing::warn!(
                    "openat2 is refused: paths are opened component by component, without following symbolic links",
                );
                Way::Walk
            }
            _ => Way::Beneath,
        };
        Ok(Self {
            directory: Arc::new(directory),
            way,
            symlinks: Symlinks::Inside,
        })
    }

    /// Which symbolic links are followed. Default: those that stay inside.
    #[must_use]
    pub fn symlinks(mut self, symlinks: Symlinks) -> Self {
        self.symlinks = symlinks;
        self
    }

    /// Opens a regular file beneath it. `path` is a path of the file system, not of a URL: nothing
    /// is decoded. `.` and `..` are normalised before anything is looked up; FIFOs and devices are
    /// refused, not waited for.
    ///
    /// # Errors
    ///
    /// ENOENT also for what is there but not a regular file; EXDEV for what would leave the root;
    /// otherwise those of `openat2(2)`. Out of descriptors (EMFILE) it waits for one, up to 10 s.
    ///
    /// # Cancel safety
    ///
    /// A dropped call leaves nothing open.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with timers.
    pub async fn open_file(&self, path: impl AsRef<Path>) -> io::Result<Arc<OpenFile>> {
        let path = normalised(path.as_ref()).ok_or(Errno::XDEV)?;
        let root = self.clone();
        match patiently(move |patience| root.look_up(&path, patience)).await {
            Ok(Opened::File(file)) => Ok(file),
            Ok(Opened::Directory(_)) => Err(Errno::NOENT.into()),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Opens `path`, which has no `..`.
    pub(super) fn look_up(&self, path: &Path, patience: Patience) -> Result<Opened, Failure> {
        let directory = self.directory.as_fd();
        let mut flags = match self.symlinks {
            Symlinks::Inside => ResolveFlags::empty(),
            Symlinks::Refuse => ResolveFlags::NO_SYMLINKS,
        };
        let opened = match (self.way, patience) {
            (Way::Beneath, Patience::MemoryOnly) => {
                flags |= ResolveFlags::CACHED;
                match beneath(directory, path, flags) {
                    // Also when CACHED is unknown (before 5.12).
                    Err(Errno::AGAIN | Errno::INVAL) => return Err(Failure::WouldWait),
                    opened => opened,
                }
            }
            (Way::Beneath, Patience::MayWait) => beneath(directory, path, flags),
            (Way::Walk, Patience::MemoryOnly) => return Err(Failure::WouldWait),
            (Way::Walk, Patience::MayWait) => walk(directory, path),
        };
        examine(opened)
    }
}

/// Does what may wait for the disk: from memory in this thread, or all of it again in another.
/// Without a descriptor to be had it waits for one.
pub(super) async fn patiently<T: Send + 'static>(
    mut operation: impl Fn(Patience) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match operation(Patience::MemoryOnly) {
        Err(failure) if failure.may_pass() => {}
        result => return result,
    }
    let begun = Instant::now();
    let mut pause = PAUSES.0;
    loop {
        let elsewhere = tokio::task::spawn_blocking(move || {
            let result = operation(Patience::MayWait);
            (operation, result)
        });
        let result = match elsewhere.await {
            Ok((given_back, result)) => {
                operation = given_back;
                result
            }
            Err(error) => return Err(Failure::Other(io::Error::other(error))),
        };
        match result {
            Err(failure) if failure.may_pass() && begun.elapsed() < PATIENCE => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
            result => return result,
        }
    }
}

/// Without `.` and `..`; `None` if it leads above where it begins.
pub(super) fn normalised(path: &Path) -> Option<PathBuf> {
    let mut normalised = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => normalised.push(name),
            Component::ParentDir if normalised.pop() => {}
            _ => return None,
        }
    }
    Some(normalised)
}

fn beneath(root: BorrowedFd<'_>, path: &Path, extra: ResolveFlags) -> Result<OwnedFd, Errno> {
    let path = or_dot(path);
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | extra;
    for _ in 0..RENAME_RETRIES {
        match openat2(root, path, READ, Mode::empty(), resolve) {
            // A rename below the root made the kernel unsure whether `..` or a link escaped.
            Err(Errno::AGAIN) if !extra.contains(ResolveFlags::CACHED) => {}
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

fn walk(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at: Option<OwnedFd> = None;
    let mut components = or_dot(path).components().peekable();
    while let Some(component) = components.next() {
        let name = match component {
            Component::Normal(name) => Path::new(name),
            Component::CurDir => Path::new("."),
            _ => return Err(Errno::XDEV),
        };
        let from = at.as_ref().map_or(root, AsFd::as_fd);
        let flags = match components.peek() {
            Some(_) => step,
            None => READ | OFlags::NOFOLLOW,
        };
        at = Some(openat(from, name, flags, Mode::empty())?);
    }
    at.ok_or(Errno::NOENT)
}

fn or_dot(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

/// Looks at what was opened through its descriptor; the name is not used again.
fn examine(result: Result<OwnedFd, Errno>) -> Result<Opened, Failure> {
    let file = File::from(result.map_err(failure)?);
    let kind = file.metadata().map_err(Failure::Other)?.file_type();
    if kind.is_dir() {
        return Ok(Opened::Directory(Arc::new(file.into())));
    }
    if !kind.is_file() {
        return Err(failure(Errno::NOENT));
    }
    OpenFile::new(file)
        .map(Opened::File)
        .map_err(Failure::Other)
}

fn failure(errno: Errno) -> Failure {
    match errno {
        Errno::ACCESS | Errno::PERM => Failure::Forbidden(errno.into()),
        // ENXIO: a socket, or a device without a driver. ELOOP and EXDEV: links that go round or
        // out of the root.
        Errno::NOENT
        | Errno::NOTDIR
        | Errno::NAMETOOLONG
        | Errno::NXIO
        | Errno::NODEV
        | Errno::LOOP
        | Errno::XDEV => Failure::NotFound(errno.into()),
        Errno::MFILE | Errno::NFILE | Errno::NOMEM => Failure::Overloaded(errno.into()),
        errno => Failure::Other(errno.into()),
    }
}

impl Failure {
    /// Whether asking again may help.
    fn may_pass(&self) -> bool {
        match self {
            Self::Overloaded(error) => matches!(
                Errno::from_io_error(error),
                Some(Errno::MFILE | Errno::NFILE)
            ),
            Self::WouldWait => true,
            Self::Forbidden(_) | Self::NotFound(_) | Self::Other(_) => false,
        }
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Forbidden(error)
            | Failure::NotFound(error)
            | Failure::Overloaded(error)
            | Failure::Other(error) => error,
            Failure::WouldWait => io::ErrorKind::WouldBlock.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(dir.path().join("secret"), "secret").unwrap();
        std::fs::write(root.join("sub/file"), "inside").unwrap();
        symlink("sub/file", root.join("inside-link")).unwrap();
        symlink("../../secret", root.join("sub/outside-link")).unwrap();
        symlink("/etc/passwd", root.join("absolute-link")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("round", root.join("round")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, root.join("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
        dir
    }

    fn roots(dir: &tempfile::TempDir) -> [Root; 2] {
        let open = || Root::open(dir.path().join("root")).unwrap();
        let mut walking = open();
        walking.way = Way::Walk;
        [open(), walking]
    }

    #[test]
    fn nothing_outside_the_root_is_opened_either_way() {
        let dir = tree();
        for root in roots(&dir) {
            for path in [
                "sub/outside-link",
                "absolute-link",
                "up/secret",
                "up",
                "round",
                "../secret",
                "/etc/passwd",
                "fifo",
                "missing",
                "sub/file/below",
            ] {
                let result = root.look_up(Path::new(path), Patience::MayWait);
                assert!(
                    matches!(result, Err(Failure::NotFound(_))),
                    "{:?} {path}: {result:?}",
                    root.way
                );
            }
        }
    }

    #[test]
    fn files_and_directories_inside_are_opened_either_way() {
        let dir = tree();
        for root in roots(&dir) {
            let file = Path::new("sub/file");
            let opened = root.look_up(file, Patience::MayWait).unwrap();
            assert!(matches!(opened, Opened::File(file) if file.len() == 6));
            for path in ["", "sub"] {
                let opened = root.look_up(Path::new(path), Patience::MayWait).unwrap();
                assert!(matches!(opened, Opened::Directory(_)), "{path}");
            }
        }
    }

    #[test]
    fn links_inside_are_followed_by_openat2_only_and_only_if_allowed() {
        let dir = tree();
        let [beneath, walking] = roots(&dir);
        let open = |root: &Root| root.look_up(Path::new("inside-link"), Patience::MayWait);
        assert!(matches!(open(&beneath), Ok(Opened::File(_))));
        let refusing = beneath.symlinks(Symlinks::Refuse);
        assert!(matches!(open(&refusing), Err(Failure::NotFound(_))));
        assert!(matches!(open(&walking), Err(Failure::NotFound(_))));
    }

    #[test]
    fn dots_are_normalised_and_climbing_is_refused() {
        for (path, normal) in [
            ("a/./b", Some("a/b")),
            ("a/../b", Some("b")),
            ("a/b/../../c", Some("c")),
            (".", Some("")),
            ("..", None),
            ("a/../../b", None),
            ("/etc", None),
        ] {
            assert_eq!(
                normalised(Path::new(path)).as_deref(),
                normal.map(Path::new)
            );
        }
    }
}
