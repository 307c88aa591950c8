//! Orders, formats, and names that want to be markup.

use std::os::unix::ffi::OsStringExt;

use super::*;

fn named(name: impl Into<Vec<u8>>, kind: Kind) -> Entry {
    Entry {
        name: OsString::from_vec(name.into()),
        kind,
        modified: UNIX_EPOCH + Duration::from_secs(1_000_000_000),
    }
}

fn listing(entries: Vec<Entry>) -> Listing {
    Listing {
        path: PathBuf::from("a/<b>"),
        entries,
        cut: false,
    }
}

fn wanted(query: &str, accept: &str) -> Wanted {
    let request = http::Request::get(format!("/?{query}"))
        .header(ACCEPT, accept)
        .body(())
        .unwrap();
    Wanted::of(&request.into_parts().0)
}

fn names(listing: &Listing) -> Vec<&str> {
    listing
        .entries
        .iter()
        .map(|entry| entry.name.to_str().unwrap())
        .collect()
}

fn written(of: impl Written) -> String {
    let bytes: Vec<u8> = Pieces::of(of).flatten().collect();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn json_is_sent_only_where_it_is_preferred() {
    for (accept, format) in [
        ("application/json", Format::Json),
        ("application/*", Format::Json),
        ("*/*", Format::Html),
        ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Html),
        ("text/html;q=0.5, application/json", Format::Json),
        ("application/json;q=0, */*", Format::Html),
    ] {
        assert_eq!(wanted("", accept).format, format, "{accept}");
    }
}

#[test]
fn entries_are_sorted_as_asked_for_with_directories_first() {
    let file = |name: &str, len| named(name, Kind::File { len });
    let mut found = listing(vec![
        file("b", 1),
        file("A", 3),
        named("z", Kind::Directory),
        file("c", 2),
        named("y", Kind::Directory),
    ]);
    for (query, order) in [
        ("", ["y", "z", "A", "b", "c"]),
        ("sort=name&order=desc", ["z", "y", "c", "b", "A"]),
        ("sort=size", ["y", "z", "b", "c", "A"]),
        ("sort=size&order=desc", ["y", "z", "A", "c", "b"]),
        ("sort=nonsense&order=x", ["y", "z", "A", "b", "c"]),
    ] {
        found.sort(wanted(query, "*/*"));
        assert_eq!(names(&found), order, "{query}");
    }
}

#[test]
fn hostile_names_are_text_and_their_references_are_relative() {
    let hostile: [&[u8]; 8] = [
        b"<script>alert(1)</script>",
        b"\" onmouseover=\"alert(1)",
        b"' & ' &amp;",
        b"line\nbreak\ttab",
        b"javascript:alert(1)",
        b"\xff\xfe not UTF-8",
        "rtl \u{202e}txt.exe".as_bytes(),
        b"a?b#c%41",
    ];
    let entries = hostile.map(|name| named(name, Kind::File { len: 1 }));
    let page = written(html::Page::new(
        listing(entries.to_vec()),
        wanted("", "*/*"),
    ));
    for raw in ["<script", "=\"\"", "line\nbreak", "\u{202e}", "<b>"] {
        assert!(!page.contains(raw), "{raw:?} in {page}");
    }
    for text in [
        "&lt;script&gt;alert(1)&lt;",
        "href=\"./%3Cscript%3Ealert%281%29%3C%2Fscript%3E\"",
        "line\\u{a}break\\u{9}tab",
        "href=\"./javascript%3Aalert%281%29\"",
        "href=\"./%FF%FE%20not%20UTF-8\"",
        "href=\"./%22%20onmouseover%3D%22alert%281%29\"",
        "rtl \\u{202e}txt.exe",
        "href=\"./a%3Fb%23c%2541\"",
        "&lt;b&gt;",
    ] {
        assert!(page.contains(text), "{text:?} not in {page}");
    }
    let json = written(json::Array::new(listing(entries.to_vec())));
    let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(parsed[0]["name"], "<script>alert(1)</script>");
    assert_eq!(parsed[3]["name"], "line\nbreak\ttab");
    assert_eq!(parsed[3]["size"], 1);
    assert_eq!(parsed[3]["mtime"], "2001-09-09T01:46:40Z");
}

#[test]
fn empty_listings_are_well_formed() {
    assert_eq!(written(json::Array::new(listing(Vec::new()))), "[]\n");
    let page = written(html::Page::new(listing(Vec::new()), wanted("", "*/*")));
    assert!(page.contains("0 folders, 0 files") && page.ends_with("</html>\n"));
}

#[test]
fn a_hundred_thousand_names_are_written_in_small_pieces() {
    let entries = (0..100_000)
        .map(|k| named(format!("file {k}"), Kind::File { len: k }))
        .collect();
    let pieces = Pieces::of(html::Page::new(listing(entries), wanted("", "*/*")));
    let mut rows = 0;
    for piece in pieces {
        assert!(piece.len() < PIECE_BYTES + 8192, "{}", piece.len());
        rows += piece.windows(10).filter(|w| w == b"<tr><td cl").count();
    }
    // A row may be on the border of two pieces nowhere: pieces end with a row.
    assert_eq!(rows, 100_000);
}
