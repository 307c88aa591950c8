//! The answer to a request for one file: conditions, ranges, head and body.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use headers::{AcceptRanges, ContentRange, HeaderMapExt};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RANGE};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use lendfile_core::{FileRegion, OpenFile};

use super::conditional::{self, Verdict};
use super::range::{self, Wanted};
use super::validators::Validators;
use crate::{FileBody, Lending};

/// Headers that a response usually has: type, tag, time, ranges, length, and hyper's date.
const HEADERS: usize = 6;

/// Makes the response to a request from an open file: entity tag, date, length and type, the
/// request's preconditions and its range.
///
/// For handlers that decide themselves which file is sent; [`ServeDir`](crate::ServeDir) uses it.
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use lendfile::{FileBody, FileResponse, OpenFile};
///
/// fn download<B>(request: &Request<B>) -> std::io::Result<Response<FileBody>> {
///     Ok(FileResponse::new(OpenFile::open("Cargo.toml")?)
///         .content_type("application/toml".parse().unwrap())
///         .respond(request))
/// }
/// # let mut request = Request::new(());
/// # request.headers_mut().insert("range", "bytes=0-3".parse().unwrap());
/// # assert_eq!(download(&request).unwrap().status(), 206);
/// ```
#[derive(Clone, Debug)]
pub struct FileResponse {
    file: Arc<OpenFile>,
    validators: Validators,
    headers: HeaderMap,
    lending: Lending,
}

impl FileResponse {
    /// A response of all of `file`, as `application/octet-stream`.
    pub fn new(file: Arc<OpenFile>) -> Self {
        let validators = Validators::of(file.metadata(), SystemTime::now());
        let mut headers = HeaderMap::with_capacity(HEADERS);
        let unknown = HeaderValue::from_static("application/octet-stream");
        headers.insert(CONTENT_TYPE, unknown);
        headers.typed_insert(validators.etag.clone());
        if let Some(last_modified) = validators.last_modified {
            headers.typed_insert(last_modified);
        }
        headers.typed_insert(AcceptRanges::bytes());
        Self {
            file,
            validators,
            headers,
            lending: Lending::Advertised,
        }
    }

    /// Sets the content type.
    #[must_use]
    pub fn content_type(self, content_type: HeaderValue) -> Self {
        self.header(CONTENT_TYPE, content_type)
    }

    /// Sets the content type by a file name's extension; UTF-8 is assumed for text.
    #[must_use]
    pub fn content_type_of(self, name: impl AsRef<Path>) -> Self {
        self.content_type(content_type(name.as_ref()))
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
        for_method(method, self.answer(method, request, extensions))
    }

    fn answer(
        &self,
        method: &Method,
        request: &HeaderMap,
        extensions: &Extensions,
    ) -> Response<FileBody> {
        match conditional::evaluate(request, &self.validators) {
            Verdict::NotModified => {
                let mut response = self.head_of(StatusCode::NOT_MODIFIED);
                response.headers_mut().remove(CONTENT_TYPE);
                return response;
            }
            Verdict::PreconditionFailed => return status(StatusCode::PRECONDITION_FAILED),
            Verdict::Send => {}
        }
        let total = self.file.len();
        let wanted = match request.get(RANGE) {
            // A Range of a HEAD is ignored: §14.2 defines it for GET.
            Some(range) if method == Method::GET => {
                match conditional::range_applies(request, &self.validators) {
                    true => range::wanted(range, total),
                    false => Wanted::Whole,
                }
            }
            _ => Wanted::Whole,
        };
        let (region, mut response) = match wanted {
            Wanted::Whole => {
                let region = FileRegion::whole(self.file.clone());
                (region, self.head_of(StatusCode::OK))
            }
            Wanted::Part { offset, len } => {
                let region = FileRegion::new(self.file.clone(), offset, len)
                    .expect("a satisfiable range lies within the file");
                let content_range = ContentRange::bytes(offset..offset + len, total)
                    .expect("a satisfiable range is not empty");
                let mut response = self.head_of(StatusCode::PARTIAL_CONTENT);
                response.headers_mut().typed_insert(content_range);
                (region, response)
            }
            Wanted::Unsatisfiable => {
                let mut response = status(StatusCode::RANGE_NOT_SATISFIABLE);
                let content_range = ContentRange::unsatisfied_bytes(total);
                response.headers_mut().typed_insert(content_range);
                return response;
            }
        };
        let length = HeaderValue::from(region.len());
        response.headers_mut().insert(CONTENT_LENGTH, length);
        if method != Method::HEAD {
            *response.body_mut() = FileBody::new(region, self.lending, extensions);
        }
        response
    }

    /// The file that is sent.
    pub(super) fn file(&self) -> &Arc<OpenFile> {
        &self.file
    }

    /// Whether the file's tag is strong.
    pub(super) fn is_settled(&self) -> bool {
        !self.validators.etag.is_weak()
    }

    fn head_of(&self, status: StatusCode) -> Response<FileBody> {
        let mut response = Response::new(FileBody::empty());
        *response.status_mut() = status;
        *response.headers_mut() = self.headers.clone();
        response
    }
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

/// The content type by a name's extension.
fn content_type(name: &Path) -> HeaderValue {
    let mime = mime_guess::from_path(name).first_or_octet_stream();
    let text = mime.type_() == mime_guess::mime::TEXT;
    let value = match text && mime.get_param("charset").is_none() {
        true => format!("{mime}; charset=utf-8"),
        false => mime.to_string(),
    };
    HeaderValue::try_from(value).expect("a media type is a header value")
}
