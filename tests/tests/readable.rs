//! Lent bytes that somebody reads instead of passing on: right bytes, and when the file has lost
//! them, an aborted response, never zeros in their place and never a dead process.

use std::convert::Infallible;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Read};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body as AxumBody;
use bytes::Bytes;
use http::{Extensions, Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use lendfile::{FileBody, FileRegion, Lending, Method, OpenFile};
use lendfile_tests::client::Client;
use lendfile_tests::content;
use lendfile_tests::server::{Network, Server, Stack, Testable};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower::Layer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;

const LEN: u64 = 3_000_001;

fn file() -> (tempfile::TempDir, Arc<OpenFile>, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    content::write(&path, 9, LEN).unwrap();
    let bytes = fs::read(&path).unwrap();
    (dir, OpenFile::open(&path).unwrap(), bytes)
}

/// A service that sends `file` with `lending`, after having done `before` to it.
fn sending(
    file: Arc<OpenFile>,
    lending: Lending,
    before: impl Fn() + Clone + Send + Sync + 'static,
) -> impl Testable<FileBody> {
    tower::service_fn(move |request: Request<AxumBody>| {
        let region = FileRegion::whole(file.clone());
        let body = FileBody::new(region, lending, request.extensions());
        before();
        async move {
            let length = http::HeaderValue::from(LEN);
            let mut response = Response::new(body);
            response.headers_mut().insert("content-length", length);
            Ok(response)
        }
    })
}

/// Cuts the file to one page.
fn truncate(path: &Path) -> impl Fn() + Clone + Send + Sync + 'static {
    let path = path.join("file");
    move || {
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(4096).unwrap();
    }
}

/// Middleware that reads every byte and passes on a copy of the same length.
fn copying(inner: impl Testable<FileBody>) -> impl Testable<AxumBody> {
    tower::util::MapResponse::new(inner, |response: Response<FileBody>| {
        response.map(|body| {
            AxumBody::new(
                body.map_frame(|frame| frame.map_data(|data| Bytes::copy_from_slice(&data))),
            )
        })
    })
}

#[test]
fn through_gzip_the_bytes_are_right() {
    let (_dir, file, bytes) = file();
    for lending in [Lending::Advertised, Lending::Always] {
        let service = CompressionLayer::new()
            .compress_when(SizeAbove::new(1))
            .layer(sending(file.clone(), lending, || {}));
        let server = Server::start(Stack::Serve, Network::Tcp, Method::Sendfile, service);
        let mut client = Client::connect(&server.address);
        let response = client.get("/", "accept-encoding: gzip\r\n");
        assert_eq!(response.headers["content-encoding"], "gzip");
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&*response.body)
            .read_to_end(&mut unpacked)
            .unwrap();
        assert!(unpacked == bytes, "{lending:?}");
    }
}

#[test]
fn through_collect_the_bytes_are_right() {
    let (_dir, file, bytes) = file();
    let runtime = runtime();
    for lending in [Lending::Always, Lending::Never] {
        let body = FileBody::new(
            FileRegion::whole(file.clone()),
            lending,
            &Extensions::default(),
        );
        assert_eq!(body.size_hint().exact(), Some(LEN));
        let collected = runtime.block_on(body.collect()).unwrap().to_bytes();
        assert!(collected == bytes, "{lending:?}");
    }
}

#[test]
fn through_middleware_that_copies_the_bytes_are_right() {
    let (_dir, file, bytes) = file();
    for lending in [Lending::Advertised, Lending::Always] {
        let service = copying(sending(file.clone(), lending, || {}));
        let server = Server::start(Stack::Serve, Network::Tcp, Method::Sendfile, service);
        let response = Client::connect(&server.address).get("/", "");
        assert!(response.body == bytes, "{lending:?}");
    }
}

#[test]
fn through_rustls_the_bytes_are_right() {
    let (_dir, file, bytes) = file();
    for lending in [Lending::Always, Lending::Advertised] {
        let (mut client, _server) = tls(sending(file.clone(), lending, || {}));
        assert!(client.get("/", "").body == bytes, "{lending:?}");
    }
}

#[test]
fn through_a_wrapper_without_vectored_writes_the_bytes_are_right() {
    let (_dir, file, bytes) = file();
    let (client, server) = std::os::unix::net::UnixStream::pair().unwrap();
    let thread = std::thread::spawn(move || {
        runtime().block_on(async move {
            server.set_nonblocking(true).unwrap();
            let socket = tokio::net::UnixStream::from_std(server).unwrap();
            let stream = lendfile::LendStream::new(lendfile::EpollTransport::new(socket));
            let service = sending(file, Lending::Always, || {});
            let service = tower::util::MapRequest::new(service, |request: Request<_>| {
                request.map(AxumBody::new)
            });
            _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(
                    TokioIo::new(Flat(stream)),
                    TowerToHyperService::new(service),
                )
                .await;
        });
    });
    client
        .set_read_timeout(Some(lendfile_tests::PATIENCE))
        .unwrap();
    let mut client = Client::over(client);
    assert!(client.get("/", "").body == bytes);
    drop(client);
    thread.join().unwrap();
}

#[test]
fn truncated_under_gzip_the_response_is_aborted_and_the_process_lives() {
    for lending in [Lending::Advertised, Lending::Always] {
        let (dir, file, _) = file();
        let service = CompressionLayer::new()
            .compress_when(SizeAbove::new(1))
            .layer(sending(file, lending, truncate(dir.path())));
        assert_aborted(
            service,
            "accept-encoding: gzip\r\n",
            &format!("{lending:?}"),
        );
    }
}

#[test]
fn truncated_within_its_last_page_under_gzip_the_response_is_aborted() {
    let (dir, file, _) = file();
    let path = dir.path().join("file");
    let cut = move || {
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(LEN - 10).unwrap();
    };
    let service = CompressionLayer::new()
        .compress_when(SizeAbove::new(1))
        .layer(sending(file, Lending::Advertised, cut));
    assert_aborted(service, "accept-encoding: gzip\r\n", "last page");
}

#[test]
fn truncated_under_middleware_that_copies_the_response_is_aborted() {
    for lending in [Lending::Advertised, Lending::Always] {
        let (dir, file, _) = file();
        let service = copying(sending(file, lending, truncate(dir.path())));
        assert_aborted(service, "", &format!("{lending:?}"));
    }
}

#[test]
fn truncated_under_collect_the_body_ends_in_an_error() {
    let (dir, file, _) = file();
    let body = FileBody::new(
        FileRegion::whole(file),
        Lending::Always,
        &Extensions::default(),
    );
    truncate(dir.path())();
    let reading = body.map_frame(|frame| frame.map_data(|data| Bytes::copy_from_slice(&data)));
    let error = runtime().block_on(reading.collect()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn truncated_under_rustls_the_connection_ends_early() {
    let (dir, file, _) = file();
    let (mut client, _server) = tls(sending(file, Lending::Always, truncate(dir.path())));
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    client
        .response("GET")
        .expect_err("a whole response of a truncated file");
}

#[test]
fn truncated_while_owned_chunks_are_read_the_response_is_aborted() {
    let (dir, file, _) = file();
    let service = sending(file, Lending::Never, truncate(dir.path()));
    assert_aborted(service, "", "owned");
}

#[test]
fn a_mapping_found_missing_is_not_lent_again() {
    let (dir, file, _) = file();
    let region = FileRegion::whole(file.clone());
    let mapping = region.map().unwrap();
    let lent = mapping.lend(&region, ());
    truncate(dir.path())();
    assert!(!mapping.is_poisoned());
    assert_eq!(lent.last(), Some(&0));
    assert!(mapping.is_poisoned());
    assert_eq!(
        region.map().unwrap_err(),
        lendfile_core::lent::CannotLend::Poisoned
    );
    // The slot is clean for the next file.
    drop((lent, mapping));
    File::create(dir.path().join("other"))
        .unwrap()
        .set_len(LEN)
        .unwrap();
    let other = FileRegion::whole(OpenFile::open(dir.path().join("other")).unwrap());
    assert!(!other.map().unwrap().is_poisoned());
}

/// Requests once, expecting an end before the whole; then checks that the server still serves.
fn assert_aborted<S, B>(service: S, headers: &str, which: &str)
where
    S: Testable<B>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    let healthy = content::bytes(1, 10);
    let other = healthy.clone();
    let service = tower::service_fn(move |request: Request<AxumBody>| {
        let (service, other) = (service.clone(), other.clone());
        async move {
            Ok::<_, Infallible>(match request.uri().path() {
                "/other" => Response::new(AxumBody::from(other)),
                _ => tower::ServiceExt::oneshot(service, request)
                    .await?
                    .map(AxumBody::new),
            })
        }
    });
    let server = Server::start(Stack::Serve, Network::Tcp, Method::Sendfile, service);
    let mut client = Client::connect(&server.address);
    client.send(format!("GET / HTTP/1.1\r\nhost: test\r\n{headers}\r\n"));
    let error = client
        .response("GET")
        .err()
        .unwrap_or_else(|| panic!("{which}: a whole response of a truncated file"));
    let early = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];
    assert!(early.contains(&error.kind()), "{which}: {error}");
    let mut next = Client::connect(&server.address);
    assert_eq!(next.get("/other", "").body, healthy, "{which}");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// A TLS connection to `service`, over a socket pair, and the thread that serves it.
fn tls<S>(service: S) -> (Client, std::thread::JoinHandle<()>)
where
    S: Testable<FileBody>,
{
    use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
    use tokio_rustls::rustls::{
        ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned,
    };

    let issued = rcgen::generate_simple_self_signed(["test".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let server_config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(issued.cert.der().clone()).unwrap();
    let client_config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();

    let (client, server) = std::os::unix::net::UnixStream::pair().unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let thread = std::thread::spawn(move || {
        runtime().block_on(async move {
            server.set_nonblocking(true).unwrap();
            let socket = tokio::net::UnixStream::from_std(server).unwrap();
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server_config));
            let stream = acceptor.accept(socket).await.unwrap();
            let service = tower::util::MapRequest::new(service, |request: Request<_>| {
                request.map(AxumBody::new)
            });
            _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
                .await;
        });
    });
    let name = ServerName::try_from("test").unwrap();
    let connection = ClientConnection::new(Arc::new(client_config), name).unwrap();
    (Client::over(StreamOwned::new(connection, client)), thread)
}

/// Hides that the stream below takes vectored writes.
struct Flat<S>(S);

impl<S: AsyncRead + Unpin> AsyncRead for Flat<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Flat<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        unreachable!("hyper asks is_write_vectored first")
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
