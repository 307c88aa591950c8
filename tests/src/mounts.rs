//! Filesystems to test on, each mounted for one test and gone with it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process;

/// What can be mounted. `Here` is the filesystem of the temporary directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An image with btrfs.
    Btrfs,
    /// An image with ext4.
    Ext4,
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
    pub const ALL: [Self; 6] = [
        Self::Btrfs,
        Self::Ext4,
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
}

impl Mount {
    /// Mounts one, or says why not.
    ///
    /// # Panics
    ///
    /// If it cannot be mounted and `LENDFILE_REQUIRE` contains its name.
    pub fn new(kind: Kind) -> Option<Self> {
        match Self::try_new(kind) {
            Ok(mount) => Some(mount),
            Err(why) => {
                process::skip(kind.name(), &why);
                None
            }
        }
    }

    fn try_new(kind: Kind) -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let path = dir.path().join("mount");
        fs::create_dir(&path).map_err(|error| error.to_string())?;
        let mut mount = Self {
            source: path.clone(),
            path,
            mounted: false,
            dir,
        };
        let target = mount
            .path
            .to_str()
            .ok_or("a path that is not UTF-8")?
            .to_owned();
        let base = mount.dir.path().to_owned();
        match kind {
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
        for path in [self.dir.path(), &self.path, &self.source] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("permissions");
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
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

/// Writes a file back and drops its pages from the page cache, as far as its filesystem can.
///
/// # Panics
///
/// If it cannot be opened.
pub fn make_cold(path: &Path) {
    let file = File::open(path).expect("the file");
    file.sync_all().expect("writing it back");
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advice");
}
