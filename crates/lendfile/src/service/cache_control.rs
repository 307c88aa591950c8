//! Rules for `Cache-Control`: by content type, by name, by what a name looks like.

use std::path::Path;

use glob::{MatchOptions, Pattern};
use http::HeaderValue;

/// For a file whose name changes with its content (RFC 8246).
static IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// Shortest part of a name that is taken for a hash: what bundlers write (Vite and webpack 8 or
/// more characters, esbuild 8).
const HASH_CHARS: usize = 8;

/// `*` does not cross a `/`; names that begin with a dot are like others.
const GLOB: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// The first rule that matches decides.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    otherwise: Option<HeaderValue>,
}

#[derive(Clone, Debug)]
enum Rule {
    Glob(Pattern, HeaderValue),
    Hashed,
    Type(String, HeaderValue),
}

impl Rules {
    pub(super) fn add_glob(
        &mut self,
        glob: &str,
        value: HeaderValue,
    ) -> Result<(), glob::PatternError> {
        self.rules.push(Rule::Glob(Pattern::new(glob)?, value));
        Ok(())
    }

    pub(super) fn add_hashed(&mut self) {
        self.rules.push(Rule::Hashed);
    }

    pub(super) fn add_type(&mut self, media_range: &str, value: HeaderValue) {
        self.rules
            .push(Rule::Type(media_range.to_ascii_lowercase(), value));
    }

    pub(super) fn set_otherwise(&mut self, value: HeaderValue) {
        self.otherwise = Some(value);
    }

    /// The value for the file at `path`, below the root, of this content type.
    pub(super) fn value_for(&self, path: &Path, content_type: &HeaderValue) -> Option<HeaderValue> {
        self.rules
            .iter()
            .find_map(|rule| match rule {
                Rule::Glob(glob, value) => matches_glob(glob, path).then_some(value),
                Rule::Hashed => is_hashed(path).then_some(&IMMUTABLE),
                Rule::Type(range, value) => matches_type(range, content_type).then_some(value),
            })
            .or(self.otherwise.as_ref())
            .cloned()
    }
}

/// A glob without a slash is matched with the file's name, wherever the file is.
fn matches_glob(glob: &Pattern, path: &Path) -> bool {
    let whole = glob.as_str().contains('/');
    let path = match path.file_name() {
        Some(name) if !whole => Path::new(name),
        _ => path,
    };
    // Names that are not UTF-8 match no pattern, which is.
    path.to_str()
        .is_some_and(|path| glob.matches_with(path, GLOB))
}

/// Whether a content type is `type/subtype`, or within `type/*` or `*/*`.
fn matches_type(range: &str, content_type: &HeaderValue) -> bool {
    let essence = content_type.to_str().unwrap_or_default();
    let essence = essence.split(';').next().unwrap_or_default().trim();
    match range.strip_suffix("/*") {
        Some("*") => true,
        Some(wanted) => essence
            .split_once('/')
            .is_some_and(|(kind, _)| kind.eq_ignore_ascii_case(wanted)),
        None => essence.eq_ignore_ascii_case(range),
    }
}

/// Whether a part of the name, between dots and dashes, looks like a hash: 8 or more characters
/// that are hexadecimal with both digits and letters, or that mix capitals, small letters and
/// digits.
fn is_hashed(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    // Neither what comes before the first separator nor the extension is one.
    let Some((stem, _extension)) = name.rsplit_once('.') else {
        return false;
    };
    stem.split(['.', '-']).skip(1).any(|part| {
        let has = |class: fn(&u8) -> bool| part.as_bytes().iter().any(class);
        let all = |class: fn(&u8) -> bool| part.as_bytes().iter().all(class);
        let hexadecimal =
            all(u8::is_ascii_hexdigit) && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic);
        let mixed = all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
            && has(u8::is_ascii_digit)
            && has(u8::is_ascii_uppercase)
            && has(u8::is_ascii_lowercase);
        part.len() >= HASH_CHARS && (hexadecimal || mixed)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &'static str) -> HeaderValue {
        HeaderValue::from_static(text)
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let mut rules = Rules::default();
        rules.add_glob("*.html", value("no-cache")).unwrap();
        rules.add_glob("assets/**/*.woff2", value("fonts")).unwrap();
        rules.add_glob("top/*", value("top")).unwrap();
        rules.add_hashed();
        rules.add_type("image/*", value("max-age=60"));
        rules.add_type("text/CSS", value("css"));
        rules.set_otherwise(value("max-age=1"));
        for (path, kind, expected) in [
            ("a/b/page.html", "text/html", "no-cache"),
            ("assets/x/y/f.woff2", "font/woff2", "fonts"),
            ("top/a", "text/plain", "top"),
            ("top/a/b", "text/plain", "max-age=1"),
            (
                "app.3f2a9c1b.js",
                "text/javascript",
                "public, max-age=31536000, immutable",
            ),
            ("cat.png", "image/png", "max-age=60"),
            ("x.css", "text/css; charset=utf-8", "css"),
            ("x.txt", "text/plain; charset=utf-8", "max-age=1"),
        ] {
            let kind = HeaderValue::from_static(kind);
            let found = rules.value_for(Path::new(path), &kind);
            assert_eq!(found.unwrap(), expected, "{path}");
        }
        let none = Rules::default().value_for(Path::new("a"), &value("text/plain"));
        assert_eq!(none, None);
    }

    #[test]
    fn names_with_hashes_are_known_from_others() {
        for name in [
            "app.3f2a9c1b.js",
            "index-BwDk3qXa.js",
            "chunk-7.d41d8cd98f00b204e980.css",
            "main.a1b2c3d4.chunk.js",
        ] {
            assert!(is_hashed(Path::new(name)), "{name}");
        }
        for name in [
            "index.html",
            "report-20240101.pdf",
            "3f2a9c1b.js",
            "photo-IMG12345.jpg",
            "jquery-3.7.1.min.js",
            "some-deadbeef.js",
            "a-3f2a9c1b",
            "app.3f2a9c1.js",
        ] {
            assert!(!is_hashed(Path::new(name)), "{name}");
        }
    }
}
