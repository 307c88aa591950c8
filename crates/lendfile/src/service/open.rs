//! Opening below a root, and never outside of it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};
use std::sync::Arc;

use lendfile_core::OpenFile;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// How often a path is tried again that was being renamed while it was looked up.
const RENAME_RETRIES: u32 = 128;

/// For reading. NONBLOCK: a FIFO must not hang the server. NOCTTY: nor a terminal become its own.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

/// The directory that is served. Paths are resolved from its descriptor, so it may be renamed.
#[derive(Debug)]
pub(super) struct Root {
    directory: OwnedFd,
    way: Way,
}

/// How paths are kept inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// `openat2(2)` with `RESOLVE_BENEATH`.
    Beneath,
    /// One `openat(2)` a component, with `O_NOFOLLOW`.
    Walk,
}

/// What a path led to.
#[derive(Clone, Debug)]
pub(super) enum Opened {
    Directory,
    File(Arc<OpenFile>),
}

/// Why nothing was opened.
#[derive(Debug)]
pub(super) enum Failure {
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 503: out of descriptors or memory.
    Overloaded(io::Error),
    /// 500
    Other(io::Error),
}

impl Root {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
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
        Ok(Self { directory, way })
    }

    /// Opens `path`, which has no `..`, from memory only: `None` if the disk would be waited for.
    pub(super) fn open_cached(&self, path: &Path) -> Option<Result<Opened, Failure>> {
        match self.way {
            Way::Beneath => match beneath(self.directory.as_fd(), path, ResolveFlags::CACHED) {
                // Also when CACHED is unknown (before 5.12).
                Err(Errno::AGAIN | Errno::INVAL) => None,
                result => Some(examine(result)),
            },
            Way::Walk => None,
        }
    }

    /// Opens `path`, which has no `..`; may wait for the disk.
    pub(super) fn open_blocking(&self, path: &Path) -> Result<Opened, Failure> {
        examine(match self.way {
            Way::Beneath => beneath(self.directory.as_fd(), path, ResolveFlags::empty()),
            Way::Walk => walk(self.directory.as_fd(), path),
        })
    }
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
        return Ok(Opened::Directory);
    }
    if !kind.is_file() {
        return Err(Failure::NotFound);
    }
    OpenFile::new(file)
        .map(Opened::File)
        .map_err(Failure::Other)
}

fn failure(errno: Errno) -> Failure {
    match errno {
        Errno::ACCESS | Errno::PERM => Failure::Forbidden,
        // ENXIO: a socket, or a device without a driver. ELOOP and EXDEV: links that go round or
        // out of the root.
        Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::NXIO | Errno::NODEV => {
            Failure::NotFound
        }
        Errno::LOOP | Errno::XDEV => Failure::NotFound,
        Errno::MFILE | Errno::NFILE | Errno::NOMEM => Failure::Overloaded(errno.into()),
        errno => Failure::Other(errno.into()),
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
        let open = || Root::open(&dir.path().join("root")).unwrap();
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
                let result = root.open_blocking(Path::new(path));
                assert!(
                    matches!(result, Err(Failure::NotFound)),
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
            let opened = root.open_blocking(Path::new("sub/file")).unwrap();
            assert!(matches!(opened, Opened::File(file) if file.len() == 6));
            for path in ["", "sub"] {
                let opened = root.open_blocking(Path::new(path)).unwrap();
                assert!(matches!(opened, Opened::Directory), "{path}");
            }
        }
    }

    #[test]
    fn links_inside_are_followed_by_openat2_only() {
        let dir = tree();
        let [beneath, walking] = roots(&dir);
        let path = Path::new("inside-link");
        assert!(matches!(beneath.open_blocking(path), Ok(Opened::File(_))));
        assert!(matches!(
            walking.open_blocking(path),
            Err(Failure::NotFound)
        ));
    }
}
