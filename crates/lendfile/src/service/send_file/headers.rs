//! Which of a handler's headers go with the file that is sent in place of its body.

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE,
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, EXPIRES, LAST_MODIFIED, RANGE, TRAILER,
    TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::FileBody;

/// They describe the body that is not sent.
const OF_THE_BODY: [HeaderName; 12] = [
    ACCEPT_RANGES,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    ETAG,
    LAST_MODIFIED,
    TRAILER,
    TRANSFER_ENCODING,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("repr-digest"),
];

/// They describe the file, and so nothing that is sent when it is not.
const OF_THE_FILE: [HeaderName; 5] = [
    CACHE_CONTROL,
    CONTENT_DISPOSITION,
    CONTENT_LANGUAGE,
    CONTENT_TYPE,
    EXPIRES,
];

/// What the file's response is made with: it knows which of them a 206 or a 304 has.
pub(super) fn of_the_file(handlers: &HeaderMap) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let type_ = handlers.get(CONTENT_TYPE);
    let unranged = handlers.get(ACCEPT_RANGES).filter(|value| *value == "none");
    [
        (CONTENT_TYPE, type_.cloned()),
        (ACCEPT_RANGES, unranged.cloned()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
}

/// The request's headers without its range, if the handler allows none.
pub(super) fn without_ranges(handlers: &HeaderMap, request: &HeaderMap) -> Option<HeaderMap> {
    let refused = handlers
        .get(ACCEPT_RANGES)
        .is_some_and(|value| value == "none");
    (refused && request.contains_key(RANGE)).then(|| {
        let mut headers = request.clone();
        headers.remove(RANGE);
        headers
    })
}

/// Adds the handler's headers to the file's response, or to the one that there is none.
pub(super) fn keep(response: &mut Response<FileBody>, mut handlers: HeaderMap) {
    for name in OF_THE_BODY {
        handlers.remove(name);
    }
    // It is in the file's response, or it does not belong there.
    handlers.remove(CONTENT_TYPE);
    if response.status() == StatusCode::NOT_MODIFIED {
        // RFC 9110 §15.4.5: what guides caches, and nothing about a body that is not there.
        handlers.remove(CONTENT_DISPOSITION);
        handlers.remove(CONTENT_LANGUAGE);
    } else if !response.status().is_success() {
        for name in OF_THE_FILE {
            handlers.remove(name);
        }
    }
    let headers = response.headers_mut();
    for name in handlers.keys() {
        headers.remove(name);
    }
    // Of a name that repeats, the later values have `None` for it.
    let mut name = None;
    for (next, value) in handlers {
        name = next.or(name);
        if let Some(name) = &name {
            headers.append(name, value);
        }
    }
}
