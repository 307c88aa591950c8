//! Lent bytes: `Bytes` whose memory is an untouched mapping of a file, and the way back from an
//! address to the file.
//!
//! All mappings live in one reserved range of addresses, the arena, so that "is this slice lent?"
//! is two compares. Reading lent bytes is always allowed and gives the file's content; when a page
//! of it is gone (the file was truncated, the disk failed), the guard puts a page of zeros in its
//! place and marks the mapping [poisoned](Mapping::is_poisoned) instead of letting `SIGBUS` kill
//! the process. The guard is installed with the first mapping; before that nothing is reserved
//! and no handler is set.
//!
//! What cannot be promised: lent bytes are memory that another process may write by writing to
//! the file. Like every file mapping in Rust, that is a shared `&[u8]` only as long as nobody does;
//! this module itself never reads one. Whoever serves files that are overwritten in place and
//! reads them in middleware should have them copied instead.

mod arena;
mod mapping;
pub mod residency;
#[allow(
    unsafe_code,
    reason = "the only unsafe room of this crate: mapping memory, the SIGBUS handler, raw system calls"
)]
mod sys;

use std::fmt;
use std::io;

pub use arena::{AlreadyReserved, ArenaOptions, arena_options, poisonings};
pub use mapping::{Lent, Mapping, find};
use rustix::io::Errno;
pub(crate) use sys::{SocketOption, set_socket_option, socket_option, trim_heap};

/// Why a region cannot be lent. Never a reason to fail: the caller streams owned chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CannotLend {
    /// The file has nothing to map.
    Empty,
    /// `mmap` refused: too many mappings (`vm.max_map_count`), `RLIMIT_AS`, no memory, or a
    /// filesystem without it.
    MapRefused(Errno),
    /// Every slot that is large enough is taken.
    NoRoom,
    /// The address range could not be reserved at all.
    NotReserved,
    /// A page of the file's mapping has been found missing: it is not the file that was opened.
    Poisoned,
    /// The file is larger than the largest slot.
    TooLarge,
    /// The filesystem's pages are not ordinary ones (hugetlbfs): the guard could not replace one.
    UnsupportedFilesystem,
}

impl CannotLend {
    /// The names of all reasons.
    pub const NAMES: [&str; 7] = [
        "empty",
        "map_refused",
        "no_room",
        "not_reserved",
        "poisoned",
        "too_large",
        "unsupported_filesystem",
    ];

    /// The name used in metrics.
    pub fn name(self) -> &'static str {
        Self::NAMES[self.index()]
    }

    pub(crate) fn index(self) -> usize {
        match self {
            Self::Empty => 0,
            Self::MapRefused(_) => 1,
            Self::NoRoom => 2,
            Self::NotReserved => 3,
            Self::Poisoned => 4,
            Self::TooLarge => 5,
            Self::UnsupportedFilesystem => 6,
        }
    }
}

impl fmt::Display for CannotLend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the file is empty"),
            Self::MapRefused(errno) => {
                write!(f, "mapping the file: {}", io::Error::from(*errno))
            }
            Self::NoRoom => f.write_str("every slot of the arena is taken"),
            Self::NotReserved => f.write_str("no address range could be reserved"),
            Self::Poisoned => f.write_str("the file has lost pages since it was opened"),
            Self::TooLarge => f.write_str("the file is larger than the arena's largest slot"),
            Self::UnsupportedFilesystem => f.write_str("the filesystem has pages of its own size"),
        }
    }
}

impl std::error::Error for CannotLend {}
