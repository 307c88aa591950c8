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
//! Methods: GET and HEAD; OPTIONS is 204 with `Allow`; others are 405 with `Allow`.
//!
//! Preconditions are evaluated in the order of RFC 9110 §13.2.2; a malformed one counts as absent.
//! One range is answered by 206, several that do not overlap by 206 and `multipart/byteranges`,
//! overlapping ones, more than [32](ServeDir::max_ranges), and those of another unit than bytes by
//! the whole file, none that can be satisfied by 416 (RFC 9110 §14.2).
//!
//! Entity tags are strong, made of inode, length and time; weak while the file is younger than two
//! seconds. Each [coding](ServeDir::precompressed) has its own.
//!
//! A directory without an index is 404 unless [listings](ServeDir::listing) are asked for: HTML, or
//! JSON by `Accept`.
//!
//! # What is kept, and changing files
//!
//! A short file is kept in memory for a while, together with its tag and date; a long one is kept
//! open, and asked at each request whether it has changed. Paths are looked at again after the
//! [staleness](ServeDir::staleness) time of a second. [`CacheLimits`] bound what is kept.
//!
//! A file that becomes shorter while it is sent ends in a closed connection; one that grows is
//! sent in the promised length; one replaced by another of its name goes on as the old one. A
//! long file that is overwritten in place may be sent in parts old and new: pages go by reference,
//! unless [copies](ServeDir::stable) are asked for.

mod cache;
mod cache_control;
mod coding;
mod conditional;
mod content_type;
mod disposition;
mod fallback;
mod future;
mod listing;
mod multipart;
mod options;
mod path;
mod quality;
mod range;
mod resource;
mod response;
mod root;
mod send_file;
mod serve_dir;
mod serve_file;
mod site;
mod validators;

pub use cache::{CacheLimits, CacheUse};
pub use coding::Coding;
pub use disposition::Disposition;
pub use future::ResponseFuture;
pub use response::FileResponse;
pub use root::{Root, Symlinks};
pub use send_file::{SendFile, SendFileLayer};
pub use serve_dir::ServeDir;
pub use serve_file::ServeFile;
