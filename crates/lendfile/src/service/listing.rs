//! Directory listings: what is in a directory, in which order, and as what it is sent.
//!
//! Names and times are read at once, off the server's thread; the page is written while it is sent,
//! piece by piece, so that a directory of 100,000 files needs the memory of its names only.

mod html;
mod json;

use std::cmp::Ordering;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rustix::fs::{AtFlags, Dir, FileType, StatxFlags, statx};
use rustix::io::Errno;

use super::path::Dotfiles;
use super::quality::{Weight, weighted};
use super::root::{Failure, Opened, Patience, Root};
use crate::FileBody;

/// Names that are read at most; a directory of more is cut, and says so.
const MOST_NAMES: usize = 1_000_000;

/// Bytes of a page that are written at a time: 20 to 50 µs of the server's thread.
const PIECE_BYTES: usize = 32 << 10;

/// Unreserved characters of a URL (RFC 3986 §2.3) stay as they are.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What a request wants of a listing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    format: Format,
    sort: Sort,
    order: Order,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Html,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Name,
    Size,
    Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Ascending,
    Descending,
}

impl Wanted {
    pub(super) fn of(head: &Parts) -> Self {
        let query = head.uri.query().unwrap_or_default();
        let value = |name| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .filter(|pair| pair.0 == name)
                .map(|pair| pair.1)
                .next()
        };
        Self {
            format: format(&head.headers),
            sort: match value("sort") {
                Some("size") => Sort::Size,
                Some("time") => Sort::Time,
                _ => Sort::Name,
            },
            order: match value("order") {
                Some("desc") => Order::Descending,
                _ => Order::Ascending,
            },
        }
    }
}

/// JSON only if it is preferred to HTML.
fn format(headers: &HeaderMap) -> Format {
    let weight = |kind: &str| -> Weight {
        let (any_of_kind, _) = kind.split_once('/').unwrap_or_default();
        let rank = |range: &str| match range.split_once('/') {
            _ if range.eq_ignore_ascii_case(kind) => 3,
            Some((found, "*")) if found.eq_ignore_ascii_case(any_of_kind) => 2,
            Some(("*", "*")) => 1,
            _ => 0,
        };
        weighted(headers, ACCEPT)
            .map(|(range, weight)| (rank(range), weight))
            .filter(|(rank, _)| *rank > 0)
            .max()
            .map_or(0, |(_, weight)| weight)
    };
    match weight("application/json") > weight("text/html") {
        true => Format::Json,
        false => Format::Html,
    }
}

/// What is in a directory.
#[derive(Debug)]
pub(super) struct Listing {
    /// Below the root.
    path: PathBuf,
    entries: Vec<Entry>,
    cut: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: OsString,
    kind: Kind,
    modified: SystemTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Directory,
    File { len: u64 },
}

impl Listing {
    /// Reads it: regular files and directories that the service would serve. Symbolic links are
    /// listed as what they lead to, if that is inside.
    pub(super) fn read(
        root: &Root,
        path: &Path,
        directory: &OwnedFd,
        dotfiles: Dotfiles,
    ) -> Result<Self, Failure> {
        let other = |errno: Errno| Failure::Other(errno.into());
        let mut listing = Self {
            path: path.to_owned(),
            entries: Vec::new(),
            cut: false,
        };
        for found in Dir::read_from(directory).map_err(other)? {
            let found = found.map_err(other)?;
            let name = OsStr::from_bytes(found.file_name().to_bytes());
            let hidden = match dotfiles {
                Dotfiles::Allow => [".", ".."].iter().any(|dots| name == *dots),
                Dotfiles::Hide => name.as_bytes().starts_with(b"."),
            };
            if hidden {
                continue;
            }
            if listing.entries.len() == MOST_NAMES {
                listing.cut = true;
                break;
            }
            let entry = match found.file_type() {
                FileType::Symlink => Entry::behind_link(root, &path.join(name), name),
                _ => Entry::of(directory, name),
            };
            listing.entries.extend(entry);
        }
        Ok(listing)
    }

    pub(super) fn respond(mut self, wanted: Wanted) -> Response<FileBody> {
        self.sort(wanted);
        let (kind, body) = match wanted.format {
            Format::Html => (
                "text/html; charset=utf-8",
                FileBody::rendered(Pieces::of(html::Page::new(self, wanted))),
            ),
            Format::Json => (
                "application/json",
                FileBody::rendered(Pieces::of(json::Array::new(self))),
            ),
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        for (name, value) in [
            (CONTENT_TYPE, kind),
            (VARY, "accept"),
            (CACHE_CONTROL, "no-cache"),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            // Names are escaped; should one not be, it can still do nothing.
            (
                CONTENT_SECURITY_POLICY,
                "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
            ),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }

    /// Directories come first whatever the order.
    fn sort(&mut self, wanted: Wanted) {
        let folded = |entry: &Entry| entry.name.to_string_lossy().to_lowercase();
        let by_name = |a: &Entry, b: &Entry| a.name.cmp(&b.name);
        // Names without regard to case; those that differ only in it, by their bytes.
        self.entries
            .sort_by_cached_key(|entry| (folded(entry), entry.name.clone()));
        let in_order = |ordering: Ordering| match wanted.order {
            Order::Ascending => ordering,
            Order::Descending => ordering.reverse(),
        };
        match wanted.sort {
            Sort::Name if wanted.order == Order::Descending => self.entries.reverse(),
            Sort::Name => {}
            Sort::Size => self
                .entries
                .sort_by(|a, b| in_order(a.len().cmp(&b.len())).then_with(|| by_name(a, b))),
            Sort::Time => self
                .entries
                .sort_by(|a, b| in_order(a.modified.cmp(&b.modified)).then_with(|| by_name(a, b))),
        }
        self.entries
            .sort_by_key(|entry| entry.kind != Kind::Directory);
    }
}

impl Entry {
    fn of(directory: &OwnedFd, name: &OsStr) -> Option<Self> {
        let mask = StatxFlags::TYPE | StatxFlags::SIZE | StatxFlags::MTIME;
        // It may have gone since its name was read.
        let stat = statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, mask).ok()?;
        let kind = match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::Directory => Kind::Directory,
            FileType::RegularFile => Kind::File { len: stat.stx_size },
            _ => return None,
        };
        let since = Duration::from_secs(u64::try_from(stat.stx_mtime.tv_sec).unwrap_or(0));
        Some(Self {
            name: name.to_owned(),
            kind,
            modified: UNIX_EPOCH + since,
        })
    }

    /// Through the root, which does not follow links that lead out.
    fn behind_link(root: &Root, path: &Path, name: &OsStr) -> Option<Self> {
        let opened = root.look_up(path, Patience::MayWait).ok()?;
        let (kind, modified) = match &opened {
            Opened::Directory(directory) => {
                let stat = rustix::fs::fstat(directory.as_fd()).ok()?;
                let since = Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
                (Kind::Directory, UNIX_EPOCH + since)
            }
            Opened::File(file) => {
                let modified = file.metadata().modified().unwrap_or(UNIX_EPOCH);
                (Kind::File { len: file.len() }, modified)
            }
        };
        Some(Self {
            name: name.to_owned(),
            kind,
            modified,
        })
    }

    fn len(&self) -> u64 {
        match self.kind {
            Kind::Directory => 0,
            Kind::File { len } => len,
        }
    }

    /// As a relative reference that can be nothing else: not a scheme, not another host.
    fn href(&self) -> String {
        let slash = if self.kind == Kind::Directory {
            "/"
        } else {
            ""
        };
        format!("./{}{slash}", encoded(&self.name))
    }

    /// Whole seconds, in UTC.
    fn modified(&self) -> String {
        humantime::format_rfc3339_seconds(self.modified).to_string()
    }
}

fn encoded(name: &OsStr) -> percent_encoding::PercentEncode<'_> {
    percent_encode(name.as_bytes(), ENCODED)
}

/// A name as text that stays on its line and in its direction: control characters, and those that
/// turn the direction of writing, become `\u{…}`, and bytes that are not UTF-8 become U+FFFD.
fn shown(name: &OsStr) -> String {
    let mut shown = String::with_capacity(name.len());
    for c in name.to_string_lossy().chars() {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}');
        if c.is_control() || turns {
            _ = write!(shown, "{}", c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Something that is written one part after the other.
trait Written: Send + 'static {
    /// Writes the next part; `false` when there was none.
    fn write_next(&mut self, to: &mut String) -> bool;
}

/// It, in pieces of a length.
struct Pieces<W> {
    of: W,
}

impl<W: Written> Pieces<W> {
    fn of(of: W) -> Self {
        Self { of }
    }
}

impl<W: Written> Iterator for Pieces<W> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut piece = String::with_capacity(PIECE_BYTES + 1024);
        while piece.len() < PIECE_BYTES && self.of.write_next(&mut piece) {}
        (!piece.is_empty()).then(|| piece.into())
    }
}

#[cfg(test)]
mod tests;
