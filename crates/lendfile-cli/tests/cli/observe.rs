//! The access log and the metrics, against what a client saw.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;

use lendfile_tests::content;
use lendfile_tests::process::eventually;
use openmetrics_parser::openmetrics::parse_openmetrics;
use rustix::process::Signal;

use crate::command::{Running, connect, lendfile, run, serve};

const LARGE: u64 = 1_000_001;

fn site() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    content::write(&dir.path().join("large"), 1, LARGE).unwrap();
    content::write(&dir.path().join("small"), 1, 1000).unwrap();
    dir
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn json_lines(path: &Path) -> Vec<serde_json::Value> {
    let log = fs::read_to_string(path).unwrap();
    let lines = log.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

#[test]
fn the_access_log_holds_every_response_when_the_server_has_ended() {
    let (dir, logs) = (site(), tempfile::tempdir().unwrap());
    let log = logs.path().join("log");
    let options = ["--access-log", text(&log), "--access-log-format", "json"];
    let (server, addr) = serve(dir.path(), &options);
    let mut client = connect(addr);
    client.get("/large", "");
    client.get("/small", "user-agent: a\"b\\\r\nreferer: http://r/\r\n");
    client.request("HEAD", "/small", "");
    client.get("/missing?q", "");
    drop(client);
    server.signal(Signal::TERM);
    assert_eq!(server.finish().code, Some(0));
    let lines = json_lines(&log);
    let seen = |line: &serde_json::Value| {
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        assert_eq!(
            (text("peer"), text("host")),
            ("127.0.0.1".into(), "test".into())
        );
        assert_eq!(text("outcome"), "complete");
        let numbers = (
            line["status"].as_u64().unwrap(),
            line["bytes"].as_u64().unwrap(),
        );
        (text("method") + " " + &text("target"), numbers)
    };
    let lines_seen: Vec<_> = lines.iter().map(seen).collect();
    let missing = lines_seen[3].1.1;
    let expected = [
        ("GET /large", (200, LARGE)),
        ("GET /small", (200, 1000)),
        ("HEAD /small", (200, 0)),
        ("GET /missing?q", (404, missing)),
    ];
    assert_eq!(
        lines_seen,
        expected.map(|(request, n)| (request.to_owned(), n))
    );
    assert_eq!(lines[1]["user_agent"], "a\"b\\");
    assert_eq!(lines[1]["referer"], "http://r/");
}

#[test]
fn the_log_can_go_to_standard_output() {
    let dir = site();
    let (mut server, addr) = serve(dir.path(), &["--access-log", "-"]);
    connect(addr).get("/small", "");
    let line = server.next_line();
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    assert!(
        line.ends_with("] \"GET /small HTTP/1.1\" 200 1000 \"-\" \"-\""),
        "{line}"
    );
}

#[test]
fn the_log_is_rotated_under_load_without_losing_a_line() {
    const CLIENTS: usize = 4;
    const REQUESTS: usize = 500;
    const ROTATIONS: usize = 5;
    let (dir, logs) = (site(), tempfile::tempdir().unwrap());
    let log = logs.path().join("log");
    let options = ["--access-log", text(&log), "--access-log-format", "common"];
    let (server, addr) = serve(dir.path(), &options);
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                let mut connection = connect(addr);
                for n in 0..REQUESTS {
                    connection.get(&format!("/small?{client}-{n}"), "");
                }
            });
        }
        for rotation in 0..ROTATIONS {
            fs::rename(&log, logs.path().join(format!("log.{rotation}"))).unwrap();
            server.signal(Signal::HUP);
            eventually("the log is there again", || log.exists());
        }
    });
    server.signal(Signal::TERM);
    assert_eq!(server.finish().code, Some(0));
    let mut targets: Vec<String> = fs::read_dir(logs.path())
        .unwrap()
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .flat_map(|log| log.lines().map(target).collect::<Vec<_>>())
        .collect();
    targets.sort();
    let mut expected: Vec<String> = (0..CLIENTS)
        .flat_map(|client| (0..REQUESTS).map(move |n| format!("/small?{client}-{n}")))
        .collect();
    expected.sort();
    assert!(
        targets == expected,
        "{} of {}",
        targets.len(),
        expected.len()
    );
}

/// Of a whole line of the common format.
fn target(line: &str) -> String {
    let (_, request) = line.split_once("] \"GET ").expect("a whole line");
    let (target, rest) = request.split_once(' ').expect("a whole line");
    assert_eq!(rest, "HTTP/1.1\" 200 1000");
    target.to_owned()
}

/// A server with metrics, and where they are.
fn observed(dir: &Path, options: &[&str]) -> (Running, SocketAddr, SocketAddr) {
    let options = [&["--metrics", "127.0.0.1:0"], options].concat();
    let (mut server, addr) = serve(dir, &options);
    let line = server.next_line();
    let metrics = line
        .strip_prefix("metrics on http://")
        .and_then(|rest| rest.strip_suffix("/metrics"))
        .unwrap_or_else(|| panic!("{line}"));
    let metrics = metrics.parse().unwrap();
    (server, addr, metrics)
}

fn page(metrics: SocketAddr) -> String {
    let response = connect(metrics).get("/metrics", "");
    assert_eq!(response.status, 200);
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(response.headers["content-type"], content_type);
    String::from_utf8(response.body).unwrap()
}

/// Each line of the page.
fn values(page: &str) -> BTreeMap<String, u64> {
    parse_openmetrics(page).expect("OpenMetrics");
    page.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[test]
fn metrics_move_by_exactly_what_was_sent() {
    let dir = site();
    let (_server, addr, metrics) = observed(dir.path(), &["--method", "sendfile"]);
    let mut client = connect(addr);
    for _ in 0..3 {
        client.get("/large", "");
    }
    client.get("/large", "range: bytes=0-99\r\n");
    let missing = client.get("/missing", "").len;
    client.request("HEAD", "/large", "");
    let mut values_now = BTreeMap::new();
    // The last exchange is counted when hyper lets go of it, after the client has its answer.
    eventually("all requests are counted", || {
        values_now = values(&page(metrics));
        values_now.get("lendfile_requests_total{code=\"200\"}") == Some(&4)
    });
    let value = |name: &str| {
        *values_now
            .get(name)
            .unwrap_or_else(|| panic!("{name}: {values_now:?}"))
    };
    assert_eq!(value("lendfile_requests_total{code=\"206\"}"), 1);
    assert_eq!(value("lendfile_requests_total{code=\"404\"}"), 1);
    let sent = |method: &str| {
        value(&format!(
            "lendfile_response_body_bytes_total{{method=\"{method}\",tls=\"no\"}}"
        ))
    };
    assert_eq!(sent("sendfile"), 3 * LARGE + 100);
    assert_eq!(sent("copy"), missing);
    assert_eq!(value("lendfile_connections_open"), 1);
    assert_eq!(value("lendfile_connections_accepted_total"), 1);
    assert_eq!(value("lendfile_responses_aborted_total"), 0);
    let lookups = |result| {
        value(&format!(
            "lendfile_file_cache_lookups_total{{result=\"{result}\"}}"
        ))
    };
    assert_eq!(lookups("hit") + lookups("miss"), 6);
}

#[test]
fn what_hyper_refuses_is_counted_by_its_reason() {
    let dir = site();
    let limits = ["--max-header-bytes", "16KiB", "--max-headers", "10"];
    let (_server, addr, metrics) = observed(dir.path(), &limits);
    let long = format!(
        "GET / HTTP/1.1\r\nhost: t\r\nx: {}\r\n\r\n",
        "x".repeat(20 << 10)
    );
    let fields: String = (0..10).map(|n| format!("x-{n}: y\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\nhost: t\r\n{fields}\r\n");
    for (head, status) in [
        ("GET / HTTP/1.1\r\nno field\r\n\r\n", 400),
        ("GET / HTTP/3.0\r\nhost: t\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nhost: t\r\ncontent-length: x\r\n\r\n",
            400,
        ),
        (&long, 431),
        (&many, 431),
        // A request that reaches the server's own service is one, if a bad one.
        ("GET / HTTP/1.1\r\n\r\n", 400),
    ] {
        let mut client = connect(addr);
        client.send(head);
        assert_eq!(client.response("GET").unwrap().status, status, "{head:.40}");
    }
    // One refused behind one that was answered.
    let mut client = connect(addr);
    client.get("/small", "");
    client.send("nonsense\r\n\r\n");
    assert_eq!(client.response("GET").unwrap().status, 400);
    // Half a head is nobody's refusal.
    connect(addr).send("GET / HT");
    let mut now = BTreeMap::new();
    eventually("all connections have ended", || {
        now = values(&page(metrics));
        now["lendfile_connections_accepted_total"] == 8 && now["lendfile_connections_open"] == 0
    });
    let refused =
        |reason: &str| now[&format!("lendfile_requests_refused_total{{reason=\"{reason}\"}}")];
    assert_eq!((refused("malformed"), refused("too_large")), (4, 2));
    assert_eq!(now["lendfile_requests_total{code=\"400\"}"], 1);
    assert!(!now.contains_key("lendfile_requests_total{code=\"431\"}"));
}

#[test]
fn every_metric_is_documented_with_its_type() {
    let dir = site();
    let (_server, _, metrics) = observed(dir.path(), &[]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let guide = fs::read_to_string(root.join("docs/operating.md")).unwrap();
    let page = page(metrics);
    let types: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .collect();
    assert!(types.len() > 10, "{page}");
    for line in &types {
        let (name, kind) = line.split_once(' ').unwrap();
        let total = if kind == "counter" { "_total" } else { "" };
        let row = format!("| `{name}{total}` | {kind} |");
        assert!(guide.contains(&row), "docs/operating.md has no row {row}");
    }
}

#[test]
fn health_is_told_until_the_end() {
    let dir = site();
    let (server, addr, metrics) = observed(dir.path(), &[]);
    let health = || connect(metrics).get("/healthz", "").status;
    assert_eq!(health(), 200);
    assert_eq!(connect(metrics).get("/", "").status, 404);
    assert_eq!(connect(metrics).request("POST", "/metrics", "").status, 405);
    // A response that is not taken keeps the server from ending.
    let huge = fs::File::create(dir.path().join("huge")).unwrap();
    huge.set_len(1 << 30).unwrap();
    let mut client = connect(addr);
    client.send("GET /huge HTTP/1.1\r\nhost: test\r\n\r\n");
    client.head().unwrap();
    server.signal(Signal::TERM);
    eventually("it says that it stops", || health() == 503);
}

#[test]
fn what_cannot_be_observed_is_said_at_the_start() {
    let dir = site();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (options, message) in [
        (
            ["--access-log", "/nowhere/log"],
            "cannot write /nowhere/log",
        ),
        (["--metrics", &taken], "cannot serve metrics on"),
    ] {
        let mut command = lendfile(["serve", "--listen", "127.0.0.1:0"]);
        command.args(options).arg(dir.path());
        let finished = run(command);
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(finished.stderr.contains(message), "{finished:?}");
        assert_eq!(finished.stderr.lines().count(), 1);
    }
}
