//! Test files: random bytes, none of them zero, wholly in the page cache, gone with the directory.
//!
//! None zero, so that a page of zeros sent by mistake (a hole, a truncated mapping) changes the
//! digest of every file and can be told from content.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::client::Digest;
use crate::{Error, Result};

/// Bytes per write. Large writes give large folios in the page cache, as a file has that was read
/// ahead.
const WRITE_BYTES: usize = 1 << 20;

/// A directory of test files, removed on drop. It is made where temporary files go (`TMPDIR`),
/// which should be a disk's filesystem: on tmpfs other code sends the pages.
#[derive(Debug)]
pub struct TestFiles {
    directory: TempDir,
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
    /// Makes an empty directory.
    ///
    /// # Errors
    ///
    /// [`crate::Kind::System`] if it cannot be made.
    pub fn new() -> Result<Self> {
        tempfile::Builder::new()
            .prefix("lendfile-bench-")
            .tempdir()
            .map(|directory| Self { directory })
            .map_err(|error| Error::system("making a directory for test files", error))
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file of `length` bytes and waits until they are on the disk, so that no writeback
    /// runs beside the measurement. They stay in the page cache.
    ///
    /// # Errors
    ///
    /// [`crate::Kind::System`] if it cannot be written.
    pub fn create(&self, length: u64) -> Result<TestFile> {
        let name = format!("{length}.bin");
        let failed = |error| Error::system(format!("writing a test file of {length} bytes"), error);
        let mut file = File::create(self.directory().join(&name)).map_err(failed)?;
        let mut hasher = Sha256::new();
        let mut random = Random(length.wrapping_add(0x9e37_79b9_7f4a_7c15));
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
            name,
            digest: Digest {
                length,
                sha256: hasher.finalize().into(),
            },
        })
    }
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
