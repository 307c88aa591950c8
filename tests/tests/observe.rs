//! What observers are told, against what a client saw.

use std::convert::Infallible;
use std::future::pending;
use std::sync::mpsc::{self, Receiver, Sender};

use http::{Request, Response};
use hyper::body::Incoming;
use lendfile::{Exchange, FileBody, Head, Method, Observer, Outcome, ServeDir};
use lendfile_tests::PATIENCE;
use lendfile_tests::client::{Client, get_by_h2};
use lendfile_tests::content;
use lendfile_tests::log::log_of;
use lendfile_tests::process::eventually;
use lendfile_tests::server::{Network, Server, Stack};
use tower::util::BoxCloneSyncService;

type Service = BoxCloneSyncService<Request<Incoming>, Response<FileBody>, Infallible>;

#[derive(Debug, PartialEq, Eq)]
struct End {
    request: String,
    status: Option<u16>,
    outcome: Outcome,
    bytes: u64,
    via: Option<Method>,
}

struct Ends {
    begun: Sender<()>,
    ended: Sender<End>,
}

impl Observer for Ends {
    type Notes = String;

    fn begin(&self, head: &Head<'_>) -> String {
        // A test need not listen.
        _ = self.begun.send(());
        assert!(head.peer.is_some() && !head.encrypted);
        format!("{} {}", head.method, head.uri.path())
    }

    fn end(&self, notes: &String, exchange: &Exchange) {
        let end = End {
            request: notes.clone(),
            status: exchange.status.map(|status| status.as_u16()),
            outcome: exchange.outcome,
            bytes: exchange.bytes_sent(),
            via: exchange.method(),
        };
        // A test that has failed no longer listens.
        _ = self.ended.send(end);
    }
}

struct Observed {
    server: Server,
    begun: Receiver<()>,
    ends: Receiver<End>,
}

impl Observed {
    fn start(service: Service) -> Self {
        let (begin, begun) = mpsc::channel();
        let (end, ends) = mpsc::channel();
        let observer = Ends {
            begun: begin,
            ended: end,
        };
        let server =
            Server::of(|listener| lendfile::serve(listener, service).with_observer(observer));
        Self {
            server,
            begun,
            ends,
        }
    }

    fn files(dir: &std::path::Path) -> Self {
        Self::start(BoxCloneSyncService::new(ServeDir::new(dir).unwrap()))
    }

    fn client(&self) -> Client {
        Client::connect(&self.server.address)
    }

    fn next(&self) -> End {
        self.ends.recv_timeout(PATIENCE).expect("an end")
    }
}

fn complete(request: &str, status: u16, bytes: u64, via: Option<Method>) -> End {
    End {
        request: request.into(),
        status: Some(status),
        outcome: Outcome::Complete,
        bytes,
        via,
    }
}

#[test]
fn every_exchange_is_reported_once_with_what_was_sent() {
    let dir = tempfile::tempdir().unwrap();
    content::write(&dir.path().join("large"), 1, 5_000_001).unwrap();
    content::write(&dir.path().join("small"), 1, 1000).unwrap();
    let server = Observed::files(dir.path());
    let mut client = server.client();
    let lent = Some(Method::Sendfile);
    let copied = Some(Method::Copy);

    client.get("/large", "");
    assert_eq!(server.next(), complete("GET /large", 200, 5_000_001, lent));
    client.get("/small", "");
    assert_eq!(server.next(), complete("GET /small", 200, 1000, copied));
    client.get("/small", "");
    assert_eq!(server.next(), complete("GET /small", 200, 1000, copied));
    client.get("/large", "range: bytes=0-999999\r\n");
    assert_eq!(server.next(), complete("GET /large", 206, 1_000_000, lent));
    client.request("HEAD", "/large", "");
    assert_eq!(server.next(), complete("HEAD /large", 200, 0, None));
    let response = client.get("/missing", "");
    let missing = complete("GET /missing", 404, response.len, copied);
    assert_eq!(server.next(), missing);
    // Its framing is of the body, and counted with it.
    let response = client.get("/large", "range: bytes=0-99999,200000-299999\r\n");
    let parts = complete("GET /large", 206, response.len, lent);
    assert_eq!(server.next(), parts);
}

#[test]
fn what_was_refused_before_the_service_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let server = Observed::files(dir.path());
    let mut client = server.client();
    client.send("GET /no-host HTTP/1.1\r\n\r\n");
    assert_eq!(client.response("GET").unwrap().status, 400);
    assert_eq!(server.next(), complete("GET /no-host", 400, 0, None));
}

#[test]
fn a_client_that_goes_away_ends_its_exchange_with_the_bytes_it_was_sent() {
    const LEN: u64 = 1 << 30;
    let dir = tempfile::tempdir().unwrap();
    let huge = std::fs::File::create(dir.path().join("huge")).unwrap();
    huge.set_len(LEN).unwrap();
    let server = Observed::files(dir.path());
    let mut client = server.client();
    client.send("GET /huge HTTP/1.1\r\nhost: test\r\n\r\n");
    let taken = client.read_exact(4_000_000).unwrap().len() as u64;
    drop(client);
    let end = server.next();
    assert_eq!(end.outcome, Outcome::Aborted);
    assert_eq!(end.status, Some(200));
    assert_eq!(end.via, Some(Method::Sendfile));
    // Of what was taken, the head is no more than 1,000 bytes.
    assert!(end.bytes > taken - 1000 && end.bytes < LEN, "{end:?}");
}

#[test]
fn an_exchange_without_an_answer_has_no_status() {
    let never = tower::service_fn(|_: Request<Incoming>| pending());
    let observed = Observed::start(BoxCloneSyncService::new(never));
    let mut client = observed.client();
    client.send("GET /never HTTP/1.1\r\nhost: test\r\n\r\n");
    // A client that has closed may still want its answer; the end of the server does not wait.
    observed.begun.recv_timeout(PATIENCE).unwrap();
    drop(observed.server);
    let end = observed.ends.recv_timeout(PATIENCE).expect("an end");
    assert_eq!((end.status, end.outcome), (None, Outcome::Aborted));
    assert_eq!(end.bytes, 0);
}

#[test]
fn whatever_is_logged_of_a_request_is_in_the_span_of_its_connection() {
    const LINES: [&str; 2] = ["in the service", "transfer ended"];
    let dir = tempfile::tempdir().unwrap();
    content::write(&dir.path().join("file"), 1, 100_000).unwrap();
    let files = ServeDir::new(dir.path()).unwrap();
    let service = tower::service_fn(move |request: Request<axum::body::Body>| {
        let files = files.clone();
        async move {
            tracing::info!("in the service");
            tower::ServiceExt::oneshot(files, request).await
        }
    });
    // h2 has a span of its own at this level, which is in no other.
    let (log, heard) = log_of("debug,h2=off");
    let server = Server::start_logging(Stack::Serve, Network::Tcp, Method::Auto, service, log);
    assert_eq!(
        Client::connect(&server.address).get("/file", "").len,
        100_000
    );
    assert_eq!(
        get_by_h2(&server.address, &["/file", "/file"])[1].0,
        100_000
    );
    let lines = |which: &str| -> Vec<String> {
        let heard = heard();
        let lines = heard.lines().filter(|line| line.contains(which));
        lines.map(str::to_owned).collect()
    };
    eventually("three lines of each", || {
        LINES.iter().all(|which| lines(which).len() == 3)
    });
    for line in LINES.iter().flat_map(|which| lines(which)) {
        assert!(line.contains("connection{peer=127.0.0.1:"), "{line}");
    }
}
