//! `X-Accel-Redirect` and `X-Sendfile`: what a handler may have sent, and what it may not.

use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::symlink;

use axum::body::Body;
use http::header::SET_COOKIE;
use http::{Request, Response, StatusCode};
use lendfile::{Method, Root, SendFileLayer};
use lendfile_tests::client::Client;
use lendfile_tests::server::{Network, Server, Stack};
use tower::{Layer, service_fn};

/// A handler that answers with what the request's headers say: `name` is the response's header,
/// `value` its value.
async fn echo(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let mut response = Response::new(Body::from("the handler's body"));
    let asked = request.headers();
    if let (Some(name), Some(value)) = (asked.get("x-name"), asked.get("x-value")) {
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        response.headers_mut().insert(name, value.clone());
    }
    if let Some(status) = asked.get("x-status") {
        *response.status_mut() = StatusCode::from_bytes(status.as_bytes()).unwrap();
    }
    let headers = response.headers_mut();
    for cookie in ["a=1", "b=2"] {
        headers.append(SET_COOKIE, cookie.parse().unwrap());
    }
    headers.insert("etag", "\"handler\"".parse().unwrap());
    Ok(response)
}

#[test]
fn a_named_file_takes_the_place_of_the_body_and_none_outside_the_root_does() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::write(dir.path().join("secret"), "secret").unwrap();
    fs::write(root.join("sub/a b.txt"), "0123456789").unwrap();
    symlink("../secret", root.join("out")).unwrap();
    let layer = SendFileLayer::new(Root::open(&root).unwrap()).prefix("/protected/");
    let server = Server::start(
        Stack::Serve,
        Network::Tcp,
        Method::Auto,
        layer.layer(service_fn(echo)),
    );
    let mut client = Client::connect(&server.address);
    for (name, value, status, body) in [
        (
            "x-accel-redirect",
            "/protected/sub/a%20b.txt",
            200,
            "0123456789",
        ),
        (
            "x-accel-redirect",
            "/protected/sub/../sub/a%20b.txt?x",
            200,
            "0123456789",
        ),
        ("X-Sendfile", "sub/a b.txt", 200, "0123456789"),
        ("x-accel-redirect", "/sub/a%20b.txt", 404, "Not Found\n"),
        (
            "x-accel-redirect",
            "/protectedsub/a%20b.txt",
            404,
            "Not Found\n",
        ),
        (
            "x-accel-redirect",
            "/protected/../secret",
            404,
            "Not Found\n",
        ),
        (
            "x-accel-redirect",
            "/protected/%2e%2e/secret",
            404,
            "Not Found\n",
        ),
        (
            "x-accel-redirect",
            "/protected/..%2fsecret",
            404,
            "Not Found\n",
        ),
        ("x-accel-redirect", "/protected/out", 404, "Not Found\n"),
        ("x-accel-redirect", "/protected/sub/", 404, "Not Found\n"),
        ("x-sendfile", "../secret", 404, "Not Found\n"),
        ("x-sendfile", "/etc/passwd", 404, "Not Found\n"),
        ("x-sendfile", "sub", 404, "Not Found\n"),
        ("x-other", "sub/a b.txt", 200, "the handler's body"),
    ] {
        let found = client.get("/", &format!("x-name: {name}\r\nx-value: {value}\r\n"));
        assert_eq!(
            (found.status, &*found.body),
            (status, body.as_bytes()),
            "{name}: {value}"
        );
        for header in ["x-accel-redirect", "x-sendfile"] {
            assert!(!found.headers.contains_key(header), "{name}: {value}");
        }
    }
    let named = "x-name: x-sendfile\r\nx-value: sub/a b.txt\r\n";
    let whole = client.get("/", named);
    assert_ne!(
        whole.headers["etag"], "\"handler\"",
        "the tag is the file's"
    );
    assert!(
        whole.headers.contains_key("set-cookie"),
        "the handler's headers stay"
    );
    assert_eq!(whole.headers["content-length"], "10");
    let part = client.get("/", &format!("{named}range: bytes=2-4\r\n"));
    assert_eq!((part.status, &*part.body), (206, &b"234"[..]));
    let known = client.get(
        "/",
        &format!("{named}if-none-match: {}\r\n", whole.headers["etag"]),
    );
    assert_eq!(known.status, 304);
    let head = client.request("HEAD", "/", named);
    assert_eq!((head.status, &*head.headers["content-length"]), (200, "10"));
    let denied = client.get("/", &format!("{named}x-status: 403\r\n"));
    assert_eq!(
        (denied.status, &*denied.body),
        (403, &b"the handler's body"[..])
    );
    let posted = client.request("POST", "/", named);
    assert_eq!(posted.body, b"the handler's body");
}
