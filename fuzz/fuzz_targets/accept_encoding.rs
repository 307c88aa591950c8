//! Any `Accept-Encoding`: the file comes in the coding that weighs most, and never in one that was
//! refused or not named.
//!
//! If nothing is acceptable the file is sent as it is: RFC 9110 §12.5.3 allows that, and asks for it
//! unless `identity` is refused.

#![no_main]

use std::sync::LazyLock;

use http::{HeaderValue, Request};
use lendfile::{Coding, ServeDir};
use lendfile_fuzz::{ROOT, ask, content};
use libfuzzer_sys::fuzz_target;

static SERVICE: LazyLock<ServeDir> =
    LazyLock::new(|| ServeDir::new(&*ROOT).unwrap().precompressed(Coding::ALL));

/// The first weight that is given to one of `names`, in thousandths; malformed elements are absent.
fn weight(accept: &str, names: &[&str]) -> Option<u32> {
    accept.split(',').find_map(|element| {
        let mut parts = element.split(';').map(str::trim);
        let name = parts.next()?.to_ascii_lowercase();
        let mut weight = 1000;
        for parameter in parts {
            let parameter: String = parameter.to_ascii_lowercase();
            let Some((key, value)) = parameter.split_once('=') else {
                continue;
            };
            if key.trim() == "q" {
                weight = thousandths(value.trim())?;
            }
        }
        names.contains(&&*name).then_some(weight)
    })
}

/// qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )
fn thousandths(text: &str) -> Option<u32> {
    let shape = match text.as_bytes() {
        [b'0' | b'1'] => true,
        [b'0' | b'1', b'.', decimals @ ..] => {
            decimals.len() <= 3 && decimals.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    };
    let value: f64 = shape.then(|| text.parse().ok())??;
    (value <= 1.0).then_some((value * 1000.0).round() as u32)
}

fuzz_target!(|accept: &[u8]| {
    let Ok(value) = HeaderValue::from_bytes(accept) else {
        return;
    };
    // What is not ASCII names no coding.
    let text = value.to_str().unwrap_or_default().to_owned();
    let any = weight(&text, &["*"]);
    let codings: [(&str, &[&str], &[u8]); 3] = [
        ("br", &["br"], b"br"),
        ("zstd", &["zstd"], b"zstd"),
        ("gzip", &["gzip", "x-gzip"], b"gzip"),
    ];
    let weights = codings.map(|(_, names, _)| weight(&text, names).or(any).unwrap_or(0));
    let most = *weights.iter().max().unwrap();
    let as_it_is = most == 0 || weight(&text, &["identity"]).is_some_and(|plain| plain > most);

    let request = Request::get("/file").header("accept-encoding", value);
    let (status, headers, body) = ask(&*SERVICE, request.body(()).unwrap());
    assert_eq!(status, 200);
    assert_eq!(headers["vary"], "accept-encoding");
    let coding = headers.get("content-encoding");
    if as_it_is {
        assert_eq!((coding, &body[..]), (None, &content()[..]));
    } else {
        // Of equal ones the first.
        let best = weights.iter().position(|weight| *weight == most).unwrap();
        let (name, _, bytes) = codings[best];
        assert_eq!(
            (coding.unwrap(), &body[..]),
            (&HeaderValue::from_static(name), bytes)
        );
    }
});
