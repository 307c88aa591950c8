//! Filesystems to test on, each mounted for one test and gone with it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lendfile_core::lent::residency;
use tempfile::TempDir;

use crate::process;

/// What can be mounted. `Here` is the filesystem of the temporary directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An image with btrfs.
    Btrfs,
    /// An image with ext4.
    Ext4,
    /// A FUSE server of one file, `file`, in a process of its own.
    Fuse,
    /// Where temporary files are.
    Here,
    /// A directory on the filesystem of the temporary directory, below an empty one.
    Overlay,
    /// Memory.
    Tmpfs,
    /// An image with XFS.
    Xfs,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Btrfs,
        Self::Ext4,
        Self::Fuse,
        Self::Here,
        Self::Overlay,
        Self::Tmpfs,
        Self::Xfs,
    ];

    /// The name in `LENDFILE_REQUIRE`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Btrfs => "btrfs",
            Self::Ext4 => "ext4",
            Self::Fuse => "fuse",
            Self::Here => "here",
            Self::Overlay => "overlay",
            Self::Tmpfs => "tmpfs",
            Self::Xfs => "xfs",
        }
    }
}

/// A mounted filesystem; unmounted when dropped.
#[derive(Debug)]
pub struct Mount {
    dir: TempDir,
    /// Where files can be made, and are seen under the mount.
    pub source: PathBuf,
    /// The mount.
    pub path: PathBuf,
    mounted: bool,
    server: Option<Server>,
}

/// A filesystem of its own that holds 1 MiB; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// Mounts one; `None`, with the reason printed, where that is not allowed.
    ///
    /// # Panics
    ///
    /// If `LENDFILE_REQUIRE` contains `mount` and it is not allowed.
    pub fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(dir.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(dir)),
            Ok(output) => {
                process::skip("mount", &String::from_utf8_lossy(&output.stderr));
                None
            }
            Err(error) => {
                process::skip("mount", &format!("mount: {error}"));
                None
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        _ = Command::new("umount").arg(self.path()).status();
    }
}

/// A FUSE filesystem of which nobody answers anything; gone when dropped.
#[derive(Debug)]
pub struct HungMount {
    path: PathBuf,
    device: Option<File>,
}

impl HungMount {
    /// Mounts one on a directory; `None`, with the reason printed, where that is not allowed.
    ///
    /// # Panics
    ///
    /// If `LENDFILE_REQUIRE` contains `fuse` and it is not allowed.
    pub fn on(path: &Path) -> Option<Self> {
        match Self::try_on(path) {
            Ok(mount) => Some(mount),
            Err(why) => {
                process::skip(Kind::Fuse.name(), &why);
                None
            }
        }
    }

    fn try_on(path: &Path) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("/dev/fuse: {error}");
        let device = File::options().read(true).write(true).open("/dev/fuse");
        let device = device.map_err(failed)?;
        let mounted = Command::new("mount")
            .args(["-i", "-t", "fuse", "-o"])
            .args(["fd=0,rootmode=40000,user_id=0,group_id=0", "hung"])
            .arg(path)
            .stdin(device.try_clone().map_err(failed)?)
            .output()
            .map_err(|error| format!("mount: {error}"))?;
        match mounted.status.success() {
            true => Ok(Self {
                path: path.to_owned(),
                device: Some(device),
            }),
            false => Err(String::from_utf8_lossy(&mounted.stderr).trim().to_owned()),
        }
    }
}

impl Drop for HungMount {
    fn drop(&mut self) {
        // Nobody waits in the kernel for an answer after this.
        self.device = None;
        _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

/// A FUSE server, and the file that ends its connection.
#[derive(Debug)]
struct Server {
    child: Child,
    abort: PathBuf,
}

/// How the FUSE server reads.
#[derive(Clone, Copy, Debug)]
pub struct Fuse<'a> {
    /// Its program, `fuse-file`.
    pub program: &'a str,
    /// Milliseconds before each answer.
    pub delay_ms: u64,
    /// The byte from which on it answers with EIO.
    pub fails_at: u64,
    /// The byte at which it answers as if the file ended.
    pub ends_at: u64,
}

impl<'a> Fuse<'a> {
    /// One that reads all without delay.
    pub fn new(program: &'a str) -> Self {
        Self {
            program,
            delay_ms: 0,
            fails_at: u64::MAX,
            ends_at: u64::MAX,
        }
    }
}

impl Mount {
    /// Mounts one, or says why not; `fuse` is for [`Kind::Fuse`].
    ///
    /// # Panics
    ///
    /// If it cannot be mounted and `LENDFILE_REQUIRE` contains its name.
    pub fn new(kind: Kind, fuse: Fuse<'_>) -> Option<Self> {
        match Self::try_new(kind, fuse) {
            Ok(mount) => Some(mount),
            Err(why) => {
                process::skip(kind.name(), &why);
                None
            }
        }
    }

    fn try_new(kind: Kind, fuse: Fuse<'_>) -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let path = dir.path().join("mount");
        fs::create_dir(&path).map_err(|error| error.to_string())?;
        let mut mount = Self {
            source: path.clone(),
            path,
            mounted: false,
            server: None,
            dir,
        };
        let target = mount
            .path
            .to_str()
            .ok_or("a path that is not UTF-8")?
            .to_owned();
        let base = mount.dir.path().to_owned();
        match kind {
            Kind::Fuse => {
                mount.source = base.join("source");
                fs::create_dir(&mount.source).map_err(|error| error.to_string())?;
                mount.server = Some(Server::start(&mount, fuse)?);
            }
            Kind::Here => return Ok(mount),
            Kind::Tmpfs => run("mount", &["-t", "tmpfs", "tmpfs", &target])?,
            Kind::Overlay => {
                for part in ["lower", "upper", "work"] {
                    fs::create_dir(base.join(part)).map_err(|error| error.to_string())?;
                }
                let at = |part: &str| base.join(part).display().to_string();
                let options = format!(
                    "lowerdir={},upperdir={},workdir={}",
                    at("lower"),
                    at("upper"),
                    at("work")
                );
                run(
                    "mount",
                    &["-t", "overlay", "overlay", "-o", &options, &target],
                )?;
                mount.source = base.join("lower");
            }
            Kind::Btrfs | Kind::Ext4 | Kind::Xfs => {
                let image = base.join("image");
                let file = File::create(&image).map_err(|error| error.to_string())?;
                // The least that mkfs.xfs accepts; sparse.
                file.set_len(320 << 20).map_err(|error| error.to_string())?;
                let image = image.display().to_string();
                run(&format!("mkfs.{}", kind.name()), &["-q", &image])?;
                run("mount", &["-o", "loop", &image, &target])?;
            }
        }
        mount.mounted = true;
        Ok(mount)
    }

    /// Lets everybody in.
    ///
    /// # Panics
    ///
    /// If the permissions cannot be set.
    pub fn open_to_all(&self) {
        use std::os::unix::fs::PermissionsExt;
        // The FUSE server lets everybody in and nobody change anything.
        let mount = self.server.is_none().then_some(&*self.path);
        for path in [self.dir.path(), &self.source].into_iter().chain(mount) {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("permissions");
        }
    }
}

impl Server {
    fn start(mount: &Mount, fuse: Fuse<'_>) -> Result<Self, String> {
        let source = mount.source.join("file");
        File::create(&source).map_err(|error| error.to_string())?;
        let mut child = Command::new(fuse.program)
            .args([&source, &mount.path])
            .args([fuse.delay_ms, fuse.fails_at, fuse.ends_at].map(|number| number.to_string()))
            // It ends, and unmounts, at the end of this process, whatever that is: signals to
            // the whole group must not end it before.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", fuse.program))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            _ = BufReader::new(stdout).read_line(&mut line);
        }
        if line != "mounted\n" {
            _ = child.kill();
            _ = child.wait();
            return Err("/dev/fuse cannot be had or mounted".to_owned());
        }
        // A connection's number is its device's.
        let device = fs::metadata(&mount.path).map_err(|error| error.to_string());
        let number = device.map(|metadata| rustix::fs::minor(metadata.dev()));
        Ok(Self {
            child,
            abort: format!("/sys/fs/fuse/connections/{}/abort", number.unwrap_or(0)).into(),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nobody waits in the kernel for an answer after this. Without the file, the server's end
        // does the same.
        _ = fs::write(&self.abort, "1");
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.server = None;
        if self.mounted {
            _ = Command::new("umount").arg("-l").arg(&self.path).status();
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

/// Drops a file's pages from the page cache that are written back, whoever asks.
///
/// # Panics
///
/// If it cannot be opened.
pub fn forget(path: &Path) {
    let file = File::open(path).expect("the file");
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advice");
}

/// Writes a file back and drops its pages from the page cache, as far as its filesystem can; says
/// whether most of them are gone.
///
/// # Panics
///
/// If it cannot be opened or asked, which its owner can.
pub fn make_cold(path: &Path) -> bool {
    let file = File::open(path).expect("the file");
    file.sync_all().expect("writing it back");
    forget(path);
    let len = usize::try_from(file.metadata().expect("metadata").len()).expect("a length");
    let pages = residency::mincore(&file, 0, len).expect("the pages there");
    pages < (len / rustix::param::page_size() / 2) as u64
}
