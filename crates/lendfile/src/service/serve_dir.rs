//! The service for a directory tree.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::LOCATION;
use http::request::Parts;
use http::{Extensions, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use rustix::io::Errno;
use tower_service::Service;

use super::cache::{self, CacheLimits, CacheUse};
use super::coding::Coding;
use super::disposition::Disposition;
use super::fallback::{self, Fallback};
use super::future::ResponseFuture;
use super::listing;
use super::options::{Options, shared_options};
use super::path::{self, Dotfiles, Form, Refused};
use super::resource::{Need, Resource};
use super::response::{for_method, status};
use super::root::{Failure, Opened, Patience, Root, Symlinks, patiently};
use super::site::{Asked, Hit, Site, other_method, refuse};
use crate::{FileBody, Lending};

/// Serves the files below a directory. A tower service for any request body; cheap to clone.
///
/// What it answers to what is written in the [module's documentation](crate::service).
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use lendfile::{Coding, ServeDir};
///
/// let site = ServeDir::new(".")?
///     .precompressed(Coding::ALL)
///     .cache_control_for_glob("*.html", "no-cache".parse()?)?
///     .immutable_hashed()
///     .not_found("404.html");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct ServeDir {
    inner: Arc<Inner>,
}

#[derive(Clone, Debug)]
struct Inner {
    site: Site,
    index: Vec<PathBuf>,
    dotfiles: Dotfiles,
    fallback: Option<Fallback>,
    listing: bool,
}

/// What a path led to.
#[expect(
    clippy::large_enum_variant,
    reason = "made once and taken apart at once"
)]
enum Found {
    /// To be listed.
    Directory(PathBuf, Arc<OwnedFd>),
    File(Resource),
    /// A directory that was named as a file.
    ToDirectory,
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
                site: Site::new(Root::open(root)?),
                index: vec![PathBuf::from("index.html")],
                dotfiles: Dotfiles::Hide,
                fallback: None,
                listing: false,
            }),
        })
    }

    /// How often its cache had the answer: for metrics.
    pub fn cache_use(&self) -> CacheUse {
        self.inner.site.cache.used()
    }

    /// The file that is served for a directory. Default: `index.html`.
    #[must_use]
    pub fn index(self, name: impl Into<PathBuf>) -> Self {
        self.index_files([name])
    }

    /// The files of which the first that is there is served for a directory. None: no directory
    /// has an index. Default: `index.html`.
    #[must_use]
    pub fn index_files<I>(self, names: I) -> Self
    where
        I: IntoIterator<Item: Into<PathBuf>>,
    {
        let names = names.into_iter().map(Into::into).collect();
        self.with_all(|inner| inner.index = names)
    }

    /// Serves names that begin with a dot, too. Default: they are 404, and not listed.
    #[must_use]
    pub fn dotfiles(self) -> Self {
        self.with_all(|inner| inner.dotfiles = Dotfiles::Allow)
    }

    /// Which symbolic links are followed. Default: those that stay inside the root.
    #[must_use]
    pub fn symlinks(self, symlinks: Symlinks) -> Self {
        self.with_all(|inner| inner.site.root = inner.site.root.clone().symlinks(symlinks))
    }

    /// Lists directories that have no index. Default: they are 404.
    ///
    /// Listed are the regular files and directories that are served: no dotfiles (unless they are
    /// [allowed](ServeDir::dotfiles)), no symbolic links that lead out of the root or to nothing, no
    /// devices. A file that may not be read is listed, and is 403.
    ///
    /// # The page
    ///
    /// HTML without a script, which may load nothing (`Content-Security-Policy`). The query
    /// `?sort=name`, `size` or `modified`, with `&order=asc` (the default) or `desc`, sorts;
    /// directories come first. Names are in the order of people: `v10` behind `v9`, and `B` behind
    /// `a`. What cannot be seen in a name, such as a line break, is shown as an escape, and what is
    /// not UTF-8 as U+FFFD; the links lead to the very files.
    ///
    /// # JSON
    ///
    /// Where `Accept` prefers `application/json` to `text/html`; the same query sorts.
    ///
    /// ```json
    /// {"entries": [
    ///   {"name": "docs", "href": "docs/", "type": "directory", "modified": "2026-11-26T06:12:00Z"},
    ///   {"name": "a b", "href": "a%20b", "type": "file", "size": 42, "modified": "2026-11-26T06:12:00Z"}
    /// ], "truncated": false}
    /// ```
    ///
    /// `href` is relative to the directory and exact; `name` has U+FFFD where it is not UTF-8.
    /// `size` is in bytes and only there for files. `modified` is in UTC, or `null` before 1970 and
    /// after 9999. `truncated`: the directory has more than is listed.
    ///
    /// # Bounds
    ///
    /// A directory is read again for each request, in one of tokio's threads for blocking work (16
    /// at most read), and sent in pieces while it is written. Of one directory 32 MiB of names are
    /// kept, which is more than 100,000 names; what is beyond is left out. All listings under way
    /// take 256 MiB at most; then a listing is 503.
    ///
    /// `Cache-Control: no-cache` and a weak entity tag of all that is shown let a browser keep the
    /// page, and ask each time whether it has changed.
    #[must_use]
    pub fn listing(self) -> Self {
        self.with_all(|inner| inner.listing = true)
    }

    /// Sends this file below the root, with the status 404, for paths that lead nowhere. Default:
    /// a line of text.
    #[must_use]
    pub fn not_found(self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.with_all(|inner| inner.fallback = Some(Fallback::not_found(path)))
    }

    /// Sends this file below the root, with the status 200, for paths that lead nowhere: the page
    /// of an application that does its own routing. Only to requests that accept `text/html` and
    /// whose last segment has no dot: a missing script stays missing. Default: a line of text,
    /// with 404.
    #[must_use]
    pub fn single_page(self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.with_all(|inner| inner.fallback = Some(Fallback::single_page(path)))
    }

    shared_options!();

    fn with(self, change: impl FnOnce(&mut Options)) -> Self {
        self.with_all(|inner| change(&mut inner.site.options))
    }

    fn with_all(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        let inner = Arc::make_mut(&mut self.inner);
        change(inner);
        inner.site.forget_all();
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
            return ResponseFuture::ready(response);
        }
        let inner = self.inner.clone();
        // Without the body, the future is Send whatever the body is.
        let (head, _) = request.into_parts();
        ResponseFuture::opening(async move {
            let response = inner.find_and_respond(&head).await;
            for_method(&head.method, response)
        })
    }
}

impl Inner {
    /// The response, if nothing needs to be opened for it.
    fn respond_at_once<B>(&self, request: &Request<B>) -> Option<Response<FileBody>> {
        if let Some(response) = other_method(request.method()) {
            return Some(response);
        }
        let asked = Asked {
            method: request.method(),
            headers: request.headers(),
            extensions: request.extensions(),
        };
        let target = request.uri().path();
        match self.site.hit(target, asked, |file| asked.answer(file))? {
            Hit::Response(response) => Some(response),
            Hit::Nowhere => self
                .fallback_at_once(target, asked)
                .map(|response| for_method(asked.method, response)),
        }
    }

    fn fallback_at_once(&self, target: &str, asked: Asked<'_>) -> Option<Response<FileBody>> {
        let wanted = self.fallback.as_ref();
        let Some(code) = wanted.and_then(|page| page.status_for(target, asked.headers)) else {
            return Some(status(StatusCode::NOT_FOUND));
        };
        let respond = respond_as(code, asked);
        match self.site.hit(fallback::KEY, asked, respond)? {
            Hit::Response(response) => Some(response),
            Hit::Nowhere => Some(status(StatusCode::NOT_FOUND)),
        }
    }

    async fn find_and_respond(self: Arc<Self>, head: &Parts) -> Response<FileBody> {
        let target = head.uri.path();
        let looked_at = cache::now();
        let asked = Asked::of(head);
        let need = Need::of(&head.extensions);
        let found = match path::resolve(target, self.dotfiles) {
            Err(Refused::Malformed) => return status(StatusCode::BAD_REQUEST),
            Err(Refused::NotFound) => Err(Failure::NotFound(Errno::NOENT.into())),
            Ok(named) => {
                let inner = self.clone();
                patiently(move |patience| inner.find(&named, need, patience)).await
            }
        };
        match found {
            Ok(Found::File(resource)) => {
                let respond = |file: &_| asked.answer(file);
                self.site.keep(target, looked_at, resource, asked, respond)
            }
            Ok(Found::Directory(path, directory)) => self.list(head, path, directory).await,
            Ok(Found::ToDirectory) => redirect_to_directory(&head.uri, &head.extensions),
            Err(Failure::NotFound(_)) => {
                self.site.cache.refresh(target, looked_at, None);
                self.fall_back(head).await
            }
            Err(failure) => {
                self.site.cache.forget(target);
                refuse(target, failure)
            }
        }
    }

    /// What `named` leads to.
    fn find(
        &self,
        named: &path::RelativePath,
        need: Need,
        patience: Patience,
    ) -> Result<Found, Failure> {
        let nowhere = |errno: Errno| Err(Failure::NotFound(errno.into()));
        let load = |path: &Path, file| {
            let resource = self.site.load(path, file, need, patience)?;
            Ok(Found::File(resource))
        };
        let directory = match (self.site.root.look_up(&named.path, patience)?, named.form) {
            (Opened::File(file), Form::File) => return load(&named.path, file),
            (Opened::File(_), Form::Directory) => return nowhere(Errno::NOTDIR),
            (Opened::Directory(_), Form::File) => return Ok(Found::ToDirectory),
            (Opened::Directory(directory), Form::Directory) => directory,
        };
        for name in &self.index {
            let index = named.path.join(name);
            match self.site.root.look_up(&index, patience) {
                Ok(Opened::File(file)) => return load(&index, file),
                Ok(Opened::Directory(_)) | Err(Failure::NotFound(_)) => {}
                Err(failure) => return Err(failure),
            }
        }
        match self.listing {
            true => Ok(Found::Directory(named.path.clone(), directory)),
            false => nowhere(Errno::NOENT),
        }
    }

    /// The answer for a path that leads nowhere.
    async fn fall_back(self: Arc<Self>, head: &Parts) -> Response<FileBody> {
        let asked = Asked::of(head);
        if let Some(response) = self.fallback_at_once(head.uri.path(), asked) {
            return response;
        }
        let target = head.uri.path();
        let Some((page, code)) = self.fallback.as_ref().and_then(|page| {
            let code = page.status_for(target, &head.headers)?;
            Some((page, code))
        }) else {
            return status(StatusCode::NOT_FOUND);
        };
        let looked_at = cache::now();
        let need = Need::of(&head.extensions);
        let inner = self.clone();
        let path = page.path.clone();
        let find = move |patience| inner.site.find(&path, need, patience);
        match patiently(find).await {
            Ok(resource) => {
                let respond = respond_as(code, asked);
                self.site
                    .keep(fallback::KEY, looked_at, resource, asked, respond)
            }
            Err(failure) => refuse(fallback::KEY, failure),
        }
    }

    async fn list(
        &self,
        head: &Parts,
        path: PathBuf,
        directory: Arc<OwnedFd>,
    ) -> Response<FileBody> {
        let root = self.site.root.clone();
        match listing::respond(root, path, directory, self.dotfiles, head).await {
            Ok(response) => response,
            Err(failure) => refuse(head.uri.path(), failure),
        }
    }
}

fn respond_as(
    status: StatusCode,
    asked: Asked<'_>,
) -> impl FnOnce(&super::FileResponse) -> Response<FileBody> {
    move |page| match status {
        StatusCode::OK => asked.answer(page),
        status => asked.answer_as(status, page),
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
