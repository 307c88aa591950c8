//! Any of the five headers of conditions, together: the answer that RFC 9110 §13.2.2 demands.
//!
//! The input is five lines, one for each header; an empty one is a header that is not there.

#![no_main]

use std::sync::LazyLock;
use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, Request};
use lendfile::{FileResponse, OpenFile};
use lendfile_fuzz::{ROOT, collect, content, modified};
use libfuzzer_sys::fuzz_target;

const TAG: &str = "\"t\"";

/// With a tag that is known here: the file's own depends on its inode.
static FILE: LazyLock<FileResponse> = LazyLock::new(|| {
    let file = OpenFile::open(ROOT.join("file")).unwrap();
    FileResponse::new(file).etag(TAG).unwrap()
});

const NAMES: [&str; 5] = [
    "if-match",
    "if-unmodified-since",
    "if-none-match",
    "if-modified-since",
    "if-range",
];

/// Any, or tags with their `W/`.
enum Tags {
    Any,
    These(Vec<Vec<u8>>),
}

/// Every second piece between quotes is a tag; in between there are commas and white space.
fn tags(headers: &HeaderMap, name: &str) -> Option<Tags> {
    let value = headers.get(name)?.as_bytes().trim_ascii();
    if value == b"*" {
        return Some(Tags::Any);
    }
    let pieces: Vec<&[u8]> = value.split(|byte| *byte == b'"').collect();
    if pieces.len() < 3 || pieces.len() % 2 == 0 {
        return None;
    }
    let mut tags = Vec::new();
    for (index, between) in pieces.iter().enumerate().step_by(2) {
        let last = index + 1 == pieces.len();
        let weak = !last && between.ends_with(b"W/");
        let commas = between
            .strip_suffix(b"W/")
            .filter(|_| weak)
            .unwrap_or(between);
        if !commas.iter().all(|byte| b", \t".contains(byte)) {
            return None;
        }
        if index > 0 && !last && !commas.contains(&b',') {
            return None;
        }
        if !last {
            let tag = pieces[index + 1];
            if tag.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
                return None;
            }
            let weak: &[u8] = if weak { b"W/" } else { b"" };
            tags.push([weak, b"\"", tag, b"\""].concat());
        }
    }
    Some(Tags::These(tags))
}

fn date(headers: &HeaderMap, name: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

fn expected(headers: &HeaderMap) -> u16 {
    let strong = TAG.as_bytes().to_vec();
    let weak = [b"W/", TAG.as_bytes()].concat();
    match tags(headers, "if-match") {
        Some(Tags::These(tags)) if !tags.contains(&strong) => return 412,
        Some(_) => {}
        None if date(headers, "if-unmodified-since").is_some_and(|date| modified() > date) => {
            return 412;
        }
        None => {}
    }
    match tags(headers, "if-none-match") {
        Some(Tags::Any) => return 304,
        Some(Tags::These(tags)) if tags.contains(&strong) || tags.contains(&weak) => return 304,
        Some(_) => {}
        None if date(headers, "if-modified-since").is_some_and(|date| modified() <= date) => {
            return 304;
        }
        None => {}
    }
    let same = match headers.get("if-range") {
        None => true,
        Some(tag) if tag == TAG => true,
        Some(_) => date(headers, "if-range") == Some(modified()),
    };
    if same { 206 } else { 200 }
}

fuzz_target!(|lines: &[u8]| {
    let mut request = Request::get("/")
        .header("range", "bytes=1-2")
        .body(())
        .unwrap();
    for (name, line) in NAMES.into_iter().zip(lines.split(|byte| *byte == b'\n')) {
        // White space around a value is not part of it (RFC 9110 §5.5).
        let line = line.trim_ascii();
        if let Some(value) = HeaderValue::from_bytes(line)
            .ok()
            .filter(|_| !line.is_empty())
        {
            request.headers_mut().insert(name, value);
        }
    }
    let expected = expected(request.headers());
    let (status, headers, body) = collect(FILE.respond(&request));
    assert_eq!(status, expected, "{:?}", request.headers());
    match expected {
        200 => assert_eq!(body, content()),
        206 => assert_eq!(body, content()[1..=2]),
        304 => {
            assert!(body.is_empty());
            assert_eq!(headers["etag"], TAG);
            assert!(headers.contains_key("last-modified"));
            assert!(!headers.contains_key("content-length"));
        }
        _ => {}
    }
});
