//! What a header's value leads to, before anything is opened.

use super::*;

fn options() -> Options {
    let root = Root::open("/").unwrap();
    let layer = SendFileLayer::new(root)
        .prefix("/protected/")
        .sendfile_prefix("/srv/files");
    (*layer.options).clone()
}

fn value(text: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(text).unwrap()
}

#[test]
fn accel_paths_are_decoded_and_stay_below_their_prefix() {
    let options = options();
    for (text, path) in [
        (&b"/protected/a%20b.txt"[..], Some("a b.txt")),
        (b"/protected/a/../b?x=../..", Some("b")),
        ("/protected/ü".as_bytes(), Some("ü")),
        (b"/protected/.hidden", Some(".hidden")),
        (b"/protected/../secret", None),
        (b"/protected/%2e%2e/secret", None),
        (b"/protected/a%2fb", None),
        (b"/protected/a%00", None),
        (b"/protected/dir/", None),
        (b"/protected/", None),
        (b"/protectedness", None),
        (b"/protected", None),
        (b"/other/a", None),
        (b"", None),
        (b"/protected/\xff", None),
    ] {
        let named = Named::by_accel(&options, value(text));
        assert_eq!(named.path.as_deref(), path.map(Path::new), "{text:?}");
    }
}

#[test]
fn sendfile_paths_are_as_they_are() {
    let options = options();
    for (text, path) in [
        (&b"a%20b"[..], Some(&b"a%20b"[..])),
        (b"/srv/files/a?b", Some(b"a?b")),
        (b"/srv/files/./a//b/../c", Some(b"a/c")),
        (b"\xff", Some(b"\xff")),
        (b"../secret", None),
        (b"/srv/files/../secret", None),
        (b"/srv/filesystem/a", None),
        (b"/etc/passwd", None),
    ] {
        let named = Named::by_sendfile(&options, value(text));
        let path = path.map(|path| Path::new(OsStr::from_bytes(path)));
        assert_eq!(named.path.as_deref(), path, "{text:?}");
    }
    let mut unset = options;
    unset.sendfile_prefix = None;
    assert_eq!(Named::by_sendfile(&unset, value(b"/etc/passwd")).path, None);
}
