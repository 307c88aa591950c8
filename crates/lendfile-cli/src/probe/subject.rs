//! What the abilities are tried on: a directory, a file on its filesystem, a ring.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create, open, openat};

/// Bytes of the file that are sent: more than one page, less than any socket's buffers hold, so
/// that sending them cannot block.
const SAMPLE_BYTES: usize = 8192;

/// Directory entries to look at before giving up on finding a file.
const MAX_ENTRIES: usize = 1000;

/// What everything is tried on.
#[derive(Debug)]
pub(super) struct Subject {
    /// As the user named it.
    pub(super) path: PathBuf,
    /// The directory, opened.
    pub(super) directory: OwnedFd,
    /// The file that is sent.
    pub(super) file: File,
    /// How the file was come by.
    pub(super) origin: String,
    /// What its first bytes are, as read(2) gives them: what every other way must deliver.
    pub(super) bytes: Vec<u8>,
    /// What io_uring can do here.
    pub(super) uring: lendfile_uring::Probe,
}

impl Subject {
    /// Opens the directory and chooses a file.
    ///
    /// A file that is there already is the best witness (its owner and filesystem are those of
    /// what will be served), then an unnamed one in the directory, then memory.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let directory = open(
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let (file, origin) = first_file(path, &directory)
            .map(|(file, name)| (file, format!("{name:?}, found there")))
            .or_else(|| {
                let file = unnamed_file(&directory).ok()?;
                Some((file, "a temporary, unnamed one there".to_owned()))
            })
            .map_or_else(
                || Ok::<_, io::Error>((memory_file()?, "in memory (memfd), none there".to_owned())),
                Ok,
            )?;
        let mut bytes = vec![0; SAMPLE_BYTES];
        let length = file.read_at(&mut bytes, 0)?;
        bytes.truncate(length);
        Ok(Self {
            path: path.to_owned(),
            directory,
            file,
            origin,
            bytes,
            uring: lendfile_uring::probe(),
        })
    }
}

/// The first regular, readable file with something in it.
fn first_file(path: &Path, directory: &OwnedFd) -> Option<(File, String)> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    fs::read_dir(path)
        .ok()?
        .take(MAX_ENTRIES)
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .find_map(|entry| {
            let name = entry.file_name();
            let file = File::from(openat(directory, &name, flags, Mode::empty()).ok()?);
            let has_bytes = file.read_at(&mut [0], 0).is_ok_and(|count| count > 0);
            has_bytes.then(|| (file, name.to_string_lossy().into_owned()))
        })
}

/// A file without a name: it leaves nothing behind, however the probe ends.
fn unnamed_file(directory: &OwnedFd) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    filled(openat(directory, ".", flags, Mode::RUSR | Mode::WUSR)?)
}

fn memory_file() -> io::Result<File> {
    filled(memfd_create("lendfile-probe", MemfdFlags::CLOEXEC)?)
}

/// Writes bytes that differ from page to page.
fn filled(file: OwnedFd) -> io::Result<File> {
    let mut file = File::from(file);
    let bytes: Vec<u8> = (0..=250).cycle().take(SAMPLE_BYTES).collect();
    file.write_all(&bytes)?;
    Ok(file)
}
