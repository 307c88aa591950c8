//! Any `Range`: the parts of the file that were asked for, or the answer that the policy gives.

#![no_main]

use std::ops::Range;
use std::sync::LazyLock;

use http::{HeaderMap, HeaderValue, Request};
use lendfile::ServeFile;
use lendfile_fuzz::{LEN, ROOT, ask, content};
use libfuzzer_sys::fuzz_target;

/// Few, so that there are soon too many.
const MOST: usize = 4;

static SERVICE: LazyLock<ServeFile> =
    LazyLock::new(|| ServeFile::new(ROOT.join("file")).unwrap().max_ranges(MOST));

/// What should be sent; empty for 416, `None` for the whole.
fn wanted(header: &HeaderValue) -> Option<Vec<Range<usize>>> {
    let text = header.as_bytes();
    let equals = text.iter().position(|byte| *byte == b'=')?;
    let (unit, set) = (&text[..equals], &text[equals + 1..]);
    if !unit.trim_ascii().eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    if !set.is_ascii() {
        return Some(Vec::new());
    }
    let specs: Vec<&[u8]> = set
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|spec| !spec.is_empty())
        .collect();
    if specs.len() > MOST {
        return None;
    }
    let mut ranges = Vec::new();
    for spec in specs {
        match range(spec) {
            // One that is malformed spoils all.
            None => return Some(Vec::new()),
            Some(range) if range.is_empty() => {}
            Some(range) => ranges.push(range),
        }
    }
    let mut covered = [false; LEN];
    for at in ranges.iter().cloned().flatten() {
        if std::mem::replace(&mut covered[at], true) {
            return None;
        }
    }
    Some(ranges)
}

/// `None` if it is malformed, empty if it cannot be satisfied.
fn range(spec: &[u8]) -> Option<Range<usize>> {
    let dash = spec.iter().position(|byte| *byte == b'-')?;
    match (&spec[..dash], &spec[dash + 1..]) {
        // None of any length: taken for malformed.
        (b"", suffix) => match number(suffix)? {
            0 => None,
            len => Some(LEN - len.min(LEN)..LEN),
        },
        (first, b"") => Some(number(first)?..LEN),
        (first, last) => Some(number(first)?..number(last)?.saturating_add(1).min(LEN)),
    }
}

/// Digits, however many.
fn number(digits: &[u8]) -> Option<usize> {
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    all.then(|| {
        digits.iter().fold(0_usize, |number, digit| {
            number
                .saturating_mul(10)
                .saturating_add(usize::from(digit - b'0'))
        })
    })
}

fn content_range(range: &Range<usize>) -> String {
    format!("bytes {}-{}/{LEN}", range.start, range.end - 1)
}

/// A multipart body, as it must be to the byte.
fn multipart(headers: &HeaderMap, ranges: &[Range<usize>]) -> Vec<u8> {
    let kind = headers["content-type"].to_str().unwrap();
    let boundary = kind
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap();
    let mut body = Vec::new();
    for range in ranges {
        let first = if body.is_empty() { "" } else { "\r\n" };
        let head = format!(
            "{first}--{boundary}\r\ncontent-type: application/octet-stream\r\n\
             content-range: {}\r\n\r\n",
            content_range(range),
        );
        body.extend(head.as_bytes());
        body.extend(&content()[range.clone()]);
    }
    body.extend(format!("\r\n--{boundary}--\r\n").as_bytes());
    body
}

fuzz_target!(|range: &[u8]| {
    let Ok(range) = HeaderValue::from_bytes(range) else {
        return;
    };
    let wanted = wanted(&range);
    let request = Request::get("/").header("range", range);
    let (status, headers, body) = ask(&*SERVICE, request.body(()).unwrap());
    match wanted.as_deref() {
        None => {
            assert_eq!(status, 200);
            assert_eq!(body, content());
        }
        Some([]) => {
            assert_eq!(status, 416);
            assert_eq!(headers["content-range"], "bytes */1000");
        }
        Some([one]) => {
            assert_eq!(status, 206);
            assert_eq!(headers["content-range"], content_range(one).as_str());
            assert_eq!(body, content()[one.clone()]);
        }
        Some(several) => {
            assert_eq!(status, 206);
            assert!(!headers.contains_key("content-range"));
            assert_eq!(body, multipart(&headers, several));
        }
    }
});
