//! Content types by a file name's extension.

use std::path::Path;

use http::HeaderValue;
use mime_guess::{MimeGuess, mime};

/// What is not known.
pub(super) const UNKNOWN: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Text that is mostly met; the others are put together.
const TEXT: [(&str, &str); 5] = [
    ("text/css", "text/css; charset=utf-8"),
    ("text/html", "text/html; charset=utf-8"),
    ("text/javascript", "text/javascript; charset=utf-8"),
    ("text/plain", "text/plain; charset=utf-8"),
    ("text/xml", "text/xml; charset=utf-8"),
];

/// By the name's extension; UTF-8 is assumed for text.
pub(super) fn of(name: &Path) -> HeaderValue {
    let guess = MimeGuess::from_path(name);
    let Some(raw) = guess.first_raw() else {
        return UNKNOWN;
    };
    // Values that live for ever are cloned without counting.
    if let Some((_, text)) = TEXT.into_iter().find(|(kind, _)| *kind == raw) {
        return HeaderValue::from_static(text);
    }
    let is_text = guess
        .first()
        .is_some_and(|kind| kind.type_() == mime::TEXT && kind.get_param("charset").is_none());
    match is_text {
        true => HeaderValue::try_from(format!("{raw}; charset=utf-8"))
            .expect("a media type is a header value"),
        false => HeaderValue::from_static(raw),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_a_charset_and_the_unknown_is_bytes() {
        for (name, kind) in [
            ("a.html", "text/html; charset=utf-8"),
            ("A.HTML", "text/html; charset=utf-8"),
            ("a.csv", "text/csv; charset=utf-8"),
            ("a.js", "text/javascript; charset=utf-8"),
            ("a.json", "application/json"),
            ("a.wasm", "application/wasm"),
            ("a.svg", "image/svg+xml"),
            ("a.tar.gz", "application/gzip"),
            ("a", "application/octet-stream"),
            ("a.unknownext", "application/octet-stream"),
        ] {
            assert_eq!(of(Path::new(name)), kind, "{name}");
        }
    }
}
