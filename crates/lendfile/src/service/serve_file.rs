//! The service for one file.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use rustix::io::Errno;
use tower_service::Service;

use super::cache::{self, CacheLimits};
use super::coding::Coding;
use super::disposition::Disposition;
use super::future::ResponseFuture;
use super::options::{Options, shared_options};
use super::resource::Need;
use super::response::{for_method, status};
use super::root::{Failure, Root, patiently};
use super::site::{Asked, Hit, Site, other_method, refuse};
use crate::{FileBody, Lending};

/// The one entry of the cache.
const KEY: &str = "";

/// Serves one file, whatever the request's path. A tower service for any request body; cheap to
/// clone.
///
/// Conditions, ranges, methods and the rest are answered as by [`ServeDir`](crate::ServeDir).
///
/// # Examples
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let logo = lendfile::ServeFile::new("Cargo.toml")?
///     .cache_control("max-age=86400".parse().unwrap());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct ServeFile {
    inner: Arc<Inner>,
}

#[derive(Clone, Debug)]
struct Inner {
    site: Site,
    name: PathBuf,
}

impl ServeFile {
    /// Serves the file at `path`. Its directory is opened now, the file for the first request, so
    /// it may be replaced, and need not be there yet. If it is a symbolic link, one that leads out
    /// of that directory is not followed.
    ///
    /// # Errors
    ///
    /// Those of opening the directory; EINVAL if the path has no file name.
    pub fn new(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        Ok(Self {
            inner: Arc::new(Inner {
                site: Site::new(Root::open(directory)?),
                name: name.into(),
            }),
        })
    }

    shared_options!();

    fn with(mut self, change: impl FnOnce(&mut Options)) -> Self {
        let inner = Arc::make_mut(&mut self.inner);
        change(&mut inner.site.options);
        inner.site.forget_all();
        self
    }
}

impl<B> Service<Request<B>> for ServeFile {
    type Response = Response<FileBody>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        if let Some(response) = other_method(request.method()) {
            return ResponseFuture::ready(response);
        }
        // Without the body, the future is Send whatever the body is.
        let (head, _) = request.into_parts();
        let asked = Asked::of(&head);
        match self.inner.site.hit(KEY, asked, |file| asked.answer(file)) {
            Some(Hit::Response(response)) => return ResponseFuture::ready(response),
            Some(Hit::Nowhere) => {
                let response = for_method(&head.method, status(StatusCode::NOT_FOUND));
                return ResponseFuture::ready(response);
            }
            None => {}
        }
        let inner = self.inner.clone();
        ResponseFuture::opening(async move { inner.open_and_respond(&head).await })
    }
}

impl Inner {
    async fn open_and_respond(self: Arc<Self>, head: &Parts) -> Response<FileBody> {
        let looked_at = cache::now();
        let asked = Asked::of(head);
        let need = Need::of(&head.extensions);
        let inner = self.clone();
        let find = move |patience| inner.site.find(&inner.name, need, patience);
        let response = match patiently(find).await {
            Ok(resource) => {
                let respond = |file: &_| asked.answer(file);
                self.site.keep(KEY, looked_at, resource, asked, respond)
            }
            Err(failure) => {
                match failure {
                    Failure::NotFound(_) => _ = self.site.cache.refresh(KEY, looked_at, None),
                    _ => self.site.cache.forget(KEY),
                }
                refuse(&self.name.to_string_lossy(), failure)
            }
        };
        for_method(&head.method, response)
    }
}
