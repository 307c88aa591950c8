//! What is sent for a path that leads nowhere: a page of its own, or the page of an application
//! that does its own routing.

use std::path::PathBuf;

use http::header::ACCEPT;
use http::{HeaderMap, StatusCode};

use super::quality::weighted;

/// No request's path is this, so it is the fallback's name in the cache.
pub(super) const KEY: &str = ":fallback";

/// A file below the root.
#[derive(Clone, Debug)]
pub(super) struct Fallback {
    pub(super) path: PathBuf,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// With the status 404.
    NotFound,
    /// With the status 200.
    SinglePage,
}

impl Fallback {
    pub(super) fn not_found(path: PathBuf) -> Self {
        let kind = Kind::NotFound;
        Self { path, kind }
    }

    pub(super) fn single_page(path: PathBuf) -> Self {
        let kind = Kind::SinglePage;
        Self { path, kind }
    }

    /// The status to send it with; `None` if the request wants something else: a script that is
    /// missing must not turn into a page.
    pub(super) fn status_for(&self, target: &str, headers: &HeaderMap) -> Option<StatusCode> {
        match self.kind {
            Kind::NotFound => Some(StatusCode::NOT_FOUND),
            Kind::SinglePage => {
                let last = target.rsplit('/').next().unwrap_or_default();
                let page = !last.contains('.') && accepts_html(headers);
                page.then_some(StatusCode::OK)
            }
        }
    }
}

fn accepts_html(headers: &HeaderMap) -> bool {
    !headers.contains_key(ACCEPT)
        || weighted(headers, ACCEPT)
            .any(|(range, weight)| weight > 0 && ["text/html", "text/*", "*/*"].contains(&range))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_page_is_for_pages_only() {
        let fallback = Fallback::single_page("index.html".into());
        for (target, accept, page) in [
            ("/app/users", "text/html,*/*;q=0.8", true),
            ("/app/users/", "*/*", true),
            ("/app/users", "application/json", false),
            ("/app/users", "text/html;q=0", false),
            ("/app/missing.js", "*/*", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            let status = fallback.status_for(target, &headers);
            assert_eq!(status.is_some(), page, "{target} {accept}");
        }
        let status = fallback.status_for("/x", &HeaderMap::new());
        assert_eq!(status, Some(StatusCode::OK));
    }
}
