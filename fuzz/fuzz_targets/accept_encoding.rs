//! Any `Accept-Encoding`: the content is in the coding that the head says, and that coding was
//! named, or any was.

#![no_main]

use std::sync::LazyLock;

use http::{HeaderValue, Request};
use lendfile::{Coding, ServeDir};
use lendfile_fuzz::{ROOT, ask, content};
use libfuzzer_sys::fuzz_target;

static SERVICE: LazyLock<ServeDir> =
    LazyLock::new(|| ServeDir::new(&*ROOT).unwrap().precompressed(Coding::ALL));

fuzz_target!(|accept: &[u8]| {
    let Ok(value) = HeaderValue::from_bytes(accept) else {
        return;
    };
    let request = Request::get("/file").header("accept-encoding", value).body(());
    let (status, headers, body) = ask(&*SERVICE, request.unwrap());
    assert_eq!(status, 200);
    assert_eq!(headers["vary"], "accept-encoding");
    match headers.get("content-encoding") {
        None => assert_eq!(body, content()),
        Some(coding) => {
            let coding = coding.to_str().unwrap();
            assert_eq!(&body[..], coding.as_bytes());
            let named = accept.to_ascii_lowercase();
            let contains = |what: &[u8]| named.windows(what.len()).any(|w| w == what);
            assert!(contains(coding.as_bytes()) || contains(b"*"));
        }
    }
});
