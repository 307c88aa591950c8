//! The answer to a request for one file: conditions, ranges, head and body.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use headers::{AcceptRanges, ContentRange, HeaderMapExt};
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_TYPE, ETAG, LAST_MODIFIED, RANGE,
};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use lendfile_core::{Error, FileRegion, OpenFile, RateLimit};

use super::conditional::{self, Verdict};
use super::content_type;
use super::disposition::Disposition;
use super::multipart::Framing;
use super::range::{self, Part, Wanted};
use super::root::Root;
use super::validators::Validators;
use crate::{FileBody, Lending};

/// Headers that a response usually has: type, tag, time, ranges, length, cache control, and what
/// hyper adds.
const HEADERS: usize = 8;

/// Ranges that are answered at most; what asks for more gets the whole file. Browsers' PDF viewers
/// ask for a handful.
pub(super) const MAX_RANGES: usize = 32;

/// Makes the response to a request from an open file: entity tag, date, length and type, the
/// request's preconditions and its ranges.
///
/// For handlers that decide themselves which file is sent; [`ServeDir`](crate::ServeDir) uses it.
///
/// # Examples
///
/// A download from beneath a directory, whatever the name that the client gives:
///
/// ```
/// use http::{Request, Response};
/// use lendfile::{FileBody, FileResponse, Root};
///
/// async fn download<B>(root: &Root, name: &str, request: &Request<B>)
///     -> std::io::Result<Response<FileBody>>
/// {
///     let file = FileResponse::beneath(root, name).await?;
///     Ok(file.attachment("Manifest of Ångström.toml").respond(request))
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// # let root = Root::open(".")?;
/// # let mut request = Request::new(());
/// # request.headers_mut().insert("range", "bytes=0-3".parse().unwrap());
/// # assert_eq!(download(&root, "Cargo.toml", &request).await?.status(), 206);
/// # assert!(download(&root, "../../etc/passwd", &request).await.is_err());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct FileResponse {
    content: Content,
    validators: Validators,
    headers: HeaderMap,
    lending: Lending,
    max_ranges: usize,
    rate_limit: Option<RateLimit>,
}

/// What is sent.
#[derive(Clone, Debug)]
pub(super) enum Content {
    File(FileRegion),
    /// A file's bytes, read together with what its validators were made of.
    Memory(Bytes),
}

impl Content {
    fn len(&self) -> u64 {
        match self {
            Self::File(region) => region.len(),
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }
}

impl FileResponse {
    /// A response of all of `file`, as `application/octet-stream`.
    pub fn new(file: Arc<OpenFile>) -> Self {
        Self::of_region(FileRegion::whole(file))
    }

    /// A response whose representation is a part of a file: a member of an archive, a blob in a
    /// pack. Ranges count from the part's start. The entity tag and date are the file's, the tag
    /// with the part's place in it, until they are [replaced](FileResponse::etag).
    pub fn of_region(region: FileRegion) -> Self {
        let validators = Validators::of(&region, SystemTime::now());
        let mut headers = HeaderMap::with_capacity(HEADERS);
        headers.insert(CONTENT_TYPE, content_type::UNKNOWN);
        headers.insert(CONTENT_LENGTH, HeaderValue::from(region.len()));
        headers.typed_insert(validators.etag.clone());
        if let Some(last_modified) = validators.last_modified {
            headers.typed_insert(last_modified);
        }
        headers.typed_insert(AcceptRanges::bytes());
        Self {
            content: Content::File(region),
            validators,
            headers,
            lending: Lending::Advertised,
            max_ranges: MAX_RANGES,
            rate_limit: None,
        }
    }

    /// A response of the file at `path` beneath `root`, with the content type of its name.
    ///
    /// # Errors
    ///
    /// Those of [`Root::open_file`].
    ///
    /// # Cancel safety
    ///
    /// A dropped call leaves nothing open.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn beneath(root: &Root, path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        Ok(Self::new(root.open_file(path).await?).content_type_of(path))
    }

    /// The same response from bytes that were read of it.
    pub(super) fn with_snapshot(mut self, bytes: Bytes) -> Self {
        debug_assert_eq!(bytes.len() as u64, self.content.len());
        self.content = Content::Memory(bytes);
        self
    }

    /// Tells browsers to save the file under `name`, of which only the part behind the last slash
    /// is used.
    #[must_use]
    pub fn attachment(self, name: &str) -> Self {
        self.disposition(Disposition::Attachment, name)
    }

    /// Tells browsers what to do with the file, and its name (RFC 6266; names that are not ASCII
    /// as in RFC 8187).
    #[must_use]
    pub fn disposition(self, disposition: Disposition, name: &str) -> Self {
        self.header(CONTENT_DISPOSITION, disposition.header_value(name))
    }

    /// Sets `Cache-Control`.
    #[must_use]
    pub fn cache_control(self, value: HeaderValue) -> Self {
        self.header(CACHE_CONTROL, value)
    }

    /// Sets the content type.
    #[must_use]
    pub fn content_type(self, content_type: HeaderValue) -> Self {
        self.header(CONTENT_TYPE, content_type)
    }

    /// Sets the content type by a file name's extension; UTF-8 is assumed for text.
    #[must_use]
    pub fn content_type_of(self, name: impl AsRef<Path>) -> Self {
        self.content_type(content_type::of(name.as_ref()))
    }

    /// Sets the entity tag, with its quotes: `"v1"`, or `W/"v1"` if it does not promise the same
    /// bytes. Default: made of the file's inode, length and time; weak while the file is younger
    /// than two seconds.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Misuse`](crate::ErrorKind::Misuse) if it is not an entity tag (RFC 9110 §8.8.3).
    pub fn etag(mut self, tag: &str) -> Result<Self, Error> {
        self.validators.set_etag(tag)?;
        self.headers.typed_insert(self.validators.etag.clone());
        Ok(self)
    }

    /// Sets the time of the last change, of which the seconds count. Default: the file's.
    #[must_use]
    pub fn last_modified(mut self, time: SystemTime) -> Self {
        self.validators.set_modified(time, SystemTime::now());
        match self.validators.last_modified {
            Some(time) => self.headers.typed_insert(time),
            None => _ = self.headers.remove(LAST_MODIFIED),
        }
        self
    }

    /// Adds a header, to 200, 206 and 304 alike; replaces one of the same name.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Whether the body is lent. Default: where the connection advertises it.
    #[must_use]
    pub fn lending(mut self, lending: Lending) -> Self {
        self.lending = lending;
        self
    }

    /// Ranges that are answered at most in one response; what asks for more gets the whole file.
    /// Default: 32.
    #[must_use]
    pub fn max_ranges(mut self, most: usize) -> Self {
        self.max_ranges = most;
        self
    }

    /// Sends the body no faster than this. Default: no limit.
    #[must_use]
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.rate_limit = Some(limit);
        self
    }

    /// The response to `request`, which is a GET or a HEAD.
    pub fn respond<B>(&self, request: &Request<B>) -> Response<FileBody> {
        self.respond_to(request.method(), request.headers(), request.extensions())
    }

    /// The same, from the request's parts.
    pub fn respond_to(
        &self,
        method: &Method,
        request: &HeaderMap,
        extensions: &Extensions,
    ) -> Response<FileBody> {
        let response = match conditional::is_plain(request) {
            true => self.whole(extensions),
            false => self.answer(method, request, extensions),
        };
        for_method(method, response)
    }

    /// The response as another status, such as 404: without conditions and validators.
    pub(super) fn respond_as(
        &self,
        status: StatusCode,
        method: &Method,
        extensions: &Extensions,
    ) -> Response<FileBody> {
        let mut response = self.whole(extensions);
        *response.status_mut() = status;
        for name in [ACCEPT_RANGES, CACHE_CONTROL, ETAG, LAST_MODIFIED] {
            response.headers_mut().remove(name);
        }
        for_method(method, response)
    }

    fn answer(
        &self,
        method: &Method,
        request: &HeaderMap,
        extensions: &Extensions,
    ) -> Response<FileBody> {
        match conditional::evaluate(request, &self.validators) {
            Verdict::NotModified => return self.not_modified(),
            Verdict::PreconditionFailed => return status(StatusCode::PRECONDITION_FAILED),
            Verdict::Send => {}
        }
        let total = self.content.len();
        let wanted = match request.get(RANGE) {
            // A Range of a HEAD is ignored: §14.2 defines it for GET.
            Some(range) if method == Method::GET => {
                match conditional::range_applies(request, &self.validators) {
                    true => range::wanted(range, total, self.max_ranges),
                    false => Wanted::Whole,
                }
            }
            _ => Wanted::Whole,
        };
        match wanted {
            Wanted::Part(part) => self.part(part, extensions),
            Wanted::Parts(parts) => self.parts(&parts, extensions),
            Wanted::Unsatisfiable => {
                let mut response = status(StatusCode::RANGE_NOT_SATISFIABLE);
                let content_range = ContentRange::unsatisfied_bytes(total);
                response.headers_mut().typed_insert(content_range);
                response
            }
            Wanted::Whole => self.whole(extensions),
        }
    }

    fn whole(&self, extensions: &Extensions) -> Response<FileBody> {
        let body = match &self.content {
            Content::File(region) => FileBody::new(region.clone(), self.lending, extensions),
            Content::Memory(bytes) => FileBody::snapshot(bytes.clone()),
        };
        self.with_body(StatusCode::OK, body)
    }

    fn part(&self, (offset, len): Part, extensions: &Extensions) -> Response<FileBody> {
        let body = match &self.content {
            Content::File(whole) => {
                FileBody::new(part_of(whole, (offset, len)), self.lending, extensions)
            }
            Content::Memory(bytes) => FileBody::snapshot(slice_of(bytes, (offset, len))),
        };
        let mut response = self.with_body(StatusCode::PARTIAL_CONTENT, body);
        let content_range = ContentRange::bytes(offset..offset + len, self.content.len())
            .expect("a satisfiable range is not empty");
        response.headers_mut().typed_insert(content_range);
        let length = HeaderValue::from(len);
        response.headers_mut().insert(CONTENT_LENGTH, length);
        response
    }

    fn parts(&self, parts: &[Part], extensions: &Extensions) -> Response<FileBody> {
        let content_type = self.headers.get(CONTENT_TYPE);
        let framing = Framing::of(parts, self.content.len(), content_type);
        let part_body = |part: &Part| match &self.content {
            Content::File(whole) => FileBody::part(part_of(whole, *part), self.lending, extensions),
            Content::Memory(bytes) => FileBody::snapshot(slice_of(bytes, *part)),
        };
        let mut bodies = parts.iter().map(part_body);
        let body = FileBody::concat(
            framing
                .pieces
                .iter()
                .flat_map(|piece| [Some(FileBody::memory(piece.clone())), bodies.next()])
                .flatten(),
        );
        let mut response = self.with_body(StatusCode::PARTIAL_CONTENT, body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, framing.content_type());
        headers.insert(CONTENT_LENGTH, HeaderValue::from(framing.len));
        response
    }

    fn not_modified(&self) -> Response<FileBody> {
        let mut response = self.with_body(StatusCode::NOT_MODIFIED, FileBody::empty());
        // RFC 9110 §15.4.5: what guides caches, and nothing about a body that is not there.
        for name in [
            ACCEPT_RANGES,
            CONTENT_DISPOSITION,
            CONTENT_ENCODING,
            CONTENT_LENGTH,
            CONTENT_TYPE,
        ] {
            response.headers_mut().remove(name);
        }
        response
    }

    fn with_body(&self, status: StatusCode, body: FileBody) -> Response<FileBody> {
        let body = match self.rate_limit {
            Some(limit) => body.rate_limit(limit),
            None => body,
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = self.headers.clone();
        response
    }

    pub(super) fn content(&self) -> &Content {
        &self.content
    }
}

/// A satisfiable range as a region of the file.
fn part_of(whole: &FileRegion, (offset, len): Part) -> FileRegion {
    let mut rest = whole.clone();
    rest.advance(offset);
    rest.split_to(len)
}

fn slice_of(bytes: &Bytes, (offset, len): Part) -> Bytes {
    let [offset, len] = [offset, len]
        .map(|n| usize::try_from(n).expect("a satisfiable range lies within what is in memory"));
    bytes.slice(offset..offset + len)
}

/// What is sent for the method: a HEAD is answered without a body. hyper leaves it out over
/// HTTP/1.1 only.
pub(super) fn for_method(method: &Method, mut response: Response<FileBody>) -> Response<FileBody> {
    if method == Method::HEAD {
        *response.body_mut() = FileBody::empty();
    }
    response
}

/// A response that is nothing but its status, with the reason as text for people.
pub(super) fn status(status: StatusCode) -> Response<FileBody> {
    let reason = status.canonical_reason().unwrap_or("error");
    let mut response = Response::new(FileBody::memory(format!("{reason}\n")));
    *response.status_mut() = status;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    let length = HeaderValue::from(reason.len() + 1);
    response.headers_mut().insert(CONTENT_TYPE, text);
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response
}
