//! What both services stand on: a root, the options, and the cache of what they led to.

use std::path::Path;
use std::sync::Arc;

use http::header::ALLOW;
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Method, Response, StatusCode};
use lendfile_core::OpenFile;
use rustix::io::Errno;

use super::cache::Cache;
use super::options::Options;
use super::resource::{Need, Resource};
use super::response::{FileResponse, status};
use super::root::{Failure, Opened, Patience, Root};
use crate::FileBody;

/// The methods that are answered.
const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) root: Root,
    pub(super) options: Options,
    pub(super) cache: Arc<Cache>,
}

/// What a response is made from, of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) headers: &'a HeaderMap,
    pub(super) extensions: &'a Extensions,
}

impl<'a> Asked<'a> {
    pub(super) fn of(head: &'a Parts) -> Self {
        Self {
            method: &head.method,
            headers: &head.headers,
            extensions: &head.extensions,
        }
    }

    pub(super) fn answer(self, response: &FileResponse) -> Response<FileBody> {
        response.respond_to(self.method, self.headers, self.extensions)
    }

    pub(super) fn answer_as(
        self,
        status: StatusCode,
        response: &FileResponse,
    ) -> Response<FileBody> {
        response.respond_as(status, self.method, self.extensions)
    }
}

/// What is known without asking the kernel for more than whether a file has changed.
pub(super) enum Hit {
    Nowhere,
    Response(Response<FileBody>),
}

impl Site {
    pub(super) fn new(root: Root) -> Self {
        let options = Options::default();
        Self {
            root,
            cache: Arc::new(Cache::new(options.staleness, options.limits)),
            options,
        }
    }

    /// A clone with other options must not find what these allowed.
    pub(super) fn forget_all(&mut self) {
        self.cache = Arc::new(Cache::new(self.options.staleness, self.options.limits));
    }

    /// What `key` led to a moment ago.
    pub(super) fn hit(
        &self,
        key: &str,
        asked: Asked<'_>,
        respond: impl FnOnce(&FileResponse) -> Response<FileBody>,
    ) -> Option<Hit> {
        let hit = self.find_hit(key, asked, respond);
        self.cache.count(hit.is_some());
        hit
    }

    fn find_hit(
        &self,
        key: &str,
        asked: Asked<'_>,
        respond: impl FnOnce(&FileResponse) -> Response<FileBody>,
    ) -> Option<Hit> {
        let entry = self.cache.fresh(key)?;
        let Some(resource) = entry.resource() else {
            return Some(Hit::Nowhere);
        };
        resource
            .select(asked.headers)
            .respond_if_unchanged(|| Need::of(asked.extensions), respond)
            .map(Hit::Response)
    }

    /// Makes the responses of the file at `path`.
    pub(super) fn find(
        &self,
        path: &Path,
        need: Need,
        patience: Patience,
    ) -> Result<Resource, Failure> {
        match self.root.look_up(path, patience)? {
            Opened::File(file) => self.load(path, file, need, patience),
            Opened::Directory(_) => Err(Failure::NotFound(Errno::ISDIR.into())),
        }
    }

    /// Makes the responses of a file that was found.
    pub(super) fn load(
        &self,
        path: &Path,
        file: Arc<OpenFile>,
        need: Need,
        patience: Patience,
    ) -> Result<Resource, Failure> {
        Resource::load(&self.root, path, file, &self.options, need, patience)
    }

    /// Keeps what `key` led to, and answers with it.
    pub(super) fn keep(
        &self,
        key: &str,
        looked_at: u64,
        resource: Resource,
        asked: Asked<'_>,
        respond: impl FnOnce(&FileResponse) -> Response<FileBody>,
    ) -> Response<FileBody> {
        let entry = self.cache.refresh(key, looked_at, Some(resource));
        match entry.resource() {
            Some(resource) => resource.select(asked.headers).respond(respond),
            // Another request looked later, and it was gone.
            None => status(StatusCode::NOT_FOUND),
        }
    }
}

/// The answer to a method that is none for files.
pub(super) fn other_method(method: &Method) -> Option<Response<FileBody>> {
    let mut response = match *method {
        Method::GET | Method::HEAD => return None,
        Method::OPTIONS => {
            let mut response = Response::new(FileBody::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        _ => status(StatusCode::METHOD_NOT_ALLOWED),
    };
    response.headers_mut().insert(ALLOW, ALLOWED);
    Some(response)
}

/// The answer when nothing could be opened.
pub(super) fn refuse(path: &str, failure: Failure) -> Response<FileBody> {
    match failure {
        Failure::Forbidden(_) => status(StatusCode::FORBIDDEN),
        Failure::NotFound(_) => status(StatusCode::NOT_FOUND),
        Failure::Overloaded(error) => {
            tracing::error!(%error, path, "cannot open: out of descriptors or memory");
            status(StatusCode::SERVICE_UNAVAILABLE)
        }
        failure @ (Failure::Other(_) | Failure::WouldWait) => {
            let error = std::io::Error::from(failure);
            tracing::error!(%error, path, "cannot open");
            status(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}
