//! Directory listings: what is in a directory, in which order, and as what it is sent.
//!
//! Reading a directory has no form that does not wait, so it is read, and sorted, in a thread where
//! waiting is allowed. (That is no step of sending a file: no file's bytes go that way.) To be
//! sorted, all of it must be in memory: [`entries`] has the bounds. The page itself is written
//! while it is sent, piece by piece, and is never in memory as a whole unless it is short.
//!
//! A page has no script and may load nothing: sorting is a link, and its references are relative,
//! so that they hold wherever the service is mounted.

mod entries;
mod html;
mod json;
mod name;
mod order;
mod wanted;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::iter;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use headers::{ETag, HeaderMapExt};
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tokio::sync::Semaphore;

use self::entries::Entries;
use self::wanted::{Format, Wanted};
use super::conditional::{self, Verdict};
use super::path::Dotfiles;
use super::response::status;
use super::root::{Failure, Root};
use super::validators::Validators;
use crate::FileBody;

/// A page up to this length is sent from memory, with its length; of a longer one this much is
/// written before it is sent.
const WHOLE_BYTES: usize = 128 << 10;

/// Bytes of a longer page that are written at a time, in the connection's task: 0.1 to 0.2 ms.
const PIECE_BYTES: usize = 32 << 10;

/// Directories that are read at the same time, so that listings leave most of the runtime's threads
/// for blocking work (512 by default) to opening files.
static READERS: Semaphore = Semaphore::const_new(16);

/// The answer to `head`, which asked for the directory that was opened at `path` below `root`.
pub(super) async fn respond(
    root: Root,
    path: PathBuf,
    directory: Arc<OwnedFd>,
    dotfiles: Dotfiles,
    head: &Parts,
) -> Result<Response<FileBody>, Failure> {
    let wanted = Wanted::of(head);
    let target = head.uri.path().to_owned();
    let reader = READERS.acquire().await;
    let reading = tokio::task::spawn_blocking(move || {
        // Given back when the directory has been read, also if the client has gone before.
        let _reader = reader;
        let mut entries = Entries::read(&root, &path, &directory, dotfiles)?;
        entries.sort(wanted);
        let etag = etag(&target, wanted, &entries);
        let body = match wanted.format {
            Format::Html => body_of(html::Page::new(&target, &path, wanted, entries)),
            Format::Json => body_of(json::Document::new(entries)),
        };
        Ok((etag, body))
    });
    let (etag, body) = reading
        .await
        .unwrap_or_else(|error| Err(Failure::Other(io::Error::other(error))))?;
    Ok(answer(wanted.format, etag, body, &head.headers))
}

fn answer(
    format: Format,
    etag: ETag,
    (body, length): (FileBody, Option<usize>),
    request: &HeaderMap,
) -> Response<FileBody> {
    // A directory's own time says nothing of its files' sizes and times.
    let validators = Validators {
        etag,
        last_modified: None,
        modified: None,
    };
    let mut response = match conditional::evaluate(request, &validators) {
        Verdict::PreconditionFailed => return status(StatusCode::PRECONDITION_FAILED),
        Verdict::NotModified => {
            let mut response = Response::new(FileBody::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        }
        Verdict::Send => {
            let mut response = Response::new(body);
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, format.content_type());
            if let Some(length) = length {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
            response
        }
    };
    let headers = response.headers_mut();
    headers.typed_insert(validators.etag);
    headers.insert(VARY, HeaderValue::from_static("accept"));
    // To be kept, but asked about each time.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_SECURITY_POLICY, html::policy());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Weak: 64 bits of all that a page is made of.
fn etag(target: &str, wanted: Wanted, entries: &Entries) -> ETag {
    let mut hasher = DefaultHasher::new();
    // Another version may write another page.
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    (target, wanted).hash(&mut hasher);
    entries.hash(&mut hasher);
    format!("W/\"{:016x}\"", hasher.finish())
        .parse()
        .expect("hexadecimal digits make a tag")
}

/// Something that is written one part after the other.
trait Written: Send + 'static {
    /// Writes the next part; `false` when there was none.
    fn write_next(&mut self, to: &mut String) -> bool;
}

/// The body, and its length if it was written at once.
fn body_of(mut written: impl Written) -> (FileBody, Option<usize>) {
    let mut beginning = String::new();
    while beginning.len() < WHOLE_BYTES {
        if !written.write_next(&mut beginning) {
            let length = beginning.len();
            return (FileBody::memory(beginning), Some(length));
        }
    }
    let pieces = iter::from_fn(move || piece(&mut written));
    (
        FileBody::rendered(iter::once(beginning.into()).chain(pieces)),
        None,
    )
}

fn piece(written: &mut impl Written) -> Option<Bytes> {
    // A row of the longest name is less than 4 KiB.
    let mut piece = String::with_capacity(PIECE_BYTES + (4 << 10));
    while piece.len() < PIECE_BYTES && written.write_next(&mut piece) {}
    (!piece.is_empty()).then(|| piece.into())
}

#[cfg(test)]
mod tests;
