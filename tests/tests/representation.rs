//! What a file is sent as: its codings, its headers, and what stands in for it.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use http::header::{CACHE_CONTROL, HeaderName};
use http::{HeaderValue, Request};
use lendfile::{
    Coding, Disposition, FileRegion, FileResponse, Method, OpenFile, Root, ServeDir, ServeFile,
};
use lendfile_tests::client::{Client, Response};
use lendfile_tests::server::{Network, Server, Stack, Testable};
use tower::service_fn;

/// Writes a file whose time lies an hour back, so that its tag is strong.
fn write(path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
    fs::write(&path, content).unwrap();
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(hour_ago).unwrap();
}

fn serve<S: Testable<B>, B>(service: S) -> (Server, Client)
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    let server = Server::start(Stack::Serve, Network::Tcp, Method::Auto, service);
    let client = Client::connect(&server.address);
    (server, client)
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers.get(name).map(String::as_str)
}

fn value(text: &'static str) -> HeaderValue {
    HeaderValue::from_static(text)
}

#[test]
fn the_coding_that_is_preferred_is_sent_with_its_own_tag_and_ranges() {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("app.js", "plain text"),
        ("app.js.br", "brotli"),
        ("app.js.gz", "gzipped!"),
        ("lone.js", "alone"),
        ("dir.js", "has a directory beside it"),
    ] {
        write(dir.path().join(name), content);
    }
    fs::create_dir(dir.path().join("dir.js.br")).unwrap();
    let service = ServeDir::new(dir.path()).unwrap();
    let (_server, mut client) = serve(service.precompressed(Coding::ALL));
    // Twice: once looked up, once from the cache.
    for _ in 0..2 {
        let mut tags = Vec::new();
        for (accept, coding, body) in [
            ("", None, "plain text"),
            ("gzip, br", Some("br"), "brotli"),
            ("zstd, gzip;q=0.5", Some("gzip"), "gzipped!"),
            ("br;q=0, *;q=0.1", Some("gzip"), "gzipped!"),
            ("identity, br;q=0.5", None, "plain text"),
        ] {
            let asked = format!("accept-encoding: {accept}\r\n");
            let found = client.get("/app.js", &asked);
            assert_eq!(header(&found, "content-encoding"), coding, "{accept}");
            assert_eq!(found.body, body.as_bytes(), "{accept}");
            assert_eq!(header(&found, "vary"), Some("accept-encoding"));
            let kind = header(&found, "content-type");
            assert_eq!(kind, Some("text/javascript; charset=utf-8"));
            let tag = header(&found, "etag").unwrap().to_owned();
            assert!(tag.starts_with('"'), "{tag}");

            let part = client.get("/app.js", &format!("{asked}range: bytes=1-3\r\n"));
            assert_eq!((part.status, &*part.body), (206, &body.as_bytes()[1..4]));
            assert_eq!(header(&part, "content-encoding"), coding);
            let known = client.get("/app.js", &format!("{asked}if-none-match: {tag}\r\n"));
            assert_eq!(known.status, 304);
            assert_eq!(header(&known, "vary"), Some("accept-encoding"));
            assert_eq!(header(&known, "content-encoding"), None);
            let head = client.request("HEAD", "/app.js", &asked);
            assert_eq!(header(&head, "content-encoding"), coding);
            let length = body.len().to_string();
            assert_eq!(header(&head, "content-length"), Some(&*length));
            tags.push((coding, tag));
        }
        tags.sort();
        tags.dedup();
        assert_eq!(tags.len(), 3, "a tag for each coding: {tags:?}");
        for path in ["/lone.js", "/dir.js"] {
            let found = client.get(path, "accept-encoding: br, gzip\r\n");
            assert_eq!(header(&found, "content-encoding"), None, "{path}");
            assert_eq!(header(&found, "vary"), None, "{path}");
        }
        // Asked for by its own name it is a file like others.
        let archive = client.get("/app.js.gz", "accept-encoding: gzip\r\n");
        assert_eq!(header(&archive, "content-type"), Some("application/gzip"));
        assert_eq!(header(&archive, "content-encoding"), None);
    }
}

#[test]
fn siblings_go_no_way_out_of_the_root() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("root")).unwrap();
    write(dir.path().join("secret"), "secret");
    write(dir.path().join("root/a.txt"), "content");
    std::os::unix::fs::symlink("../secret", dir.path().join("root/a.txt.br")).unwrap();
    let service = ServeDir::new(dir.path().join("root")).unwrap();
    let (_server, mut client) = serve(service.precompressed([Coding::Brotli]));
    let found = client.get("/a.txt", "accept-encoding: br\r\n");
    assert_eq!(found.body, b"content");
}

#[test]
fn options_put_headers_on_files_and_on_304() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "index.html",
        "app.3f2a9c1b.js",
        "cat.png",
        "notes.txt",
        "data.geojson",
    ] {
        write(dir.path().join(name), name);
    }
    let service = ServeDir::new(dir.path())
        .unwrap()
        .cache_control_for_glob("*.html", value("no-cache"))
        .unwrap()
        .immutable_hashed()
        .cache_control_for_type("image/*", value("max-age=600"))
        .cache_control(value("max-age=5"))
        .content_type("geojson", value("application/geo+json"))
        .disposition(Disposition::Inline)
        .header(HeaderName::from_static("x-extra"), value("yes"));
    assert!(
        service
            .clone()
            .cache_control_for_glob("a[", value("x"))
            .is_err()
    );
    let (_server, mut client) = serve(service);
    for (path, cache_control) in [
        ("/", "no-cache"),
        ("/app.3f2a9c1b.js", "public, max-age=31536000, immutable"),
        ("/cat.png", "max-age=600"),
        ("/notes.txt", "max-age=5"),
    ] {
        let found = client.get(path, "");
        assert_eq!(
            header(&found, "cache-control"),
            Some(cache_control),
            "{path}"
        );
        assert_eq!(header(&found, "x-extra"), Some("yes"));
        let tag = header(&found, "etag").unwrap();
        let known = client.get(path, &format!("if-none-match: {tag}\r\n"));
        assert_eq!(known.status, 304);
        assert_eq!(
            header(&known, "cache-control"),
            Some(cache_control),
            "{path}"
        );
        for gone in ["content-type", "content-length", "content-disposition"] {
            assert_eq!(header(&known, gone), None, "{path} {gone}");
        }
        for kept in ["etag", "last-modified"] {
            assert!(header(&known, kept).is_some(), "{path} {kept}");
        }
    }
    let found = client.get("/data.geojson", "");
    assert_eq!(header(&found, "content-type"), Some("application/geo+json"));
    let disposition = header(&found, "content-disposition");
    assert_eq!(disposition, Some("inline; filename=\"data.geojson\""));
    assert_eq!(header(&client.get("/missing", ""), "x-extra"), None);
}

#[test]
fn paths_that_lead_nowhere_get_the_page_that_was_named_for_them() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("404.html"), "<h1>not here</h1>");
    write(dir.path().join("index.html"), "app");
    let service = ServeDir::new(dir.path()).unwrap();
    let (_server, mut client) = serve(service.clone().not_found("404.html"));
    for _ in 0..2 {
        let lost = client.get("/lost", "range: bytes=0-1\r\nif-none-match: *\r\n");
        assert_eq!((lost.status, &*lost.body), (404, &b"<h1>not here</h1>"[..]));
        assert_eq!(
            header(&lost, "content-type"),
            Some("text/html; charset=utf-8")
        );
        assert_eq!(header(&lost, "etag"), None);
        let head = client.request("HEAD", "/lost", "");
        assert_eq!(
            (head.status, header(&head, "content-length")),
            (404, Some("17"))
        );
        assert_eq!(client.get("/%zz", "").status, 400);
    }

    let (_server, mut client) = serve(service.clone().single_page("index.html"));
    for _ in 0..2 {
        let route = client.get("/users/7", "accept: text/html\r\n");
        assert_eq!((route.status, &*route.body), (200, &b"app"[..]));
        assert!(header(&route, "etag").is_some());
        assert_eq!(client.get("/users/7.js", "accept: */*\r\n").status, 404);
        let api = client.get("/users/7", "accept: application/json\r\n");
        assert_eq!(api.status, 404);
    }

    let (_server, mut client) = serve(service.not_found("not-there-either.html"));
    assert_eq!(client.get("/lost", "").body, b"Not Found\n");
}

#[test]
fn the_first_index_that_is_there_is_served() {
    let dir = tempfile::tempdir().unwrap();
    for (directory, index) in [("a", "index.html"), ("b", "default.htm")] {
        fs::create_dir(dir.path().join(directory)).unwrap();
        write(dir.path().join(directory).join(index), index);
    }
    // A directory of that name is none.
    fs::create_dir(dir.path().join("b/index.html")).unwrap();
    let service = ServeDir::new(dir.path()).unwrap();
    let names = ["index.html", "default.htm"];
    let (_server, mut client) = serve(service.clone().index_files(names));
    assert_eq!(client.get("/a/", "").body, b"index.html");
    assert_eq!(client.get("/b/", "").body, b"default.htm");
    let (_server, mut client) = serve(service.index_files::<[&str; 0]>([]));
    assert_eq!(client.get("/a/", "").status, 404);
    assert_eq!(client.get("/a/index.html", "").status, 200);
}

#[test]
fn one_file_is_served_whatever_the_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logo.svg");
    let service = ServeFile::new(&path).unwrap().staleness(Duration::ZERO);
    let (_server, mut client) = serve(service);
    assert_eq!(client.get("/", "").status, 404, "it is not there yet");
    write(&path, "<svg/>");
    for target in ["/", "/any/thing", "/../x"] {
        let found = client.get(target, "");
        assert_eq!(
            (found.status, &*found.body),
            (200, &b"<svg/>"[..]),
            "{target}"
        );
        assert_eq!(header(&found, "content-type"), Some("image/svg+xml"));
    }
    assert_eq!(client.get("/", "range: bytes=1-3\r\n").body, b"svg");
    assert_eq!(client.request("POST", "/", "").status, 405);
    let options = client.request("OPTIONS", "/", "");
    assert_eq!(
        (options.status, header(&options, "allow")),
        (204, Some("GET, HEAD, OPTIONS"))
    );

    let (_server, mut client) = serve(ServeFile::new(&path).unwrap());
    for _ in 0..3 {
        assert_eq!(client.get("/x", "").body, b"<svg/>");
    }
    assert!(ServeFile::new("/").is_err());
}

#[test]
fn a_handler_may_answer_from_beneath_a_root_a_region_or_its_own_validator() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("pack"), "0123456789abcdef");
    write(dir.path().join("notes é.txt"), "notes");
    let root = Root::open(dir.path()).unwrap();
    let pack = OpenFile::open(dir.path().join("pack")).unwrap();
    let (_server, mut client) = serve(service_fn(move |request: Request<Body>| {
        let (root, pack) = (root.clone(), pack.clone());
        async move {
            let response = match request.uri().path() {
                "/region" => {
                    let region = FileRegion::new(pack, 10, 6).unwrap();
                    FileResponse::of_region(region)
                        .etag("\"v7\"")
                        .unwrap()
                        .last_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(86_400))
                        .header(CACHE_CONTROL, value("no-store"))
                }
                "/beneath" => FileResponse::beneath(&root, "./x/../notes é.txt")
                    .await
                    .unwrap()
                    .attachment("notes é.txt"),
                path => {
                    let outside = FileResponse::beneath(&root, path).await;
                    assert!(outside.is_err(), "{path}");
                    let outside = FileResponse::beneath(&root, "../../etc/passwd").await;
                    assert!(outside.is_err());
                    FileResponse::new(pack)
                }
            };
            Ok::<_, std::convert::Infallible>(response.respond(&request))
        }
    }));
    let region = client.get("/region", "");
    assert_eq!((region.status, &*region.body), (200, &b"abcdef"[..]));
    assert_eq!(header(&region, "etag"), Some("\"v7\""));
    let time = header(&region, "last-modified");
    assert_eq!(time, Some("Fri, 02 Jan 1970 00:00:00 GMT"));
    let part = client.get("/region", "range: bytes=-2\r\nif-range: \"v7\"\r\n");
    assert_eq!((part.status, &*part.body), (206, &b"ef"[..]));
    assert_eq!(header(&part, "content-range"), Some("bytes 4-5/6"));
    assert_eq!(
        client.get("/region", "if-none-match: W/\"v7\"\r\n").status,
        304
    );
    assert_eq!(client.get("/region", "range: bytes=6-\r\n").status, 416);

    let found = client.get("/beneath", "");
    assert_eq!(found.body, b"notes");
    assert_eq!(
        header(&found, "content-disposition"),
        Some("attachment; filename=\"notes _.txt\"; filename*=UTF-8''notes%20%C3%A9.txt")
    );
    assert_eq!(client.get("/etc/passwd", "").len, 16);
    let bad = OpenFile::open(dir.path().join("pack")).unwrap();
    assert!(FileResponse::new(bad).etag("unquoted").is_err());
}
