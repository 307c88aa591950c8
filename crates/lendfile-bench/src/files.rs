//! Test files: random bytes, none of them zero, wholly in the page cache, gone with the directory.
//!
//! None zero, so that a page of zeros sent by mistake (a hole, a truncated mapping) changes the
//! digest of every file and can be told from content.

use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::client::{Digest, Target};
use crate::{Error, Result};

/// Bytes per write. Large writes give large folios in the page cache, as a file has that was read
/// ahead.
const WRITE_BYTES: usize = 1 << 20;

/// A directory of test files, removed on drop. It is made where temporary files go (`TMPDIR`),
/// which should be a disk's filesystem: on tmpfs other code sends the pages.
#[derive(Debug)]
pub struct TestFiles {
    directory: PathBuf,
    /// For what contestants write; not served, and gone with this.
    scratch: TempDir,
    /// Where the files are, unless they are somebody's own.
    _made: Option<TempDir>,
}

/// A test file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TestFile {
    /// Its name in the directory.
    pub name: String,
    /// What a client must get.
    pub digest: Digest,
}

impl TestFiles {
    /// Makes an empty directory, where temporary files go.
    ///
    /// # Errors
    ///
    /// [`crate::Kind::System`] if it cannot be made.
    pub fn new() -> Result<Self> {
        Self::inside(&std::env::temp_dir())
    }

    /// Makes an empty directory inside `parent`, to measure that filesystem.
    ///
    /// # Errors
    ///
    /// [`crate::Kind::System`] if it cannot be made.
    pub fn inside(parent: &Path) -> Result<Self> {
        let made = temporary(parent)?;
        Ok(Self {
            directory: made.path().to_owned(),
            scratch: temporary(&std::env::temp_dir())?,
            _made: Some(made),
        })
    }

    /// A directory that is there already. Nothing in it is written to.
    ///
    /// # Errors
    ///
    /// [`crate::Kind::System`] if there is no room for what contestants write.
    pub fn existing(directory: &Path) -> Result<Self> {
        Ok(Self {
            directory: directory.to_owned(),
            scratch: temporary(&std::env::temp_dir())?,
            _made: None,
        })
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A directory for what contestants write.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// The regular files of the directory that can be read and whose names need no escaping in a
    /// URL, by name, at most `most`; empty ones and those whose names begin with a dot are left
    /// out. All of them are read once, so they are in the page cache as far as it holds them.
    ///
    /// # Errors
    ///
    /// [`crate::Kind::System`] if the directory cannot be read.
    pub fn find(&self, most: usize) -> Result<Vec<TestFile>> {
        let failed = |error| {
            Error::system(
                format!("reading the directory {}", self.directory.display()),
                error,
            )
        };
        let mut names: Vec<String> = std::fs::read_dir(&self.directory)
            .map_err(failed)?
            .flatten()
            .filter(|entry| {
                entry
                    .metadata()
                    .is_ok_and(|it| it.is_file() && it.len() > 0)
            })
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.') && name.bytes().all(is_unreserved))
            .collect();
        names.sort();
        let readable = |name: String| {
            let digest = digest_of(&self.directory.join(&name)).ok()?;
            Some(TestFile { name, digest })
        };
        Ok(names.into_iter().filter_map(readable).take(most).collect())
    }

    /// Writes a file of `length` bytes and waits until they are on the disk, so that no writeback
    /// runs beside the measurement. They stay in the page cache.
    ///
    /// # Errors
    ///
    /// [`crate::Kind::System`] if it cannot be written.
    pub fn create(&self, length: u64) -> Result<TestFile> {
        self.create_named(&format!("{length}.bin"), length)
    }

    /// As [`TestFiles::create`], under a name of the caller's, which the content depends on.
    ///
    /// # Errors
    ///
    /// [`crate::Kind::System`] if it cannot be written.
    pub fn create_named(&self, name: &str, length: u64) -> Result<TestFile> {
        let failed = |error| Error::system(format!("writing a test file of {length} bytes"), error);
        let mut file = File::create(self.directory().join(name)).map_err(failed)?;
        let mut hasher = Sha256::new();
        let seed = name.bytes().fold(length, |seed, byte| {
            seed.wrapping_mul(31).wrapping_add(byte.into())
        });
        let mut random = Random(seed.wrapping_add(0x9e37_79b9_7f4a_7c15) | 1);
        let mut block = vec![0; WRITE_BYTES];
        let mut remaining = length;
        while remaining > 0 {
            let count = usize::try_from(remaining).map_or(WRITE_BYTES, |all| all.min(WRITE_BYTES));
            random.fill(&mut block);
            file.write_all(&block[..count]).map_err(failed)?;
            hasher.update(&block[..count]);
            remaining -= count as u64;
        }
        file.sync_all().map_err(failed)?;
        Ok(TestFile {
            name: name.to_owned(),
            digest: Digest {
                length,
                sha256: hasher.finalize().into(),
            },
        })
    }
}

impl TestFile {
    /// The path by which it is asked for.
    pub fn request_path(&self) -> String {
        format!("/{}", self.name)
    }

    /// What a client asks for.
    pub fn as_target(&self) -> Target {
        Target {
            path: self.request_path(),
            length: self.digest.length,
        }
    }
}

fn temporary(parent: &Path) -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix("lendfile-bench-")
        // Contestants may run as other users.
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in(parent)
        .map_err(|error| {
            Error::system(format!("making a directory in {}", parent.display()), error)
        })
}

/// RFC 3986, section 2.3: needs no escaping anywhere.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn digest_of(path: &Path) -> std::io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; WRITE_BYTES];
    let mut length = 0;
    loop {
        let count = file.read(&mut block)?;
        if count == 0 {
            break;
        }
        hasher.update(&block[..count]);
        length += count as u64;
    }
    Ok(Digest {
        length,
        sha256: hasher.finalize().into(),
    })
}

/// xorshift64: fast, repeatable, and random enough that no two pages are alike.
struct Random(u64);

impl Random {
    fn fill(&mut self, block: &mut [u8]) {
        for bytes in block.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            // No byte is zero.
            let word = (self.0 | 0x0101_0101_0101_0101).to_le_bytes();
            bytes.copy_from_slice(&word[..bytes.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_there_are_found_with_their_digests() {
        let made = TestFiles::new().unwrap();
        let (b, a) = (
            made.create_named("b", 5).unwrap(),
            made.create_named("a", 7).unwrap(),
        );
        for name in [".hidden", "needs escaping", "empty"] {
            made.create_named(name, u64::from(name != "empty")).unwrap();
        }
        std::fs::create_dir(made.directory().join("directory")).unwrap();
        let found = TestFiles::existing(made.directory())
            .unwrap()
            .find(9)
            .unwrap();
        let found: Vec<_> = found.iter().map(|f| (&*f.name, f.digest)).collect();
        assert_eq!(found, [("a", a.digest), ("b", b.digest)]);
        assert_eq!(made.find(1).unwrap().len(), 1);
        assert_ne!(
            a.digest.sha256,
            made.create_named("c", 7).unwrap().digest.sha256
        );
    }

    #[test]
    fn a_file_has_its_length_its_digest_and_no_zero_byte() {
        let files = TestFiles::new().unwrap();
        for length in [0, 1, 4097, (WRITE_BYTES + 13) as u64] {
            let file = files.create(length).unwrap();
            let content = std::fs::read(files.directory().join(&file.name)).unwrap();
            assert_eq!(content.len() as u64, length);
            assert!(!content.contains(&0));
            assert_eq!(
                file.digest.sha256,
                <[u8; 32]>::from(Sha256::digest(&content))
            );
        }
    }
}
