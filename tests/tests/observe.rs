//! What observers are told, against what a client saw.

use std::convert::Infallible;
use std::future::{IntoFuture, pending};
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use http::{Request, Response};
use hyper::body::Incoming;
use lendfile::{Exchange, FileBody, Head, Method, Observer, Outcome, ServeDir};
use lendfile_tests::PATIENCE;
use lendfile_tests::client::Client;
use lendfile_tests::content;
use lendfile_tests::server::Address;
use tokio::sync::oneshot;
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

struct Server {
    addr: SocketAddr,
    begun: Receiver<()>,
    ends: Receiver<End>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(service: Service) -> Self {
        let (begin, begun) = mpsc::channel();
        let (end, ends) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let addr = listener.local_addr().unwrap();
        let serve = lendfile::serve(listener, service)
            .with_observer(Ends {
                begun: begin,
                ended: end,
            })
            .with_grace_period(std::time::Duration::ZERO)
            .with_graceful_shutdown(async move {
                _ = stopped.await;
            });
        let thread = std::thread::spawn(move || runtime.block_on(serve.into_future()).unwrap());
        Self {
            addr,
            begun,
            ends,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn files(dir: &std::path::Path) -> Self {
        Self::start(BoxCloneSyncService::new(ServeDir::new(dir).unwrap()))
    }

    fn client(&self) -> Client {
        Client::connect(&Address::Tcp(self.addr))
    }

    fn next(&self) -> End {
        self.ends.recv_timeout(PATIENCE).expect("an end")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server's thread");
        }
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
    let server = Server::files(dir.path());
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
    let server = Server::files(dir.path());
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
    let server = Server::files(dir.path());
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
    let mut server = Server::start(BoxCloneSyncService::new(never));
    let mut client = server.client();
    client.send("GET /never HTTP/1.1\r\nhost: test\r\n\r\n");
    // A client that has closed may still want its answer; the end of the server does not wait.
    server.begun.recv_timeout(PATIENCE).unwrap();
    drop(server.stop.take());
    let end = server.next();
    assert_eq!((end.status, end.outcome), (None, Outcome::Aborted));
    assert_eq!(end.bytes, 0);
}
