//! The page cache: taking a file out of it, and checking that it is gone.

use std::fs::File;
use std::io::IoSliceMut;
use std::path::Path;

use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::{Error, Result};

/// How many places of a file are looked at.
const PROBES: u64 = 64;

/// How often it is tried: pages that are being written back, or read ahead, stay at first.
const ATTEMPTS: usize = 20;

/// Takes a file's pages out of the page cache, by `posix_fadvise(DONTNEED)`, and looks at 64 places
/// whether they are gone, by `preadv2(RWF_NOWAIT)`.
///
/// # Errors
///
/// [`crate::Kind::Unavailable`] if the pages stay, or if the filesystem cannot say (overlayfs and
/// FUSE refuse `RWF_NOWAIT`): a race over cold files would then mean nothing.
pub fn drop_pages(path: &Path) -> Result<()> {
    let what = |doing: &str| format!("{doing} {}", path.display());
    let file = File::open(path).map_err(|error| Error::system(what("opening"), error))?;
    let length = file
        .metadata()
        .map_err(|error| Error::system(what("looking at"), error))?
        .len();
    for _ in 0..ATTEMPTS {
        // Dirty pages are not dropped.
        file.sync_data()
            .and_then(|()| fadvise(&file, 0, None, Advice::DontNeed).map_err(Into::into))
            .map_err(|error| Error::system(what("dropping the pages of"), error))?;
        if resident(&file, length).map_err(|errno| {
            Error::unavailable(format!(
                "{}: {errno}; use a directory on ext4 or xfs",
                what("this filesystem cannot say what is cached of")
            ))
        })? == 0
        {
            // What the probes have made the kernel read ahead.
            return fadvise(&file, 0, None, Advice::DontNeed)
                .map_err(|errno| Error::system(what("dropping the pages of"), errno));
        }
    }
    Err(Error::unavailable(what("the page cache keeps pages of")))
}

/// How many of the probed places are in the page cache. A probe that misses starts a readahead, so
/// this goes backwards, where none runs into the next probe.
fn resident(file: &File, length: u64) -> rustix::io::Result<usize> {
    let mut found = 0;
    let step = (length / PROBES).max(1);
    let mut offset = length;
    while offset > 0 {
        offset = offset.saturating_sub(step);
        let mut byte = [0];
        let mut bufs = [IoSliceMut::new(&mut byte)];
        match preadv2(file, &mut bufs, offset, ReadWriteFlags::NOWAIT) {
            Ok(_) => found += 1,
            Err(Errno::AGAIN) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::TestFiles;

    #[test]
    fn a_file_is_cached_after_writing_and_not_after_dropping() {
        let files = TestFiles::new().unwrap();
        let file = files.create(3 << 20).unwrap();
        let path = files.directory().join(&file.name);
        let cached = resident(&File::open(&path).unwrap(), 3 << 20);
        match drop_pages(&path) {
            Ok(()) => assert!(cached.unwrap() > 0, "nothing was cached before"),
            Err(error) => crate::skip("cold", &error.to_string()),
        }
    }
}
