//! The ways of sending a file, by name.

use std::fmt;
use std::str::FromStr;

use crate::{Error, ErrorKind};

/// A way of sending file bytes over a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// The best way for the file, the socket and the machine. A choice only: what was used is
    /// reported as one of the others.
    #[default]
    Auto,
    /// `pread(2)` into a buffer, `send(2)` from it: one copy by CPU in, one out. Works everywhere.
    Copy,
    /// `sendfile(2)`: pages go from the page cache to the socket by reference.
    Sendfile,
}

impl Method {
    /// Every method that can be chosen, `Auto` first.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Copy, Self::Sendfile];

    /// How many there are; an index made by [`Method::index`] is below it.
    pub(crate) const COUNT: usize = Self::ALL.len();

    /// The name used on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Copy => "copy",
            Self::Sendfile => "sendfile",
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
            .into_iter()
            .find(|method| method.name() == name)
            .ok_or_else(|| Error::new(ErrorKind::Misuse, format!("no method is named {name:?}")))
    }
}

/// A set of methods.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct MethodSet(u8);

impl MethodSet {
    /// The set without a member.
    pub const EMPTY: Self = Self(0);

    /// This set and `method`.
    #[must_use]
    pub const fn with(self, method: Method) -> Self {
        Self(self.0 | 1 << method as u8)
    }

    /// Whether `method` is in it.
    pub const fn contains(self, method: Method) -> bool {
        self.0 & (1 << method as u8) != 0
    }

    /// The members, in the order of [`Method::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Method> {
        Method::ALL
            .into_iter()
            .filter(move |method| self.contains(*method))
    }

    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }
}

impl fmt::Debug for MethodSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
