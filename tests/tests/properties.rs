//! For any ranges the bytes are the naive slice; for any path nothing outside is served; for any
//! conditions the answer is one of the few there are.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use lendfile::{FileBody, FileResponse, OpenFile, ServeDir};
use proptest::prelude::*;
use tokio::runtime::Runtime;
use tower::ServiceExt;

const LEN: usize = 1000;

/// A tree with a secret beside the root, and links to it.
static TREE: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(dir.path().join("secret"), "secret").unwrap();
    let content: Vec<u8> = (0..=250_u8).cycle().take(LEN).collect();
    fs::write(root.join("file"), content).unwrap();
    fs::write(root.join("a/b/c.txt"), "inside").unwrap();
    std::os::unix::fs::symlink("..", root.join("up")).unwrap();
    std::os::unix::fs::symlink("../../../secret", root.join("a/b/secret")).unwrap();
    (dir, root)
});

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
});

fn collect(response: Response<FileBody>) -> (StatusCode, http::HeaderMap, Bytes) {
    let (head, body) = response.into_parts();
    let bytes = RUNTIME.block_on(body.collect()).unwrap().to_bytes();
    (head.status, head.headers, bytes)
}

fn respond(header: &str, value: &str) -> (StatusCode, http::HeaderMap, Bytes) {
    let (_, root) = &*TREE;
    let response = FileResponse::new(OpenFile::open(root.join("file")).unwrap());
    let request = Request::get("/").header(header, value).body(()).unwrap();
    collect(response.respond(&request))
}

/// What a range is of a file of `LEN` bytes, written as naively as can be.
fn naive(first: Option<usize>, last: Option<usize>) -> Option<std::ops::Range<usize>> {
    let range = match (first, last) {
        (None, None) => return None,
        (None, Some(suffix)) => LEN.saturating_sub(suffix)..LEN,
        (Some(first), None) => first..LEN,
        (Some(first), Some(last)) if last < first => return None,
        (Some(first), Some(last)) => first..LEN.min(last + 1),
    };
    (range.start < range.end).then_some(range)
}

fn overlap(ranges: &[std::ops::Range<usize>]) -> bool {
    let mut seen = [false; LEN];
    ranges
        .iter()
        .flat_map(Clone::clone)
        .any(|at| std::mem::replace(&mut seen[at], true))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn for_any_ranges_the_bytes_are_the_naive_slices(
        asked in prop::collection::vec((prop::option::of(0..LEN + 20), prop::option::of(0..LEN + 20)), 1..8)
    ) {
        let (_, root) = &*TREE;
        let content = fs::read(root.join("file")).unwrap();
        let text = |n: Option<usize>| n.map_or(String::new(), |n| n.to_string());
        let list: Vec<String> = asked
            .iter()
            .map(|(first, last)| format!("{}-{}", text(*first), text(*last)))
            .collect();
        // "-" and "-0" are no ranges (RFC 9110 §14.1.2).
        let malformed = asked.iter().any(|range| matches!(range, (None, None | Some(0))));
        let (status, headers, body) = respond("range", &format!("bytes={}", list.join(",")));
        let parts: Vec<_> = asked.iter().filter_map(|(first, last)| naive(*first, *last)).collect();
        if malformed || parts.is_empty() {
            prop_assert_eq!(status, 416);
            prop_assert_eq!(&headers["content-range"], "bytes */1000");
        } else if let [part] = &*parts {
            prop_assert_eq!(status, 206);
            prop_assert_eq!(&body[..], &content[part.clone()]);
        } else if overlap(&parts) {
            prop_assert_eq!(status, 200);
            prop_assert_eq!(&body[..], &content[..]);
        } else {
            prop_assert_eq!(status, 206);
            prop_assert_eq!(headers["content-length"].to_str().unwrap(), body.len().to_string());
            let mut rest = &body[..];
            for part in parts {
                let head = rest.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
                prop_assert_eq!(&rest[head..head + part.len()], &content[part.clone()]);
                rest = &rest[head + part.len()..];
            }
            prop_assert!(rest.starts_with(b"\r\n--") && rest.ends_with(b"--\r\n"));
        }
    }

    #[test]
    fn for_any_text_a_range_is_answered_by_one_of_three(value in "bytes=[ -~]{0,40}|[!-~ ]{0,40}") {
        let (status, _, body) = respond("range", value.trim());
        match status.as_u16() {
            200 => prop_assert_eq!(body.len(), LEN),
            206 => prop_assert!(!body.is_empty()),
            416 => {}
            other => prop_assert!(false, "{}: {}", value, other),
        }
    }

    #[test]
    fn for_any_path_nothing_outside_is_served(
        segments in prop::collection::vec(
            prop_oneof![
                Just("..".to_owned()), Just(".".to_owned()), Just("%2e%2e".to_owned()),
                Just("a".to_owned()), Just("b".to_owned()), Just("up".to_owned()),
                Just("secret".to_owned()), Just("root".to_owned()), Just("c.txt".to_owned()),
                Just("..%2f..".to_owned()), Just("%2f".to_owned()), Just("..%5c".to_owned()),
                Just(String::new()), "[a-z%0-9.]{0,8}",
            ],
            0..12,
        )
    ) {
        let (_, root) = &*TREE;
        let path = format!("/{}", segments.join("/"));
        let Ok(request) = Request::get(path.as_str()).body(()) else { return Ok(()) };
        let service = ServeDir::new(Path::new(root)).unwrap().listing();
        let response = RUNTIME.block_on(service.oneshot(request)).unwrap();
        let (status, headers, body) = collect(response);
        prop_assert!([200, 301, 400, 404].contains(&status.as_u16()), "{}: {}", path, status);
        prop_assert!(&body[..] != b"secret", "{}", path);
        if let Some(location) = headers.get("location") {
            let location = location.to_str().unwrap();
            prop_assert!(location.starts_with('/') && !location.starts_with("//"), "{}", location);
        }
    }

    #[test]
    fn for_any_condition_the_answer_is_one_of_those_of_its_header(
        name in prop::sample::select(&["if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"][..]),
        value in "[!-~ ]{0,60}|(W/)?\"[!-~]{0,8}\"(, ?\"[!-~]{0,8}\"){0,3}|\\*",
    ) {
        let (status, _, _) = respond(name, value.trim());
        let allowed: &[u16] = match name {
            "if-match" | "if-unmodified-since" => &[200, 412],
            "if-none-match" | "if-modified-since" => &[200, 304],
            _ => &[200],
        };
        prop_assert!(allowed.contains(&status.as_u16()), "{}: {} gives {}", name, value, status);
    }

    #[test]
    fn for_any_accept_encoding_the_file_comes_in_a_coding_that_was_not_refused(value in "((br|gzip|zstd|\\*|identity|x-gzip|[a-z]{1,5})(; ?q=[01](\\.[0-9]{0,4})?)?,? ?){0,5}|[!-~ ]{0,40}") {
        use std::time::SystemTime;
        static CODED: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
            let dir = tempfile::tempdir().unwrap();
            for name in ["f", "f.br", "f.gz", "f.zst"] {
                fs::write(dir.path().join(name), name).unwrap();
            }
            let old = SystemTime::UNIX_EPOCH;
            fs::File::open(dir.path().join("f")).unwrap().set_modified(old).unwrap();
            dir
        });
        static SERVICE: LazyLock<ServeDir> = LazyLock::new(|| {
            ServeDir::new(CODED.path()).unwrap().precompressed(lendfile::Coding::ALL)
        });
        let request = Request::get("/f").header("accept-encoding", value.trim()).body(()).unwrap();
        let response = RUNTIME.block_on(SERVICE.clone().oneshot(request)).unwrap();
        let (status, headers, body) = collect(response);
        prop_assert_eq!(status, 200);
        let expected: &[u8] = match headers.get("content-encoding").map(|v| v.to_str().unwrap()) {
            None => b"f",
            Some("br") => b"f.br",
            Some("gzip") => b"f.gz",
            Some("zstd") => b"f.zst",
            Some(other) => panic!("{other}"),
        };
        prop_assert_eq!(&body[..], expected);
        if let Some(coding) = headers.get("content-encoding") {
            let coding = coding.to_str().unwrap();
            let lower = value.to_ascii_lowercase();
            prop_assert!(lower.contains(coding) || lower.contains('*'), "{}: {}", value, coding);
        }
    }
}
