//! The service for a directory tree.

use std::convert::Infallible;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use http::header::{ALLOW, LOCATION};
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use lendfile_core::OpenFile;
use tower_service::Service;

use super::cache::{Cache, Entry};
use super::open::{Failure, Opened, Root};
use super::path::{self, Dotfiles, Form, Refused};
use super::response::{FileResponse, for_method, status};
use crate::{FileBody, Lending};

/// Time for which an open file is used without a look at its path.
const STALENESS: Duration = Duration::from_secs(1);

/// The methods that are answered.
const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

/// Serves the files below a directory. A tower service for any request body; cheap to clone.
///
/// What it answers to what is written in the [module's documentation](crate::service).
///
/// # Examples
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let service = lendfile::ServeDir::new(".")?.index("index.htm");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct ServeDir {
    inner: Arc<Inner>,
}

#[derive(Clone, Debug)]
struct Inner {
    root: Arc<Root>,
    cache: Arc<Cache>,
    staleness: Duration,
    index: PathBuf,
    dotfiles: Dotfiles,
    lending: Lending,
}

impl ServeDir {
    /// Serves what is below `root`, which is opened now and may be renamed later.
    ///
    /// # Errors
    ///
    /// Those of opening it; ENOTDIR if it is not a directory.
    pub fn new(root: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self {
            inner: Arc::new(Inner {
                root: Arc::new(Root::open(root.as_ref())?),
                cache: Arc::new(Cache::new(STALENESS)),
                staleness: STALENESS,
                index: PathBuf::from("index.html"),
                dotfiles: Dotfiles::Hide,
                lending: Lending::Advertised,
            }),
        })
    }

    /// The file that is served for a directory. Default: `index.html`.
    #[must_use]
    pub fn index(self, name: impl Into<PathBuf>) -> Self {
        let name = name.into();
        self.with(|inner| inner.index = name)
    }

    /// Serves names that begin with a dot, too.
    #[must_use]
    pub fn dotfiles(self) -> Self {
        self.with(|inner| inner.dotfiles = Dotfiles::Allow)
    }

    /// How long an open file is used before its path is looked at again, and so how late it is
    /// noticed that the path leads elsewhere: a symbolic link was changed, a directory renamed. A
    /// file that was written to, replaced or removed is noticed at once. 0 opens the file for each
    /// request. Default: 1 s. At most 256 files are kept open; unused ones for 10 s, or until the
    /// next request.
    #[must_use]
    pub fn staleness(self, time: Duration) -> Self {
        self.with(|inner| inner.staleness = time)
    }

    /// Whether bodies are lent. Default: where the connection advertises it.
    #[must_use]
    pub fn lending(self, lending: Lending) -> Self {
        self.with(|inner| inner.lending = lending)
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        let inner = Arc::make_mut(&mut self.inner);
        change(inner);
        // A clone with other options must not find what these allowed.
        inner.cache = Arc::new(Cache::new(inner.staleness));
        self
    }
}

impl<B> Service<Request<B>> for ServeDir {
    type Response = Response<FileBody>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        if let Some(response) = self.inner.respond_at_once(&request) {
            let response = for_method(request.method(), response);
            return ResponseFuture(Kind::Ready(Some(response)));
        }
        let inner = self.inner.clone();
        // Without the body, the future is Send whatever the body is.
        let (head, _) = request.into_parts();
        ResponseFuture(Kind::Opening(Box::pin(async move {
            let response = inner.find_and_respond(&head).await;
            for_method(&head.method, response)
        })))
    }
}

/// The response of a [`ServeDir`]; ready at once for a file that is open.
pub struct ResponseFuture(Kind);

enum Kind {
    Opening(Pin<Box<dyn Future<Output = Response<FileBody>> + Send>>),
    Ready(Option<Response<FileBody>>),
}

impl Future for ResponseFuture {
    type Output = Result<Response<FileBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Kind::Opening(opening) => opening.as_mut().poll(cx).map(Ok),
            Kind::Ready(response) => {
                Poll::Ready(Ok(response.take().expect("polled after it was ready")))
            }
        }
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl Inner {
    /// The response, if nothing needs to be opened for it.
    fn respond_at_once<B>(&self, request: &Request<B>) -> Option<Response<FileBody>> {
        match *request.method() {
            Method::GET | Method::HEAD => {
                let entry = self.cache.fresh(request.uri().path())?;
                Some(respond_with(
                    &entry,
                    request.method(),
                    request.headers(),
                    request.extensions(),
                ))
            }
            Method::OPTIONS => {
                let mut response = Response::new(FileBody::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                response.headers_mut().insert(ALLOW, ALLOWED);
                Some(response)
            }
            _ => {
                let mut response = status(StatusCode::METHOD_NOT_ALLOWED);
                response.headers_mut().insert(ALLOW, ALLOWED);
                Some(response)
            }
        }
    }

    async fn find_and_respond(&self, head: &Parts) -> Response<FileBody> {
        let target = head.uri.path();
        let asked = self.cache.now();
        let (file, name) = match self.find(head).await {
            Ok(found) => found,
            Err(response) => {
                self.cache.forget(target, asked);
                return *response;
            }
        };
        let response = FileResponse::new(file)
            .content_type_of(&name)
            .lending(self.lending);
        let entry = self.cache.refresh(target, asked, response);
        respond_with(&entry, &head.method, &head.headers, &head.extensions)
    }

    /// The file that the request's path leads to, and its name; or the answer that there is none.
    async fn find(
        &self,
        head: &Parts,
    ) -> Result<(Arc<OpenFile>, PathBuf), Box<Response<FileBody>>> {
        let answer = |code| Box::new(status(code));
        let found = path::resolve(head.uri.path(), self.dotfiles).map_err(|refused| {
            answer(match refused {
                Refused::Malformed => StatusCode::BAD_REQUEST,
                Refused::NotFound => StatusCode::NOT_FOUND,
            })
        })?;
        match (self.open(&found.path).await?, found.form) {
            (Opened::File(file), Form::File) => return Ok((file, found.path)),
            (Opened::File(_), Form::Directory) => return Err(answer(StatusCode::NOT_FOUND)),
            (Opened::Directory, Form::File) => {
                return Err(Box::new(redirect_to_directory(&head.uri, &head.extensions)));
            }
            (Opened::Directory, Form::Directory) => {}
        }
        let index = found.path.join(&self.index);
        match self.open(&index).await? {
            Opened::File(file) => Ok((file, index)),
            Opened::Directory => Err(answer(StatusCode::NOT_FOUND)),
        }
    }

    /// Opens from memory in this thread, or waits for the disk in another.
    async fn open(&self, path: &Path) -> Result<Opened, Box<Response<FileBody>>> {
        let result = match self.root.open_cached(path) {
            Some(result) => result,
            None => {
                let root = self.root.clone();
                let path = path.to_owned();
                match tokio::task::spawn_blocking(move || root.open_blocking(&path)).await {
                    Ok(result) => result,
                    Err(error) => Err(Failure::Other(io::Error::other(error))),
                }
            }
        };
        result.map_err(|failure| Box::new(refuse(path, failure)))
    }
}

fn respond_with(
    entry: &Entry,
    method: &Method,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Response<FileBody> {
    let response = entry.response().respond_to(method, headers, extensions);
    if response.body().is_lent() {
        entry.keep_mapping();
    }
    response
}

fn refuse(path: &Path, failure: Failure) -> Response<FileBody> {
    match failure {
        Failure::Forbidden => status(StatusCode::FORBIDDEN),
        Failure::NotFound => status(StatusCode::NOT_FOUND),
        Failure::Overloaded(error) => {
            tracing::error!(%error, ?path, "cannot open: out of descriptors or memory");
            status(StatusCode::SERVICE_UNAVAILABLE)
        }
        Failure::Other(error) => {
            tracing::error!(%error, ?path, "cannot open");
            status(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// 301 to the same path with a `/` behind it, and the query.
fn redirect_to_directory(uri: &Uri, extensions: &Extensions) -> Response<FileBody> {
    let uri = original(uri, extensions);
    // More than one leading slash would name another host, and browsers take a backslash for one.
    let path = uri.path().trim_start_matches('/').replace('\\', "%5C");
    let query = uri
        .query()
        .map_or(String::new(), |query| format!("?{query}"));
    let mut response = status(StatusCode::MOVED_PERMANENTLY);
    // What was a request's target is a header's value: hyper has checked its characters.
    if let Ok(location) = HeaderValue::try_from(format!("/{path}/{query}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// The target as the client sent it: axum takes the prefix off for a nested service.
fn original<'a>(uri: &'a Uri, extensions: &'a Extensions) -> &'a Uri {
    #[cfg(feature = "axum")]
    let uri = extensions
        .get::<axum::extract::OriginalUri>()
        .map_or(uri, |original| &original.0);
    #[cfg(not(feature = "axum"))]
    let _ = extensions;
    uri
}
