//! What is in a directory, read once and kept compactly: 24 bytes and the name for each entry.
//!
//! To be sorted, a directory must be in memory. Two bounds hold: of one directory at most
//! [`MOST_BYTES`] are read, which is 100,000 entries of the longest names or half a million of
//! usual ones; what is beyond is left out, and the page says so. All listings that are being made
//! or sent take [`ALL_BYTES`]; who comes then gets 503.

use std::cmp::Reverse;
use std::hash::{Hash, Hasher};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{AtFlags, Dir, FileType, Stat, statat};
use rustix::io::Errno;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::order::natural;
use super::wanted::{Order, Sort, Wanted};
use crate::service::path::Dotfiles;
use crate::service::root::{Failure, Opened, Patience, Root};

/// Of one directory.
const MOST_BYTES: usize = 32 << 20;

/// Of all listings at a time.
const ALL_BYTES: usize = 256 << 20;

/// What a semaphore counts.
const PERMIT_BYTES: usize = 64 << 10;

static MEMORY: Semaphore = Semaphore::const_new(ALL_BYTES / PERMIT_BYTES);

/// Seconds to the end of the year 9999, where dates of four digits end.
const LAST_SECOND: u64 = 253_402_300_799;

/// A directory's entries.
#[derive(Debug)]
pub(super) struct Entries {
    names: Vec<u8>,
    list: Vec<Entry>,
    cut: bool,
    memory: Memory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    /// Where its name is: `MOST_BYTES` fits.
    name_start: u32,
    name_len: u16,
    pub(super) kind: Kind,
    /// Of a file, in bytes.
    pub(super) len: u64,
    /// Seconds since the epoch.
    modified: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    // First in every order.
    Directory,
    File,
}

impl Entries {
    pub(super) fn new() -> Self {
        Self {
            names: Vec::new(),
            list: Vec::new(),
            cut: false,
            memory: Memory::of(&MEMORY),
        }
    }

    /// Reads it: the regular files and directories that the service would answer with. A symbolic
    /// link is what it leads to, if that is inside; otherwise it is left out, as are FIFOs, sockets
    /// and devices, since all these are 404. A file that may not be read is there: it is 403.
    pub(super) fn read(
        root: &Root,
        path: &Path,
        directory: &OwnedFd,
        dotfiles: Dotfiles,
    ) -> Result<Self, Failure> {
        let failed = |errno: Errno| Failure::Other(errno.into());
        let mut entries = Self::new();
        for found in Dir::read_from(directory).map_err(failed)? {
            let found = found.map_err(failed)?;
            let name = found.file_name().to_bytes();
            let hidden = match dotfiles {
                Dotfiles::Allow => matches!(name, b"." | b".."),
                Dotfiles::Hide => name.starts_with(b"."),
            };
            if hidden {
                continue;
            }
            let found = match found.file_type() {
                FileType::BlockDevice
                | FileType::CharacterDevice
                | FileType::Fifo
                | FileType::Socket => None,
                FileType::Symlink => behind_link(root, path, name),
                FileType::Directory | FileType::RegularFile | FileType::Unknown => {
                    // It may have gone since its name was read.
                    match statat(directory, found.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                        // Not every file system gives the type with the name.
                        Ok(stat) if is_link(&stat) => behind_link(root, path, name),
                        stat => stat.ok().and_then(|stat| of_stat(&stat)),
                    }
                }
            };
            let Some((kind, len, modified)) = found else {
                continue;
            };
            if entries.bytes() + name.len() + size_of::<Entry>() > MOST_BYTES {
                entries.cut = true;
                break;
            }
            entries.push(name, kind, len, modified)?;
        }
        entries.names.shrink_to_fit();
        entries.list.shrink_to_fit();
        Ok(entries)
    }

    pub(super) fn push(
        &mut self,
        name: &[u8],
        kind: Kind,
        len: u64,
        modified: i64,
    ) -> Result<(), Failure> {
        let (Ok(name_start), Ok(name_len)) =
            (u32::try_from(self.names.len()), u16::try_from(name.len()))
        else {
            // No file system has names of 64 KiB.
            return Ok(());
        };
        self.names.extend_from_slice(name);
        self.list.push(Entry {
            name_start,
            name_len,
            kind,
            len,
            modified,
        });
        let taken = self.names.capacity() + self.list.capacity() * size_of::<Entry>();
        self.memory.cover(taken)
    }

    fn bytes(&self) -> usize {
        self.names.len() + self.list.len() * size_of::<Entry>()
    }

    /// Directories come first whatever the order; what is equal is by name.
    pub(super) fn sort(&mut self, wanted: Wanted) {
        let Self { names, list, .. } = self;
        let by_name = |a: &Entry, b: &Entry| natural(a.name(names), b.name(names));
        let ascending = wanted.order == Order::Ascending;
        list.sort_unstable_by(|a, b| {
            let in_kind = || match (wanted.sort, ascending) {
                (Sort::Name, true) => by_name(a, b),
                (Sort::Name, false) => by_name(b, a),
                (Sort::Size, true) => a.len.cmp(&b.len),
                (Sort::Size, false) => Reverse(a.len).cmp(&Reverse(b.len)),
                (Sort::Modified, true) => a.modified.cmp(&b.modified),
                (Sort::Modified, false) => Reverse(a.modified).cmp(&Reverse(b.modified)),
            };
            a.kind
                .cmp(&b.kind)
                .then_with(in_kind)
                .then_with(|| by_name(a, b))
        });
    }

    /// The entry at a place, and its name.
    pub(super) fn get(&self, place: usize) -> Option<(&[u8], &Entry)> {
        let entry = self.list.get(place)?;
        Some((entry.name(&self.names), entry))
    }

    /// Whether the directory has more.
    pub(super) fn is_cut(&self) -> bool {
        self.cut
    }

    /// Directories, files, and these files' length.
    pub(super) fn totals(&self) -> (usize, usize, u64) {
        let files = || self.list.iter().filter(|entry| entry.kind == Kind::File);
        let count = files().count();
        let bytes = files().fold(0_u64, |sum, entry| sum.saturating_add(entry.len));
        (self.list.len() - count, count, bytes)
    }
}

impl Hash for Entries {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.names.hash(state);
        self.list.hash(state);
        self.cut.hash(state);
    }
}

impl Entry {
    fn name<'a>(&self, names: &'a [u8]) -> &'a [u8] {
        let start = self.name_start as usize;
        &names[start..start + usize::from(self.name_len)]
    }

    /// In UTC as RFC 3339 writes it; `None` before 1970 and after 9999.
    pub(super) fn modified_text(&self) -> Option<String> {
        let seconds = u64::try_from(self.modified).ok()?;
        (seconds <= LAST_SECOND).then(|| {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            humantime::format_rfc3339_seconds(time).to_string()
        })
    }
}

fn is_link(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
}

fn of_stat(stat: &Stat) -> Option<(Kind, u64, i64)> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Some((Kind::Directory, 0, stat.st_mtime)),
        FileType::RegularFile => {
            let len = u64::try_from(stat.st_size).ok()?;
            Some((Kind::File, len, stat.st_mtime))
        }
        _ => None,
    }
}

/// Through the root, as a request for it would be.
fn behind_link(root: &Root, path: &Path, name: &[u8]) -> Option<(Kind, u64, i64)> {
    use std::os::unix::ffi::OsStrExt;
    let path = path.join(std::ffi::OsStr::from_bytes(name));
    let stat = match root.look_up(&path, Patience::MayWait).ok()? {
        Opened::Directory(directory) => rustix::fs::fstat(directory.as_fd()),
        Opened::File(file) => rustix::fs::fstat(file.as_fd()),
    };
    of_stat(&stat.ok()?)
}

/// Its part of what all listings may take; given back when the last byte of the page is written.
#[derive(Debug)]
struct Memory {
    all: &'static Semaphore,
    bytes: usize,
    permits: Option<SemaphorePermit<'static>>,
}

impl Memory {
    fn of(all: &'static Semaphore) -> Self {
        Self {
            all,
            bytes: 0,
            permits: None,
        }
    }

    fn cover(&mut self, bytes: usize) -> Result<(), Failure> {
        if bytes <= self.bytes {
            return Ok(());
        }
        let more = (bytes - self.bytes).div_ceil(PERMIT_BYTES);
        let count = u32::try_from(more).unwrap_or(u32::MAX);
        let Ok(permit) = self.all.try_acquire_many(count) else {
            let all = "directory listings take all the memory they may";
            return Err(Failure::Overloaded(io::Error::other(all)));
        };
        match &mut self.permits {
            Some(permits) => permits.merge(permit),
            none => *none = Some(permit),
        }
        self.bytes += more * PERMIT_BYTES;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_as_small_as_is_said() {
        assert!(size_of::<Entry>() <= 24);
        assert!(MOST_BYTES / (size_of::<Entry>() + 255) >= 100_000);
    }

    #[test]
    fn memory_is_given_back_and_refused_beyond_the_bound() {
        // Not the one that other tests use at the same time.
        static ALL: Semaphore = Semaphore::const_new(ALL_BYTES / PERMIT_BYTES);
        let mut held = Vec::new();
        let refused = loop {
            let mut memory = Memory::of(&ALL);
            match memory.cover(MOST_BYTES) {
                Ok(()) => held.push(memory),
                Err(failure) => break failure,
            }
            assert!(held.len() * MOST_BYTES <= ALL_BYTES);
        };
        assert!(matches!(refused, Failure::Overloaded(_)));
        held.clear();
        let mut memory = Memory::of(&ALL);
        memory.cover(1).unwrap();
        assert_eq!(memory.bytes, PERMIT_BYTES);
        // Covered already.
        memory.cover(PERMIT_BYTES).unwrap();
        assert_eq!(memory.bytes, PERMIT_BYTES);
    }

    #[test]
    fn times_that_are_no_dates_are_left_out() {
        let mut entries = Entries::new();
        for modified in [0, -1, 253_402_300_799, 253_402_300_800, i64::MAX] {
            entries.push(b"x", Kind::File, 0, modified).unwrap();
        }
        let texts: Vec<_> = entries.list.iter().map(Entry::modified_text).collect();
        let date = |text: &str| Some(text.to_owned());
        assert_eq!(
            texts,
            [
                date("1970-01-01T00:00:00Z"),
                None,
                date("9999-12-31T23:59:59Z"),
                None,
                None
            ]
        );
    }
}
