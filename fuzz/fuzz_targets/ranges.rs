//! Any `Range`: what is sent is what `Content-Range` says it is.

#![no_main]

use std::sync::LazyLock;

use http::{HeaderValue, Request};
use lendfile::ServeFile;
use lendfile_fuzz::{LEN, ROOT, ask, content};
use libfuzzer_sys::fuzz_target;

static SERVICE: LazyLock<ServeFile> =
    LazyLock::new(|| ServeFile::new(ROOT.join("file")).unwrap());

/// first-last of `bytes first-last/total`.
fn bounds(content_range: &str) -> (usize, usize) {
    let range = content_range.strip_prefix("bytes ").unwrap();
    let (range, total) = range.split_once('/').unwrap();
    assert_eq!(total, LEN.to_string());
    let (first, last) = range.split_once('-').unwrap();
    (first.parse().unwrap(), last.parse().unwrap())
}

fuzz_target!(|range: &[u8]| {
    let Ok(range) = HeaderValue::from_bytes(range) else {
        return;
    };
    let content = content();
    let request = Request::get("/").header("range", range).body(()).unwrap();
    let (status, headers, body) = ask(&*SERVICE, request);
    match status.as_u16() {
        200 => assert_eq!(body, content),
        206 if headers.contains_key("content-range") => {
            let (first, last) = bounds(headers["content-range"].to_str().unwrap());
            assert_eq!(body, content[first..=last]);
        }
        206 => {
            assert_eq!(headers["content-length"], body.len().to_string().as_str());
            let mut sum = 0;
            let mut rest = &body[..];
            while let Some(end) = rest.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = std::str::from_utf8(&rest[..end]).unwrap();
                let range = head.lines().find_map(|line| line.strip_prefix("content-range: "));
                let (first, last) = bounds(range.unwrap());
                rest = &rest[end + 4..];
                assert_eq!(rest[..=last - first], content[first..=last]);
                rest = &rest[last - first + 1..];
                sum += last - first + 1;
            }
            assert!(sum <= LEN, "more was sent than there is");
        }
        416 => assert_eq!(headers["content-range"], "bytes */1000"),
        other => panic!("{other}"),
    }
});
