//! Any target: the answer that the policy gives it, the file that it names and no other, and
//! redirects that lead to what they promise.

#![no_main]

use std::sync::LazyLock;

use http::{HeaderMap, Request, Uri};
use lendfile::ServeDir;
use lendfile_fuzz::{ROOT, ask, content};
use libfuzzer_sys::fuzz_target;

static SERVICE: LazyLock<ServeDir> = LazyLock::new(|| {
    ServeDir::new(&*ROOT)
        .unwrap()
        .listing()
        .dotfiles()
        .index_files(["index.htm", "index.html"])
});

/// What a target leads to.
#[derive(Debug, PartialEq)]
enum Leads {
    Astray,
    /// To a directory of which there is a page.
    Listing,
    Malformed,
    Nowhere,
    /// To a directory that was named as a file.
    Slash,
    To(Vec<u8>),
}

/// The bytes that are meant, or `None`.
fn decode(segment: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::new();
    let mut rest = segment.iter();
    while let Some(byte) = rest.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(*rest.next()?).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            byte => *byte,
        });
    }
    (!decoded.contains(&0)).then_some(decoded)
}

fn leads(path: &str) -> Leads {
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut directory = true;
    for segment in path.as_bytes().split(|byte| *byte == b'/') {
        let Some(name) = decode(segment) else {
            return Leads::Malformed;
        };
        directory = true;
        match &name[..] {
            b"" | b"." => {}
            b".." => match names.pop() {
                Some(_) => {}
                None => return Leads::Malformed,
            },
            name if name.contains(&b'/') => return Leads::Nowhere,
            _ => {
                directory = false;
                names.push(name);
            }
        }
    }
    // The link that stays inside.
    if names.first().is_some_and(|name| name == b"in") {
        names[0] = b"a".to_vec();
    }
    let (named, directory) = (names.join(&b'/'), directory);
    let to = match &named[..] {
        b"file" => Leads::To(content()),
        b"file.br" => Leads::To(b"br".into()),
        b"file.gz" => Leads::To(b"gzip".into()),
        b"file.zst" => Leads::To(b"zstd".into()),
        b"a/index.html" => Leads::To(b"index".into()),
        b"a/b/c" => Leads::To(b"inside".into()),
        b"" | b"a/b" if directory => return Leads::Listing,
        b"a" if directory => return Leads::To(b"index".into()),
        b"" | b"a" | b"a/b" => return Leads::Slash,
        _ => return Leads::Nowhere,
    };
    // A file is no directory.
    if directory { Leads::Nowhere } else { to }
}

/// What the answer is to a GET of `uri`.
fn answer(uri: Uri) -> (Leads, HeaderMap) {
    let (status, headers, body) = ask(&*SERVICE, Request::get(uri).body(()).unwrap());
    let listed = headers
        .get("content-type")
        .is_some_and(|kind| kind == "text/html; charset=utf-8")
        && headers.contains_key("content-security-policy");
    let led = match status.as_u16() {
        200 if listed => Leads::Listing,
        200 => Leads::To(body.into()),
        301 => Leads::Slash,
        400 => Leads::Malformed,
        404 => Leads::Nowhere,
        _ => Leads::Astray,
    };
    (led, headers)
}

fuzz_target!(|target: &str| {
    let Ok(uri) = format!("/{target}").parse::<Uri>() else {
        return;
    };
    let query = uri.query().map(str::to_owned);
    let expected = leads(uri.path());
    let (led, headers) = answer(uri);
    assert_eq!(led, expected);
    if led != Leads::Slash {
        return;
    }
    let location = headers["location"].as_bytes();
    assert!(location.starts_with(b"/"));
    // Browsers take a backslash for a slash, and two of them begin another host's name.
    assert!(!location.starts_with(b"//") && !location.starts_with(b"/\\"));
    let location = Uri::try_from(location).unwrap();
    assert_eq!(location.query(), query.as_deref());
    assert!(matches!(answer(location).0, Leads::Listing | Leads::To(_)));
});
