//! The ways of sending a file, by name.

use std::fmt;
use std::str::FromStr;

use crate::{Error, ErrorKind};

/// A way of sending file bytes over a socket.
///
/// Which of them can be had depends on the backend and the machine
/// ([`Capabilities`](crate::Capabilities)): those that begin with `Ring` need io_uring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// The best way for the file, the socket and the machine. A choice only: what was used is
    /// reported as one of the others.
    #[default]
    Auto,
    /// `pread(2)` into a buffer, `send(2)` from it: one copy by CPU in, one out. Works everywhere.
    Copy,
    /// `send(2)` from a mapping of the file: one copy by CPU. The last page of a region is read
    /// and sent apart, as [`Copy`](Method::Copy), since nothing but `read` tells a page's zeros
    /// from those behind the end of a file that has become shorter.
    Mmap,
    /// Reads into buffers registered with a ring and sends from them: one copy in, one out. Receiving
    /// to a file, the other way round.
    RingFixed,
    /// A ring's splice from file to pipe, which waits for the disk; `splice(2)` from pipe to
    /// socket.
    RingHybrid,
    /// A ring's splice from file to pipe and from pipe to socket.
    RingSplice,
    /// `sendfile(2)`: pages go from the page cache to the socket by reference.
    Sendfile,
    /// `splice(2)` from file to pipe and from pipe to socket: pages go by reference.
    Splice,
}

impl Method {
    /// Every method that can be asked for, `Auto` first.
    pub const ALL: &'static [Self] = &[
        Self::Auto,
        Self::Copy,
        Self::Mmap,
        Self::RingFixed,
        Self::RingHybrid,
        Self::RingSplice,
        Self::Sendfile,
        Self::Splice,
    ];

    /// How many there are; an index made by [`Method::index`] is below it.
    pub(crate) const COUNT: usize = Self::ALL.len();

    /// The name used on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Copy => "copy",
            Self::Mmap => "mmap",
            Self::RingFixed => "ring-fixed",
            Self::RingHybrid => "ring-hybrid",
            Self::RingSplice => "ring-splice",
            Self::Sendfile => "sendfile",
            Self::Splice => "splice",
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL
            .iter()
            .copied()
            .find(|method| method.name() == name)
            .ok_or_else(|| Error::new(ErrorKind::Misuse, format!("no method is named {name:?}")))
    }
}

/// A set of methods.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct MethodSet(u16);

impl MethodSet {
    /// The set without a member.
    pub const EMPTY: Self = Self(0);

    /// This set and `method`.
    #[must_use]
    pub const fn with(self, method: Method) -> Self {
        Self(self.0 | 1 << method as u8)
    }

    /// What is in this set or in `other`.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `method` is in it.
    pub const fn contains(self, method: Method) -> bool {
        self.0 & (1 << method as u8) != 0
    }

    /// The members, in the order of [`Method::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Method> {
        Method::ALL
            .iter()
            .copied()
            .filter(move |method| self.contains(*method))
    }

    pub(crate) const fn bits(self) -> u16 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }
}

impl fmt::Debug for MethodSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
