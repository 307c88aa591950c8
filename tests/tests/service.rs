//! The file service's answers, asked raw over a socket.

use std::fs;
use std::os::unix::fs::symlink;

use axum::Router;
use lendfile::{Method, ServeDir};
use lendfile_tests::client::Client;
use lendfile_tests::server::{Network, Server, Stack};

/// A directory; as a target, browsers would take it for another host.
const BACKSLASHED: &str = "\\host";

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("sub/deep")).unwrap();
    fs::create_dir(root.join("bare")).unwrap();
    fs::create_dir(root.join(BACKSLASHED)).unwrap();
    fs::write(dir.path().join("secret"), "secret").unwrap();
    fs::write(root.join("index.html"), "home").unwrap();
    fs::write(root.join("a b.txt"), "spaced").unwrap();
    fs::write(root.join(".hidden"), "hidden").unwrap();
    fs::write(root.join("page.htm"), "page").unwrap();
    fs::write(root.join("sub/index.html"), "sub").unwrap();
    fs::write(root.join("data"), "0123456789").unwrap();
    symlink("../secret", root.join("escape")).unwrap();
    symlink("data", root.join("link")).unwrap();
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        root.join("fifo"),
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
    )
    .unwrap();
    dir
}

fn serve(dir: &tempfile::TempDir) -> Server {
    let service = ServeDir::new(dir.path().join("root")).unwrap();
    Server::start(Stack::Serve, Network::Tcp, Method::Auto, service)
}

#[test]
fn paths_lead_to_the_answers_of_the_policy() {
    let dir = tree();
    let server = serve(&dir);
    let mut client = Client::connect(&server.address);
    for (path, status, body) in [
        ("/", 200, "home"),
        ("/index.html", 200, "home"),
        ("/a%20b.txt", 200, "spaced"),
        ("/sub/", 200, "sub"),
        ("/sub/../data", 200, "0123456789"),
        ("//sub//./deep/..//index.html", 200, "sub"),
        ("/link", 200, "0123456789"),
        ("/data?query=..%2f", 200, "0123456789"),
        ("/missing", 404, ""),
        ("/data/", 404, ""),
        ("/data/below", 404, ""),
        ("/bare/", 404, ""),
        ("/.hidden", 404, ""),
        ("/escape", 404, ""),
        ("/fifo", 404, ""),
        ("/sub%2findex.html", 404, ""),
        ("/..", 400, ""),
        ("/../secret", 400, ""),
        ("/sub/../../secret", 400, ""),
        ("/%2e%2e/secret", 400, ""),
        ("/%2e%2e%2fsecret", 404, ""),
        ("/data%00", 400, ""),
        ("/%zz", 400, ""),
    ] {
        let response = client.get(path, "");
        assert_eq!(response.status, status, "{path}");
        if status == 200 {
            assert_eq!(response.body, body.as_bytes(), "{path}");
        } else {
            assert!(!response.body.windows(6).any(|w| w == b"secret"), "{path}");
        }
    }
    let long = format!("/{}", "x".repeat(300));
    assert_eq!(client.get(&long, "").status, 404);
}

#[test]
fn a_directory_without_its_slash_is_redirected_with_its_query_and_never_to_another_host() {
    let dir = tree();
    let server = serve(&dir);
    let mut client = Client::connect(&server.address);
    for (path, location) in [
        ("/sub", "/sub/"),
        ("/sub?a=b&c", "/sub/?a=b&c"),
        ("//sub", "/sub/"),
        ("/sub/deep", "/sub/deep/"),
        ("/%73ub", "/%73ub/"),
        // Browsers take a backslash for a slash.
        ("/\\host", "/%5Chost/"),
        ("/%5chost", "/%5chost/"),
    ] {
        let response = client.get(path, "");
        assert_eq!(response.status, 301, "{path}");
        assert_eq!(response.headers["location"], location, "{path}");
    }
}

#[test]
fn a_nested_service_redirects_to_the_path_the_client_knows() {
    let dir = tree();
    let service = ServeDir::new(dir.path().join("root")).unwrap();
    let app = Router::new().nest_service("/files", service);
    let server = Server::start(Stack::AxumServe, Network::Tcp, Method::Auto, app);
    let mut client = Client::connect(&server.address);
    let response = client.get("/files/sub", "");
    assert_eq!(
        (response.status, &*response.headers["location"]),
        (301, "/files/sub/")
    );
    assert_eq!(client.get("/files/data", "").body, b"0123456789");
}

#[test]
fn types_lengths_and_validators_are_there_and_conditions_are_kept() {
    let dir = tree();
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    let data = fs::OpenOptions::new()
        .write(true)
        .open(dir.path().join("root/data"))
        .unwrap();
    data.set_modified(old).unwrap();
    let server = serve(&dir);
    let mut client = Client::connect(&server.address);
    assert_eq!(
        client.get("/page.htm", "").headers["content-type"],
        "text/html; charset=utf-8"
    );
    let whole = client.get("/data", "");
    assert_eq!(whole.headers["content-type"], "application/octet-stream");
    assert_eq!(whole.headers["content-length"], "10");
    assert_eq!(whole.headers["accept-ranges"], "bytes");
    let (etag, date) = (&whole.headers["etag"], &whole.headers["last-modified"]);
    assert!(
        !etag.starts_with("W/"),
        "an hour old, so it has settled: {etag}"
    );

    let head = client.request("HEAD", "/data", "");
    assert_eq!(head.headers["content-length"], "10");
    assert_eq!(head.headers["etag"], *etag);
    for (condition, status, len) in [
        (format!("if-none-match: {etag}\r\n"), 304, 0),
        (format!("if-modified-since: {date}\r\n"), 304, 0),
        (format!("if-match: {etag}\r\n"), 200, 10),
        ("if-match: \"other\"\r\n".to_owned(), 412, 20),
        (format!("if-unmodified-since: {date}\r\n"), 200, 10),
        (format!("range: bytes=2-4\r\nif-range: {etag}\r\n"), 206, 3),
        (format!("range: bytes=2-4\r\nif-range: {date}\r\n"), 206, 3),
        (
            "range: bytes=2-4\r\nif-range: \"other\"\r\n".to_owned(),
            200,
            10,
        ),
        ("range: bytes=-3\r\n".to_owned(), 206, 3),
        ("range: lines=1-2\r\n".to_owned(), 200, 10),
        ("range: bytes=0-4,4-5\r\n".to_owned(), 200, 10),
        ("range: bytes=10-\r\n".to_owned(), 416, 22),
    ] {
        let response = client.get("/data", &condition);
        assert_eq!(
            (response.status, response.len),
            (status, len),
            "{condition}"
        );
        if status == 304 {
            assert_eq!(response.headers["etag"], *etag);
            assert!(!response.headers.contains_key("content-length"));
        }
    }
}

#[test]
fn a_client_that_half_closes_after_its_request_is_answered() {
    use std::io::{Read, Write};
    let dir = tree();
    let server = serve(&dir);
    let addr = server.tcp();
    let mut socket = std::net::TcpStream::connect(addr).unwrap();
    socket
        .set_read_timeout(Some(lendfile_tests::PATIENCE))
        .unwrap();
    socket
        .write_all(b"GET /data HTTP/1.1\r\nhost: test\r\n\r\n")
        .unwrap();
    socket.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\n0123456789"), "{answer}");
}

#[test]
fn a_head_is_answered_with_the_headers_of_a_get() {
    let dir = tree();
    let server = serve(&dir);
    let mut client = Client::connect(&server.address);
    for path in ["/data", "/", "/sub", "/missing", "/%zz", "/bare/"] {
        for headers in ["", "if-none-match: *\r\n", "if-match: \"other\"\r\n"] {
            let [mut get, mut head] = ["GET", "HEAD"].map(|way| client.request(way, path, headers));
            for response in [&mut get, &mut head] {
                response.headers.remove("date");
            }
            assert_eq!(head.status, get.status, "{path} {headers}");
            assert_eq!(head.headers, get.headers, "{path} {headers}");
        }
    }
    // Ranges are defined for GET (RFC 9110 §14.2).
    let head = client.request("HEAD", "/data", "range: bytes=0-1\r\n");
    assert_eq!((head.status, &*head.headers["content-length"]), (200, "10"));
}

#[test]
fn the_body_of_a_get_is_passed_over_or_the_connection_closed() {
    let dir = tree();
    let server = serve(&dir);
    let smuggled = "GET /missing HTTP/1.1\r\nhost: test\r\n\r\n";
    let len = smuggled.len();
    for body in [
        format!("content-length: {len}\r\n\r\n{smuggled}"),
        format!("transfer-encoding: chunked\r\n\r\n{len:x}\r\n{smuggled}\r\n0\r\n\r\n"),
        // What is still to come is not waited for.
        format!("content-length: 1000000000\r\n\r\n{smuggled}"),
        "content-length: 1000000000\r\n\r\n".to_owned(),
    ] {
        let mut client = Client::connect(&server.address);
        client.send(format!("GET /data HTTP/1.1\r\nhost: test\r\n{body}"));
        assert_eq!(client.response("GET").unwrap().body, b"0123456789");
        if body.contains("1000000000") {
            let rest = client.rest().unwrap_or_default();
            assert_eq!(String::from_utf8_lossy(&rest), "", "{body}");
        } else {
            assert_eq!(client.get("/sub/", "").body, b"sub", "{body}");
        }
    }
}

#[test]
fn head_has_no_body_over_http2_either() {
    let dir = tree();
    let server = serve(&dir);
    let addr = server.tcp();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpStream::connect(addr).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(socket);
        let executor = hyper_util::rt::TokioExecutor::new();
        let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io)
            .await
            .unwrap();
        tokio::spawn(connection);
        for (path, status) in [
            ("/data", 200),
            ("/missing", 404),
            ("/sub", 301),
            ("/%zz", 400),
        ] {
            let request = http::Request::head(format!("http://test{path}"))
                .body(http_body_util::Empty::<bytes::Bytes>::new())
                .unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), status, "{path}");
            let body = http_body_util::BodyExt::collect(response.into_body()).await;
            assert!(body.unwrap().to_bytes().is_empty(), "{path}");
        }
    });
}

#[test]
fn other_methods_are_405_and_options_says_what_is_allowed() {
    let dir = tree();
    let server = serve(&dir);
    let mut client = Client::connect(&server.address);
    const ALLOW: &str = "GET, HEAD, OPTIONS";
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"] {
        for path in ["/data", "/missing"] {
            let response = client.request(method, path, "content-length: 0\r\n");
            assert_eq!(response.status, 405, "{method} {path}");
            assert_eq!(response.headers["allow"], ALLOW, "{method} {path}");
        }
    }
    for target in ["/data", "/missing", "*"] {
        let response = client.request("OPTIONS", target, "");
        assert_eq!(response.status, 204, "{target}");
        assert_eq!(response.headers["allow"], ALLOW, "{target}");
    }
    client.send("CONNECT test:80 HTTP/1.1\r\nhost: test:80\r\n\r\n");
    assert_eq!(client.response("CONNECT").unwrap().status, 405);
}

#[test]
fn what_is_no_regular_file_is_404_at_once() {
    let dir = tree();
    let root = dir.path().join("root");
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    let server = serve(&dir);
    let mut client = Client::connect(&server.address);
    for path in ["/fifo", "/socket"] {
        assert_eq!(client.get(path, "").status, 404, "{path}");
    }
    let devices = ServeDir::new("/dev").unwrap();
    let server = Server::start(Stack::Serve, Network::Tcp, Method::Auto, devices);
    let mut client = Client::connect(&server.address);
    for path in ["/full", "/null", "/zero"] {
        assert_eq!(client.get(path, "").status, 404, "{path}");
    }
}
