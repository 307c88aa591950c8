//! Any of the five headers of conditions, together: an answer of theirs, and no panic.

#![no_main]

use std::sync::LazyLock;

use http::{HeaderValue, Request};
use lendfile::ServeFile;
use lendfile_fuzz::{ROOT, ask, content};
use libfuzzer_sys::fuzz_target;

static SERVICE: LazyLock<ServeFile> =
    LazyLock::new(|| ServeFile::new(ROOT.join("file")).unwrap());

const NAMES: [&str; 5] = [
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
];

fuzz_target!(|values: [Option<&[u8]>; 5]| {
    let mut request = Request::get("/").header("range", "bytes=1-2").body(()).unwrap();
    for (name, value) in NAMES.into_iter().zip(values) {
        if let Some(Ok(value)) = value.map(HeaderValue::from_bytes) {
            request.headers_mut().insert(name, value);
        }
    }
    let has = |name: &str| request.headers().contains_key(name);
    let [stopped, known, conditional] = [
        has("if-match") || has("if-unmodified-since"),
        has("if-none-match") || has("if-modified-since"),
        has("if-range"),
    ];
    let (status, _, body) = ask(&*SERVICE, request);
    match status.as_u16() {
        200 => assert!(conditional && body == content()),
        206 => assert_eq!(body, content()[1..=2]),
        304 => assert!(known && body.is_empty()),
        412 => assert!(stopped),
        other => panic!("{other}"),
    }
});
