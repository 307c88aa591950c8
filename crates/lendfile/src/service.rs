//! The file service: [`ServeDir`] for a directory tree, [`FileResponse`] for handlers.
//!
//! # What it answers
//!
//! Paths: each segment is percent-decoded once. A NUL, a malformed `%`, or a `..` that climbs
//! above the root is 400. A `/` inside a decoded segment, a `/` behind a file's name, a name that
//! does not exist or is too long, anything but a regular file or directory, and whatever would
//! leave the root is 404. `.`, `..` and empty segments that stay inside are normalised. Names that
//! begin with a dot are 404 [unless allowed](ServeDir::dotfiles). A directory without the final
//! `/` is a redirect (301) to the path with it. A file that may not be read is 403; out of
//! descriptors or memory is 503.
//!
//! One `openat2(2)` with `RESOLVE_BENEATH` confines: symbolic links that stay inside the root
//! work, and nothing is checked by comparing strings. Where that call is refused (old kernels,
//! seccomp), components are opened one by one and no symbolic link is followed at all.
//!
//! Methods: GET and HEAD; OPTIONS is 204 with `Allow`; others are 405.
//!
//! Preconditions are evaluated in the order of RFC 9110 §13.2.2. One range is answered by 206,
//! several by the whole file, none that can be satisfied by 416 (RFC 9110 §14.2).
//!
//! A file is opened when it is asked for and kept open for a while. Each request asks the open
//! file whether it has changed; its path is looked at again after the
//! [staleness](ServeDir::staleness) time of a second.
//!
//! A file that becomes shorter while it is sent ends in a closed connection; one that grows is
//! sent in the promised length; one replaced by another of its name goes on as the old one. A
//! file overwritten in place may be sent in parts old and new: pages go by reference.

mod cache;
mod conditional;
mod open;
mod path;
mod range;
mod response;
mod serve_dir;
mod validators;

pub use response::FileResponse;
pub use serve_dir::{ResponseFuture, ServeDir};
