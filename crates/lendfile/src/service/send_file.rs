//! `X-Accel-Redirect` and `X-Sendfile`: a handler names a file in a header, and the layer sends it.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, ETAG, LAST_MODIFIED, TRANSFER_ENCODING};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Either;
use tower_layer::Layer;
use tower_service::Service;

use super::path::{self, Dotfiles};
use super::response::{FileResponse, for_method, status};
use super::root::{Failure, Opened, Root, patiently};
use super::site::refuse;
use crate::{FileBody, Lending};

/// nginx's: the value is a path as in a URL, percent-encoded.
const X_ACCEL_REDIRECT: HeaderName = HeaderName::from_static("x-accel-redirect");

/// Apache's and lighttpd's: the value is a path as the file system has it.
const X_SENDFILE: HeaderName = HeaderName::from_static("x-sendfile");

/// A layer that sends the file that a handler names in the header `X-Accel-Redirect` or
/// `X-Sendfile` in place of the handler's body.
///
/// So a handler decides who may have a file, and anything behind it, such as a reverse-proxied
/// application, needs to know nothing of lendfile. The file is looked for beneath one root only,
/// whatever the header says; a name that is not there, or would lead out, is 404. Conditions and
/// ranges are answered; the handler's other headers are kept, and win over the file's. Only a
/// response of status 200 to a GET or HEAD is replaced; the header is removed from all.
///
/// # Examples
///
/// ```
/// # async fn run() -> std::io::Result<()> {
/// use axum::{Router, routing::get};
/// use lendfile::{Root, SendFileLayer};
///
/// let app: Router = Router::new()
///     .route("/report", get(async || [("x-accel-redirect", "/protected/report%202026.pdf")]))
///     .layer(SendFileLayer::new(Root::open("/srv/reports")?).prefix("/protected"));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct SendFileLayer {
    options: Arc<Options>,
}

#[derive(Clone, Debug)]
struct Options {
    root: Root,
    prefix: String,
    lending: Lending,
}

impl SendFileLayer {
    /// Sends files beneath `root`.
    pub fn new(root: Root) -> Self {
        Self {
            options: Arc::new(Options {
                root,
                prefix: String::new(),
                lending: Lending::Advertised,
            }),
        }
    }

    /// What stands before the path in `X-Accel-Redirect` and is taken off, as with nginx's
    /// `location /protected/ { internal; alias …; }`. A value without it is 404. Default: nothing.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        let prefix = prefix.trim_end_matches('/');
        prefix.clone_into(&mut Arc::make_mut(&mut self.options).prefix);
        self
    }

    /// Whether bodies are lent. Default: where the connection advertises it.
    #[must_use]
    pub fn lending(mut self, lending: Lending) -> Self {
        Arc::make_mut(&mut self.options).lending = lending;
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

type BoxedFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl<S, B, R> Service<Request<B>> for SendFile<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<Either<FileBody, R>>;
    type Error = S::Error;
    type Future = BoxedFuture<Self::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The handler consumes the request, and may have changed it before it answers.
        let asked = AskedBefore {
            method: request.method().clone(),
            headers: request.headers().clone(),
            extensions: request.extensions().clone(),
        };
        let options = self.options.clone();
        let answering = self.inner.call(request);
        Box::pin(async move {
            let mut response = answering.await?;
            let accel = response.headers_mut().remove(X_ACCEL_REDIRECT);
            let sendfile = response.headers_mut().remove(X_SENDFILE);
            let named = match (accel, sendfile) {
                (Some(value), _) => options.path_of_accel(&value),
                (None, Some(value)) => options.path_of_sendfile(&value),
                (None, None) => return Ok(response.map(Either::Right)),
            };
            let replaceable = matches!(asked.method, Method::GET | Method::HEAD);
            if response.status() != StatusCode::OK || !replaceable {
                return Ok(response.map(Either::Right));
            }
            let (head, _) = response.into_parts();
            Ok(options
                .send(named, asked, head.headers)
                .await
                .map(Either::Left))
        })
    }
}

struct AskedBefore {
    method: Method,
    headers: HeaderMap,
    extensions: Extensions,
}

impl Options {
    fn path_of_accel(&self, value: &HeaderValue) -> Option<PathBuf> {
        let value = value.to_str().ok()?.strip_prefix(&self.prefix)?;
        // "/protected" must not open "/protectedness".
        if !self.prefix.is_empty() && !value.starts_with('/') {
            return None;
        }
        let path = value.split(['?', '#']).next().unwrap_or_default();
        let found = path::resolve(path, Dotfiles::Allow).ok()?;
        (found.form == path::Form::File).then_some(found.path)
    }

    /// Relative to the root; an absolute path would lead out.
    fn path_of_sendfile(&self, value: &HeaderValue) -> Option<PathBuf> {
        use std::os::unix::ffi::OsStrExt;
        let path = std::ffi::OsStr::from_bytes(value.as_bytes());
        super::root::normalised(path.as_ref())
    }

    async fn send(
        &self,
        named: Option<PathBuf>,
        asked: AskedBefore,
        handlers: HeaderMap,
    ) -> Response<FileBody> {
        let response = match named {
            Some(path) => self.open_and_answer(path, &asked, handlers).await,
            None => status(StatusCode::NOT_FOUND),
        };
        for_method(&asked.method, response)
    }

    async fn open_and_answer(
        &self,
        path: PathBuf,
        asked: &AskedBefore,
        handlers: HeaderMap,
    ) -> Response<FileBody> {
        let (root, name) = (self.root.clone(), path.clone());
        let file = match patiently(move |patience| root.look_up(&name, patience)).await {
            Ok(Opened::File(file)) => file,
            Ok(Opened::Directory(_)) => return status(StatusCode::NOT_FOUND),
            Err(failure) => {
                if let Failure::NotFound(error) = &failure {
                    tracing::warn!(%error, ?path, "a handler named a file that is not there");
                }
                return refuse(&path.to_string_lossy(), failure);
            }
        };
        let response = FileResponse::new(file)
            .content_type_of(&path)
            .lending(self.lending);
        let mut response = response.respond_to(&asked.method, &asked.headers, &asked.extensions);
        if response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED {
            keep_handlers(response.headers_mut(), handlers);
        }
        response
    }
}

/// What the handler said wins, but for what describes the body that was replaced.
fn keep_handlers(headers: &mut HeaderMap, mut handlers: HeaderMap) {
    for name in [
        CONTENT_LENGTH,
        CONTENT_ENCODING,
        ETAG,
        LAST_MODIFIED,
        TRANSFER_ENCODING,
    ] {
        handlers.remove(name);
    }
    // The boundary of a multipart response is in its type.
    let multipart = headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"multipart/byteranges"));
    let bodyless = !headers.contains_key(CONTENT_LENGTH);
    if multipart || bodyless {
        handlers.remove(http::header::CONTENT_TYPE);
    }
    let mut last = None;
    for (name, value) in handlers {
        // A name that repeats is given once (http's IntoIter).
        match name {
            Some(name) => {
                headers.insert(name.clone(), value);
                last = Some(name);
            }
            None => {
                if let Some(name) = &last {
                    headers.append(name.clone(), value);
                }
            }
        }
    }
}
