//! Pages of made-up directories: their form, names that want to be markup, pieces.

use std::path::Path;

use http_body_util::BodyExt;

use super::entries::Kind;
use super::*;

fn entries(list: &[(&[u8], Kind, u64, i64)]) -> Entries {
    let mut entries = Entries::new();
    for &(name, kind, len, modified) in list {
        entries.push(name, kind, len, modified).unwrap();
    }
    entries
}

fn wanted(query: &str) -> Wanted {
    let request = http::Request::get(format!("/{query}")).body(()).unwrap();
    Wanted::of(&request.into_parts().0)
}

fn page(path: &str, query: &str, entries: Entries) -> String {
    let target = format!("/{path}/");
    written(html::Page::new(
        &target,
        Path::new(path),
        wanted(query),
        entries,
    ))
}

fn written(mut of: impl Written) -> String {
    let mut all = String::new();
    while of.write_next(&mut all) {}
    all
}

fn names(entries: &Entries) -> Vec<&str> {
    let names = (0..).map_while(|place| Some(entries.get(place)?.0));
    names.map(|name| str::from_utf8(name).unwrap()).collect()
}

#[test]
fn entries_are_sorted_as_asked_for_with_directories_first() {
    let mut found = entries(&[
        (b"b10", Kind::File, 1, 30),
        (b"A", Kind::File, 3, 10),
        (b"z", Kind::Directory, 0, 5),
        (b"b9", Kind::File, 1, 20),
        (b"y", Kind::Directory, 0, 40),
    ]);
    for (query, order) in [
        ("", ["y", "z", "A", "b9", "b10"]),
        ("?sort=name&order=desc", ["z", "y", "b10", "b9", "A"]),
        ("?sort=size", ["y", "z", "b9", "b10", "A"]),
        ("?sort=size&order=desc", ["y", "z", "A", "b9", "b10"]),
        ("?sort=modified", ["z", "y", "A", "b9", "b10"]),
        ("?order=desc&sort=modified", ["y", "z", "b10", "b9", "A"]),
    ] {
        found.sort(wanted(query));
        assert_eq!(names(&found), order, "{query}");
    }
}

#[test]
fn hostile_names_are_text_and_their_references_are_encoded() {
    let hostile: [&[u8]; 6] = [
        b"<script>alert(1)</script>",
        b"\" onmouseover=\"alert(1)",
        b"' & ' &amp;",
        b"line\nbreak",
        b"javascript:alert(1)",
        "rtl \u{202e}txt.exe".as_bytes(),
    ];
    let found = entries(&hostile.map(|name| (name, Kind::Directory, 1, 0)));
    let page = page("a/<b>", "?sort=size&order=desc", found);
    for raw in [
        "<script",
        "\" onmouse",
        "line\nbreak",
        "\u{202e}",
        "<b>",
        "href=\"javascript:",
    ] {
        assert!(!page.contains(raw), "{raw:?} in {page}");
    }
    for text in [
        "<bdi>&lt;script&gt;alert(1)&lt;/script&gt;</bdi>",
        "href=\"%3Cscript%3Ealert%281%29%3C%2Fscript%3E/?sort=size&amp;order=desc\"",
        "<bdi>line\\nbreak</bdi>",
        "<bdi>&#x27; &amp; &#x27; &amp;amp;</bdi>",
        "<bdi>rtl \\u{202e}txt.exe</bdi>",
        "<title>&lt;b&gt;</title>",
        "href=\"./../../?sort=size&amp;order=desc\"",
        "<th scope=col aria-sort=descending><a href=\"./?sort=size\">",
    ] {
        assert!(page.contains(text), "{text:?} not in {page}");
    }
}

#[test]
fn json_has_the_documented_form() {
    let found = entries(&[
        (b"d", Kind::Directory, 0, 1_000_000_000),
        (b"\"\n\xff", Kind::File, 7, -1),
    ]);
    let json: serde_json::Value =
        serde_json::from_str(&written(json::Document::new(found))).unwrap();
    let expected = serde_json::json!({
        "entries": [
            {"name": "d", "href": "d/", "type": "directory", "modified": "2001-09-09T01:46:40Z"},
            {"name": "\"\n\u{fffd}", "href": "%22%0A%FF", "type": "file", "size": 7, "modified": null},
        ],
        "truncated": false,
    });
    assert_eq!(json, expected);
    let empty = written(json::Document::new(entries(&[])));
    assert_eq!(empty, "{\"entries\":[\n],\"truncated\":false}\n");
}

#[test]
fn an_empty_directory_says_so() {
    let page = page("a", "", entries(&[]));
    assert!(page.contains("<p>Nothing here</p>") && page.ends_with("</html>\n"));
}

#[tokio::test]
async fn a_short_page_has_a_length_and_a_long_one_comes_in_small_pieces() {
    let of_files = |count: usize| {
        let mut found = Entries::new();
        for k in 0..count {
            found
                .push(format!("file {k}").as_bytes(), Kind::File, 1, 0)
                .unwrap();
        }
        body_of(html::Page::new("/", Path::new(""), wanted(""), found))
    };
    let (body, length) = of_files(100);
    assert_eq!(Some(body.collect().await.unwrap().to_bytes().len()), length);

    let (mut body, length) = of_files(100_000);
    assert_eq!(length, None);
    let (mut rows, mut pieces) = (0, 0);
    while let Some(frame) = body.frame().await {
        let piece = frame.unwrap().into_data().unwrap();
        assert!(piece.len() <= WHOLE_BYTES + (4 << 10), "{}", piece.len());
        assert!(pieces == 0 || piece.len() <= PIECE_BYTES + (4 << 10));
        // A piece ends with a row.
        rows += piece.windows(8).filter(|part| part == b"<tr><td>").count();
        pieces += 1;
    }
    assert_eq!(rows, 100_000);
    assert!(pieces > 100);
}

#[test]
fn a_tag_changes_with_anything_that_the_page_shows() {
    let one = |name: &[u8], len, modified| entries(&[(name, Kind::File, len, modified)]);
    let tags = [
        etag("/", wanted(""), &one(b"a", 1, 1)),
        etag("/b/", wanted(""), &one(b"a", 1, 1)),
        etag("/", wanted("?sort=size"), &one(b"a", 1, 1)),
        etag("/", wanted(""), &one(b"b", 1, 1)),
        etag("/", wanted(""), &one(b"a", 2, 1)),
        etag("/", wanted(""), &one(b"a", 1, 2)),
    ];
    for (i, tag) in tags.iter().enumerate() {
        assert!(!tags[..i].contains(tag));
    }
    assert_eq!(tags[0], etag("/", wanted(""), &one(b"a", 1, 1)));
}

#[tokio::test]
async fn a_directory_is_read_in_another_thread() {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "1").unwrap();
    let directory = Arc::new(OwnedFd::from(std::fs::File::open(dir.path()).unwrap()));
    let (head, ()) = http::Request::get("/").body(()).unwrap().into_parts();
    let root = Root::open(dir.path()).unwrap();
    let responding = respond(root, PathBuf::new(), directory, Dotfiles::Hide, &head);
    let mut responding = std::pin::pin!(responding);
    // Had it been read in this thread, it would be there at once.
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(responding.as_mut().poll(&mut cx), Poll::Pending));
    let body = responding.await.unwrap().into_body();
    let page = body.collect().await.unwrap().to_bytes();
    let page = str::from_utf8(&page).unwrap();
    assert!(page.contains("<bdi>file</bdi>"), "{page}");
}
