//! `X-Accel-Redirect` and `X-Sendfile`: a handler names a file in a header, and the layer sends it.

mod headers;

use std::ffi::OsStr;
use std::fmt;
use std::future::Future;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Either;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::conditional;
use super::path::{self, Dotfiles, Form};
use super::response::{FileResponse, for_method, status};
use super::root::{Failure, Opened, Root, normalised, patiently};
use super::site::refuse;
use crate::{Connection, FileBody, Lending};

/// nginx's: the value is a path as in a URL, percent-encoded.
const X_ACCEL_REDIRECT: HeaderName = HeaderName::from_static("x-accel-redirect");

/// Apache's and lighttpd's: the value is a path as the file system has it.
const X_SENDFILE: HeaderName = HeaderName::from_static("x-sendfile");

/// A layer that sends the file that a handler names in the header `X-Accel-Redirect` or
/// `X-Sendfile` in place of the handler's body.
///
/// So a handler decides who may have a file, and anything behind it, such as a reverse-proxied
/// application, needs to know nothing of lendfile.
///
/// # What is sent
///
/// The file is looked for beneath one [root](Root) only, whatever the header says: `..` does not
/// climb out of it, nor do symbolic links. A name that is not there, or would lead out, is 404 and
/// logged as a warning. Preconditions and ranges of a GET or HEAD are answered as by
/// [`ServeDir`](crate::ServeDir), and the body is lent as its are.
///
/// `X-Accel-Redirect` is a path as in a URL: percent-decoded, beneath the root once the
/// [prefix](SendFileLayer::prefix) is taken off. `X-Sendfile` is a path of the file system as it
/// is, relative to the root, or absolute and [below a path that is taken
/// off](SendFileLayer::sendfile_prefix). If both are there, `X-Accel-Redirect` counts. They are
/// removed from every response, and so is the handler's body from one that names a file.
///
/// # What is kept of the handler's response
///
/// All headers but those that describe the body that is not sent (`Content-Length`,
/// `Content-Encoding`, `Content-Range`, `ETag`, `Last-Modified`, digests). `Content-Type` wins over
/// the one that the file's name would give, so **a handler should answer without a body**: axum
/// gives a string `text/plain`. `Accept-Ranges: none` has ranges ignored. When the file is not
/// found or a condition fails, what belongs to the file goes, too (`Content-Disposition`,
/// `Cache-Control`, …). nginx keeps six headers and drops the rest, such as CORS's.
///
/// The status is the file's (200, 206, 304, …) whatever the handler's was, as in nginx.
///
/// # Examples
///
/// ```
/// use axum::http::StatusCode;
/// use axum::response::{AppendHeaders, IntoResponse};
/// use axum::{Router, routing::get};
/// use lendfile::{Root, SendFileLayer};
///
/// async fn report() -> impl IntoResponse {
///     // … who may have it is decided here …
///     (StatusCode::OK, AppendHeaders([
///         ("x-accel-redirect", "/protected/report%202026.pdf"),
///         ("content-disposition", "attachment; filename=report.pdf"),
///     ]))
/// }
///
/// # fn main() -> std::io::Result<()> {
/// # let reports = tempfile::tempdir()?;
/// # let reports = reports.path();
/// let files = SendFileLayer::new(Root::open(reports)?).prefix("/protected");
/// let app: Router = Router::new().route("/report", get(report)).layer(files);
/// # Ok(()) }
/// ```
///
/// # References
///
/// [nginx: X-Accel-Redirect](https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_ignore_headers),
/// [lighttpd: X-Sendfile](https://redmine.lighttpd.net/projects/lighttpd/wiki/X-LIGHTTPD-send-file).
#[derive(Clone, Debug)]
pub struct SendFileLayer {
    options: Arc<Options>,
}

#[derive(Clone, Debug)]
struct Options {
    root: Root,
    prefix: String,
    sendfile_prefix: Option<PathBuf>,
    lending: Lending,
}

impl SendFileLayer {
    /// Sends files beneath `root`.
    pub fn new(root: Root) -> Self {
        Self {
            options: Arc::new(Options {
                root,
                prefix: String::new(),
                sendfile_prefix: None,
                lending: Lending::Advertised,
            }),
        }
    }

    /// What stands before the path in `X-Accel-Redirect` and is taken off, as with nginx's
    /// `location /protected/ { internal; alias …; }`. A value without it is 404. Default: nothing.
    #[must_use]
    pub fn prefix(self, prefix: &str) -> Self {
        let prefix = prefix.trim_end_matches('/').to_owned();
        self.with(|options| options.prefix = prefix)
    }

    /// What absolute paths in `X-Sendfile` begin with, which is taken off: usually the root's own
    /// path. It is compared, and not looked up; it gives access to nothing that is not beneath the
    /// root. Default: absolute paths are 404.
    #[must_use]
    pub fn sendfile_prefix(self, prefix: impl Into<PathBuf>) -> Self {
        let prefix = prefix.into();
        self.with(|options| options.sendfile_prefix = Some(prefix))
    }

    /// Whether bodies are lent. Default: where the connection advertises it.
    #[must_use]
    pub fn lending(self, lending: Lending) -> Self {
        self.with(|options| options.lending = lending)
    }

    fn with(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(Arc::make_mut(&mut self.options));
        self
    }
}

impl<S> Layer<S> for SendFileLayer {
    type Service = SendFile<S>;

    fn layer(&self, inner: S) -> SendFile<S> {
        SendFile {
            inner,
            options: self.options.clone(),
        }
    }
}

/// The service that a [`SendFileLayer`] makes.
#[derive(Clone, Debug)]
pub struct SendFile<S> {
    inner: S,
    options: Arc<Options>,
}

impl<S, B, R> Service<Request<B>> for SendFile<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body<Data = Bytes>,
{
    type Response = Response<Either<FileBody, R>>;
    type Error = S::Error;
    type Future = SendFileFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The handler consumes the request.
        let asked = Asked::of(&request);
        SendFileFuture {
            answering: self.inner.call(request),
            asked: Some(asked),
            options: self.options.clone(),
            opening: None,
        }
    }
}

pin_project! {
    /// The response of a [`SendFile`]. Resolves when the handler's does, or, if that names a file,
    /// when the file is open.
    pub struct SendFileFuture<F> {
        #[pin]
        answering: F,
        // Taken when the handler has answered.
        asked: Option<Asked>,
        options: Arc<Options>,
        opening: Option<Opening>,
    }
}

type Opening = Pin<Box<dyn Future<Output = Response<FileBody>> + Send>>;

impl<F, R, E> Future for SendFileFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<Either<FileBody, R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            if let Some(opening) = this.opening {
                let response = ready!(opening.as_mut().poll(cx));
                return Poll::Ready(Ok(response.map(Either::Left)));
            }
            let mut response = match ready!(this.answering.as_mut().poll(cx)) {
                Ok(response) => response,
                Err(error) => return Poll::Ready(Err(error)),
            };
            let accel = response.headers_mut().remove(X_ACCEL_REDIRECT);
            let sendfile = response.headers_mut().remove(X_SENDFILE);
            let named = match (accel, sendfile) {
                (Some(value), _) => Named::by_accel(this.options, value),
                (None, Some(value)) => Named::by_sendfile(this.options, value),
                (None, None) => return Poll::Ready(Ok(response.map(Either::Right))),
            };
            let (handlers, _) = response.into_parts();
            let asked = this.asked.take().expect("polled after it was ready");
            let options = this.options.clone();
            *this.opening = Some(Box::pin(async move {
                let mut response = options.answer(named, &asked, handlers.headers).await;
                *response.extensions_mut() = handlers.extensions;
                response
            }));
        }
    }
}

impl<F> fmt::Debug for SendFileFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendFileFuture").finish_non_exhaustive()
    }
}

/// What a request asked, as far as the file's response depends on it.
struct Asked {
    method: Method,
    headers: HeaderMap,
    connection: Option<Connection>,
}

impl Asked {
    fn of<B>(request: &Request<B>) -> Self {
        // Conditions and ranges are a GET's and a HEAD's; most requests have none.
        let asks = matches!(*request.method(), Method::GET | Method::HEAD)
            && !conditional::is_plain(request.headers());
        Self {
            method: request.method().clone(),
            headers: match asks {
                true => request.headers().clone(),
                false => HeaderMap::new(),
            },
            connection: Connection::find(request.extensions()).cloned(),
        }
    }
}

/// The file that a handler named.
struct Named {
    value: HeaderValue,
    /// Below the root; `None` if it cannot be.
    path: Option<PathBuf>,
}

impl Named {
    fn by_accel(options: &Options, value: HeaderValue) -> Self {
        let path = str::from_utf8(value.as_bytes()).ok().and_then(|value| {
            let path = value.split(['?', '#']).next()?;
            let path = path.strip_prefix(&options.prefix)?;
            // "/protected" must not open "/protectedness".
            let whole = options.prefix.is_empty() || path.starts_with('/');
            let found = path::resolve(path, Dotfiles::Allow).ok()?;
            (whole && found.form == Form::File).then_some(found.path)
        });
        Self { value, path }
    }

    fn by_sendfile(options: &Options, value: HeaderValue) -> Self {
        let path = Path::new(OsStr::from_bytes(value.as_bytes()));
        let below = match &options.sendfile_prefix {
            Some(prefix) if path.is_absolute() => path.strip_prefix(prefix).ok(),
            _ => Some(path),
        };
        let path = below.and_then(normalised);
        Self { value, path }
    }
}

impl Options {
    async fn answer(&self, named: Named, asked: &Asked, handlers: HeaderMap) -> Response<FileBody> {
        let mut response = match self.open(&named).await {
            Ok(file) => self.respond(file, asked, &handlers),
            Err(response) => *response,
        };
        headers::keep(&mut response, handlers);
        for_method(&asked.method, response)
    }

    async fn open(&self, named: &Named) -> Result<FileResponse, Box<Response<FileBody>>> {
        let value = String::from_utf8_lossy(named.value.as_bytes());
        let Some(path) = named.path.clone() else {
            tracing::warn!(%value, "a handler named a file that cannot be beneath the root");
            return Err(Box::new(status(StatusCode::NOT_FOUND)));
        };
        let root = self.root.clone();
        let name = path.clone();
        let failure = match patiently(move |patience| root.look_up(&name, patience)).await {
            Ok(Opened::File(file)) => return Ok(FileResponse::new(file).content_type_of(&path)),
            Ok(Opened::Directory(_)) => Failure::NotFound(std::io::ErrorKind::IsADirectory.into()),
            Err(failure) => failure,
        };
        if let Failure::NotFound(error) | Failure::Forbidden(error) = &failure {
            tracing::warn!(%error, %value, "a handler named a file that cannot be sent");
        }
        Err(Box::new(refuse(&value, failure)))
    }

    fn respond(
        &self,
        mut file: FileResponse,
        asked: &Asked,
        handlers: &HeaderMap,
    ) -> Response<FileBody> {
        for (name, value) in headers::of_the_file(handlers) {
            file = file.header(name, value);
        }
        let mut extensions = Extensions::new();
        if let Some(connection) = &asked.connection {
            extensions.insert(connection.clone());
        }
        let file = file.lending(self.lending);
        match headers::without_ranges(handlers, &asked.headers) {
            Some(headers) => file.respond_to(&asked.method, &headers, &extensions),
            None => file.respond_to(&asked.method, &asked.headers, &extensions),
        }
    }
}

#[cfg(test)]
mod tests;
