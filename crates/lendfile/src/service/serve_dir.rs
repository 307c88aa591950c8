//! The service for a directory tree.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{ALLOW, LOCATION};
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use tower_service::Service;

use super::cache::Cache;
use super::open::{Failure, Opened, Root};
use super::path::{self, Dotfiles, Form, Refused};
use super::response::{FileResponse, status};
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

    /// How long an open file is used before its path is looked at again, and so how late a changed,
    /// replaced or removed file is noticed. 0 opens the file for each request. Default: 1 s. At
    /// most 256 files are kept open; unused ones for 10 s, or until the next request.
    #[must_use]
    pub fn staleness(self, time: Duration) -> Self {
        self.with(|inner| inner.cache = Arc::new(Cache::new(time)))
    }

    /// Whether bodies are lent. Default: where the connection advertises it.
    #[must_use]
    pub fn lending(self, lending: Lending) -> Self {
        self.with(|inner| inner.lending = lending)
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.inner));
        self
    }
}

impl<B> Service<Request<B>> for ServeDir {
    type Response = Response<FileBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<FileBody>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let inner = self.inner.clone();
        // Without the body, the future is Send whatever the body is.
        let (head, _) = request.into_parts();
        Box::pin(async move {
            Ok(inner
                .respond(&head.method, &head.uri, &head.headers, &head.extensions)
                .await)
        })
    }
}

impl Inner {
    async fn respond(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Response<FileBody> {
        match *method {
            Method::GET | Method::HEAD => {}
            Method::OPTIONS => {
                let mut response = Response::new(FileBody::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                response.headers_mut().insert(ALLOW, ALLOWED);
                return response;
            }
            _ => {
                let mut response = status(StatusCode::METHOD_NOT_ALLOWED);
                response.headers_mut().insert(ALLOW, ALLOWED);
                return response;
            }
        }
        let found = match path::resolve(uri.path(), self.dotfiles) {
            Ok(found) => found,
            Err(Refused::Malformed) => return status(StatusCode::BAD_REQUEST),
            Err(Refused::NotFound) => return status(StatusCode::NOT_FOUND),
        };
        let (file, name) = match self.open(&found.path).await {
            Ok(Opened::File(file)) if found.form == Form::File => (file, found.path),
            Ok(Opened::File(_)) => return status(StatusCode::NOT_FOUND),
            Ok(Opened::Directory) if found.form == Form::File => {
                return redirect_to_directory(uri, extensions);
            }
            Ok(Opened::Directory) => {
                let index = found.path.join(&self.index);
                match self.open(&index).await {
                    Ok(Opened::File(file)) => (file, index),
                    Ok(Opened::Directory) => return status(StatusCode::NOT_FOUND),
                    Err(failure) => return refuse(&index, failure),
                }
            }
            Err(failure) => return refuse(&found.path, failure),
        };
        let response = FileResponse::new(file.clone())
            .content_type_of(&name)
            .lending(self.lending)
            .respond_to(method, headers, extensions);
        if response.body().is_lent() {
            self.cache.keep_mapping(&name, &file);
        }
        response
    }

    async fn open(&self, path: &Path) -> Result<Opened, Failure> {
        if let Some(opened) = self.cache.fresh(path) {
            return Ok(opened);
        }
        match self.open_now(path).await {
            Ok(opened) => Ok(self.cache.refresh(path, opened)),
            Err(failure) => {
                self.cache.forget(path);
                Err(failure)
            }
        }
    }

    /// Opens from memory in this thread, or waits for the disk in another.
    async fn open_now(&self, path: &Path) -> Result<Opened, Failure> {
        if let Some(result) = self.root.open_cached(path) {
            return result;
        }
        let root = self.root.clone();
        let path = path.to_owned();
        match tokio::task::spawn_blocking(move || root.open_blocking(&path)).await {
            Ok(result) => result,
            Err(error) => Err(Failure::Other(io::Error::other(error))),
        }
    }
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
