//! `X-Accel-Redirect` and `X-Sendfile`: handlers that name a file, asked raw over a socket.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body as AxumBody;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Response};
use http_body::{Body, Frame};
use lendfile::{Method, Root, SendFileLayer};
use lendfile_tests::client::Client;
use lendfile_tests::log::log;
use lendfile_tests::process::{eventually, resident_of};
use lendfile_tests::server::{Network, Server, Stack};
use lendfile_tests::{PATIENCE, content};

const LARGE: u64 = 20 << 20;

/// `root/` with files, and a secret beside it.
fn tree() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap().join("root");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::write(root.join("page.html"), "0123456789").unwrap();
    fs::write(root.join("a b"), "spaced").unwrap();
    content::write(&root.join("large"), 1, LARGE).unwrap();
    fs::write(dir.path().join("secret"), "secret").unwrap();
    symlink("../secret", root.join("escape")).unwrap();
    (dir, root)
}

/// A handler that answers with its own body and with the headers that the request has behind
/// `answer-`.
async fn as_asked(request: HeaderMap) -> (HeaderMap, &'static str) {
    let mut headers = HeaderMap::new();
    for (name, value) in &request {
        if let Some(name) = name.as_str().strip_prefix("answer-") {
            headers.append(HeaderName::try_from(name).unwrap(), value.clone());
        }
    }
    (headers, "the handler's own body")
}

fn app(root: &Path) -> Router {
    let layer = SendFileLayer::new(Root::open(root).unwrap())
        .prefix("/protected")
        .sendfile_prefix(root);
    Router::new().fallback(as_asked).layer(layer)
}

fn serve(root: &Path) -> Server {
    Server::start(Stack::Router, Network::Tcp, Method::Auto, app(root))
}

#[test]
fn the_file_is_sent_with_the_handlers_headers_and_no_name_leaks() {
    let (_dir, root) = tree();
    let server = serve(&root);
    let mut client = Client::connect(&server.address);
    let absolute = format!("x-sendfile: {}/page.html", root.display());
    for name in [
        "x-accel-redirect: /protected/page.html",
        "x-sendfile: page.html",
        &absolute,
    ] {
        let response = client.get(
            "/",
            &format!(
                "answer-{name}\r\nanswer-content-type: image/x-own\r\nanswer-set-cookie: a=b\r\n\
                 answer-cache-control: private\r\nanswer-content-disposition: attachment\r\n\
                 answer-x-own: kept\r\nanswer-etag: \"own\"\r\nanswer-content-encoding: gzip\r\n"
            ),
        );
        assert_eq!(
            (response.status, &*response.body),
            (200, &b"0123456789"[..]),
            "{name}"
        );
        for (name, value) in [
            ("content-type", "image/x-own"),
            ("content-length", "10"),
            ("set-cookie", "a=b"),
            ("cache-control", "private"),
            ("content-disposition", "attachment"),
            ("x-own", "kept"),
            ("accept-ranges", "bytes"),
        ] {
            assert_eq!(response.headers[name], value);
        }
        assert_ne!(response.headers["etag"], "\"own\"");
        for name in ["x-accel-redirect", "x-sendfile", "content-encoding"] {
            assert!(!response.headers.contains_key(name), "{name}");
        }
    }
    let spaced = client.get("/", "answer-x-accel-redirect: /protected/a%20b\r\n");
    assert_eq!(spaced.body, b"spaced");
    // Without the header nothing changes.
    let own = client.get("/", "answer-x-own: kept\r\n");
    assert_eq!(
        (own.status, &*own.body),
        (200, &b"the handler's own body"[..])
    );
    assert_eq!(own.headers["x-own"], "kept");
}

#[test]
fn conditions_and_ranges_are_the_files() {
    let (_dir, root) = tree();
    let server = serve(&root);
    let mut client = Client::connect(&server.address);
    let named = "answer-x-accel-redirect: /protected/page.html\r\nanswer-cache-control: private\r\n\
                 answer-content-disposition: attachment\r\n";
    let whole = client.get("/", named);
    let modified = &whole.headers["last-modified"];
    let tag = &whole.headers["etag"];
    for (condition, status, body) in [
        (String::new(), 200, "0123456789"),
        ("range: bytes=2-4\r\n".to_owned(), 206, "234"),
        (format!("if-none-match: {tag}\r\n"), 304, ""),
        (format!("if-modified-since: {modified}\r\n"), 304, ""),
        (
            "if-match: \"other\"\r\n".to_owned(),
            412,
            "Precondition Failed\n",
        ),
        (
            "range: bytes=10-\r\n".to_owned(),
            416,
            "Range Not Satisfiable\n",
        ),
        (
            "range: bytes=2-4\r\nanswer-accept-ranges: none\r\n".to_owned(),
            200,
            "0123456789",
        ),
    ] {
        let response = client.get("/", &format!("{named}{condition}"));
        assert_eq!(response.status, status, "{condition}");
        assert_eq!(response.body, body.as_bytes(), "{condition}");
        let sent = response.headers.contains_key("content-disposition");
        assert_eq!(sent, status < 300, "{condition}");
        let cached = response.headers.contains_key("cache-control");
        assert_eq!(cached, status < 400, "{condition}");
    }
    let parts = client.get("/", &format!("{named}range: bytes=0-1,4-5\r\n"));
    assert_eq!(parts.status, 206);
    assert!(parts.headers["content-type"].starts_with("multipart/byteranges"));
    let part = String::from_utf8(parts.body).unwrap().to_ascii_lowercase();
    assert!(part.contains("content-type: text/plain"), "{part}");

    let head = client.request("HEAD", "/", named);
    assert_eq!((head.len, &*head.headers["content-length"]), (0, "10"));
    // What is no condition of a POST is not applied to it.
    let posted = client.request(
        "POST",
        "/",
        &format!("{named}range: bytes=2-4\r\ncontent-length: 0\r\n"),
    );
    assert_eq!((posted.status, &*posted.body), (200, &b"0123456789"[..]));
}

#[test]
fn nothing_beyond_the_root_is_sent_and_attempts_are_logged() {
    let (dir, root) = tree();
    let secret = dir.path().join("secret");
    let absolute = format!("x-sendfile: {}", secret.display());
    let climbing = format!("x-sendfile: {}/../secret", root.display());
    for name in [
        "x-accel-redirect: /protected/../secret",
        "x-accel-redirect: /protected/%2e%2e/secret",
        "x-accel-redirect: /protected/..%2fsecret",
        "x-accel-redirect: /protected/escape",
        "x-accel-redirect: /protected/missing",
        "x-accel-redirect: /protected/sub/",
        "x-accel-redirect: /protected/sub",
        "x-accel-redirect: /page.html",
        "x-accel-redirect: /protectedpage.html",
        "x-accel-redirect:",
        "x-sendfile: ../secret",
        "x-sendfile: escape",
        "x-sendfile: /etc/passwd",
        &absolute,
        &climbing,
    ] {
        let (log, logged) = log();
        let server =
            Server::start_logging(Stack::Router, Network::Tcp, Method::Auto, app(&root), log);
        let mut client = Client::connect(&server.address);
        let headers = format!(
            "answer-{name}\r\nanswer-content-type: image/png\r\nanswer-content-disposition: inline\r\n\
             answer-set-cookie: a=b\r\n"
        );
        let response = client.get("/", &headers);
        assert_eq!(
            (response.status, &*response.body),
            (404, &b"Not Found\n"[..]),
            "{name}"
        );
        assert_eq!(
            response.headers["content-type"],
            "text/plain; charset=utf-8"
        );
        assert!(!response.headers.contains_key("content-disposition"));
        assert_eq!(response.headers["set-cookie"], "a=b");
        eventually("the attempt is logged", || {
            logged().contains("a handler named a file")
        });
    }
}

#[test]
fn the_file_leaves_without_being_read() {
    let (_dir, root) = tree();
    let path = root.join("large");
    let hash = content::sha256(&path).unwrap();
    for stack in Stack::ALL {
        let server = Server::start(stack, Network::Tcp, Method::Sendfile, app(&root));
        let mut client = Client::connect(&server.address);
        let named = "answer-x-accel-redirect: /protected/large\r\n";
        client.send(format!("GET / HTTP/1.1\r\nhost: test\r\n{named}\r\n"));
        assert_eq!(client.head().unwrap().0, 200);
        // The rest does not fit into the socket: the body is under way now.
        assert_eq!(resident_of(&path), [0], "{stack:?}: one mapping, untouched");
        client.read_exact(usize::try_from(LARGE).unwrap()).unwrap();
        assert_eq!(client.get("/", named).sha256, hash, "{stack:?}");
        drop(client);
        eventually("the mapping goes with its last transfer", || {
            resident_of(&path).is_empty()
        });
    }
}

/// A body that must not be read, and tells when it is dropped.
struct Unread(mpsc::Sender<()>);

impl Body for Unread {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        panic!("the handler's body was read")
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        _ = self.0.send(());
    }
}

#[test]
fn the_handlers_body_is_dropped_unread() {
    let (_dir, root) = tree();
    let (tell, told) = mpsc::channel();
    let handler = move || {
        let body = AxumBody::new(Unread(tell.clone()));
        let response = Response::builder().header("x-sendfile", "page.html");
        std::future::ready(response.body(body).unwrap())
    };
    let layer = SendFileLayer::new(Root::open(&root).unwrap());
    let app = Router::new().fallback(handler).layer(layer);
    let server = Server::start(Stack::Router, Network::Tcp, Method::Auto, app);
    assert_eq!(
        Client::connect(&server.address).get("/", "").body,
        b"0123456789"
    );
    told.recv_timeout(PATIENCE).expect("it was dropped");
}
