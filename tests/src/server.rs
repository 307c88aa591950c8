//! Servers to test, each on a thread of its own: by hand, by `lendfile::serve`, by axum.

use std::convert::Infallible;
use std::future::{Future, IntoFuture};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::mpsc::Sender;
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};

use axum::Router;
use axum::body::Body as AxumBody;
use bytes::Bytes;
use http::{Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use lendfile::{Accept, Connection, EpollTransport, Listener, Method};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::oneshot;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt};
use tower_service::Service;

/// What may be asked for on sockets of tokio's: `Auto` and every method of the epoll backend.
pub fn methods() -> impl Iterator<Item = Method> {
    let named = EpollTransport::<TcpStream>::backend_capabilities().methods;
    std::iter::once(Method::Auto).chain(named.iter())
}

/// How requests reach the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    /// `axum::serve` with a `lendfile::Listener` and connect info.
    AxumServe,
    /// An accept loop of our own: `LendStream` under `TokioIo` under hyper.
    ByHand,
    /// `lendfile::serve` with an axum router, whose bodies are boxed.
    Router,
    /// `lendfile::serve` with the service as it is.
    Serve,
}

impl Stack {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::AxumServe, Self::ByHand, Self::Router, Self::Serve];
}

/// What connections are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// TCP over loopback.
    Tcp,
    /// A Unix socket.
    Unix,
}

/// Where a server listens.
#[derive(Clone, Debug)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket's path.
    Unix(PathBuf),
}

/// Any service a test may serve.
pub type AnyService = BoxCloneSyncService<Request<AxumBody>, Response<AxumBody>, Infallible>;

/// What a test may serve. An alias for its bounds.
pub trait Testable<B>:
    Service<Request<AxumBody>, Response = Response<B>, Error = Infallible, Future: Send + 'static>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S, B> Testable<B> for S where
    S: Service<
            Request<AxumBody>,
            Response = Response<B>,
            Error = Infallible,
            Future: Send + 'static,
        > + Clone
        + Send
        + Sync
        + 'static
{
}

/// A running server; stops when dropped.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: Address,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Resolves when a server is to stop.
type Stopped = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Server {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// If it cannot listen.
    pub fn start<S, B>(stack: Stack, network: Network, method: Method, service: S) -> Self
    where
        S: Testable<B>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        Self::start_logging(stack, network, method, service, tracing::Dispatch::none())
    }

    /// Starts one whose thread logs to `log`.
    ///
    /// # Panics
    ///
    /// If it cannot listen.
    pub fn start_logging<S, B>(
        stack: Stack,
        network: Network,
        method: Method,
        service: S,
        log: tracing::Dispatch,
    ) -> Self
    where
        S: Testable<B>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let service: AnyService = BoxCloneSyncService::new(MaybeChunked.layer(service));
        Self::on_thread(log, move |tell, stopped| async move {
            match network {
                Network::Tcp => {
                    let listener = listen(&tell).await;
                    run(stack, listener, method, service, stopped).await;
                }
                Network::Unix => {
                    let dir = TempDir::new().expect("a directory");
                    let path = dir.path().join("socket");
                    let listener = UnixListener::bind(&path).expect("listen");
                    _ = tell.send(Address::Unix(path));
                    run(stack, listener, method, service, stopped).await;
                }
            }
        })
    }

    /// Starts what `serve` makes of a TCP listener: a [`lendfile::Serve`] with options of its own.
    ///
    /// # Panics
    ///
    /// If it cannot listen.
    pub fn of<S>(serve: impl FnOnce(TcpListener) -> S + Send + 'static) -> Self
    where
        S: IntoFuture<Output = io::Result<()>>,
    {
        let none = tracing::Dispatch::none();
        Self::on_thread(none, move |tell, stopped| async move {
            let serving = serve(listen(&tell).await).into_future();
            tokio::select! {
                result = serving => result.expect("serving"),
                () = stopped => {}
            }
        })
    }

    /// Runs what tells its address and ends when it is to stop.
    fn on_thread<F: Future<Output = ()>>(
        log: tracing::Dispatch,
        run: impl FnOnce(Sender<Address>, Stopped) -> F + Send + 'static,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let _logging = tracing::dispatcher::set_default(&log);
            let stopped = Box::pin(async {
                _ = stopped.await;
            });
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime")
                .block_on(run(tell, stopped));
        });
        Self {
            address: told.recv().expect("the server's address"),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Where it listens, if that is TCP.
    ///
    /// # Panics
    ///
    /// If it is not.
    pub fn tcp(&self) -> SocketAddr {
        match &self.address {
            Address::Tcp(addr) => *addr,
            Address::Unix(path) => panic!("it listens at {}", path.display()),
        }
    }
}

async fn listen(tell: &Sender<Address>) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let addr = listener.local_addr().expect("an address");
    _ = tell.send(Address::Tcp(addr));
    listener
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the server panicked");
        }
    }
}

async fn run<L: Accept + Unpin>(
    stack: Stack,
    listener: L,
    method: Method,
    service: AnyService,
    stopped: impl Future<Output = ()> + Send + 'static,
) {
    let incoming = service
        .clone()
        .map_request(|request: Request<Incoming>| request.map(AxumBody::new));
    match stack {
        Stack::Serve => lendfile::serve(listener, incoming)
            .with_method(method)
            .expect("a method of this backend")
            .with_grace_period(std::time::Duration::ZERO)
            .with_graceful_shutdown(stopped)
            .await
            .expect("serving"),
        Stack::Router => lendfile::serve(listener, Router::new().fallback_service(service))
            .with_method(method)
            .expect("a method of this backend")
            .with_grace_period(std::time::Duration::ZERO)
            .with_graceful_shutdown(stopped)
            .await
            .expect("serving"),
        Stack::AxumServe => {
            let listener = Listener::new(listener)
                .with_method(method)
                .expect("a method of this backend");
            let app = Router::new().fallback_service(service);
            let app = app.into_make_service_with_connect_info::<Connection>();
            let serving = axum::serve(listener, app);
            tokio::select! {
                result = serving => result.expect("serving"),
                () = stopped => {}
            }
        }
        Stack::ByHand => {
            let listener = Listener::new(listener)
                .with_method(method)
                .expect("a method of this backend");
            tokio::select! {
                () = by_hand(listener, incoming) => {}
                () = stopped => {}
            }
        }
    }
}

async fn by_hand<L, S>(listener: Listener<L>, service: S)
where
    L: Accept,
    S: Service<Request<Incoming>, Response = Response<AxumBody>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    loop {
        let (stream, connection, _) = listener.accept().await;
        let service = service
            .clone()
            .map_request(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(connection.clone());
                request
            });
        tokio::spawn(async move {
            // A connection that ends badly is what many tests are about.
            _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
                .await;
        });
    }
}

/// Boxes bodies, and hides their length when the request has the header `x-chunked`.
#[derive(Clone, Copy, Debug)]
struct MaybeChunked;

impl<S> Layer<S> for MaybeChunked {
    type Service = MaybeChunkedService<S>;

    fn layer(&self, inner: S) -> MaybeChunkedService<S> {
        MaybeChunkedService(inner)
    }
}

#[derive(Clone, Debug)]
struct MaybeChunkedService<S>(S);

impl<S, B> Service<Request<AxumBody>> for MaybeChunkedService<S>
where
    S: Service<Request<AxumBody>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response<AxumBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<AxumBody>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<AxumBody>) -> Self::Future {
        let chunked = request.headers().contains_key("x-chunked");
        let response = self.0.call(request);
        Box::pin(async move {
            let mut response = response.await?;
            if chunked {
                response.headers_mut().remove(header::CONTENT_LENGTH);
            }
            Ok(response.map(|body| match chunked {
                true => AxumBody::new(OfUnknownLength(Box::pin(body))),
                false => AxumBody::new(body),
            }))
        })
    }
}

/// A body that does not say how long it is, so that HTTP/1.1 sends it in chunks.
struct OfUnknownLength<B>(Pin<Box<B>>);

impl<B: Body> Body for OfUnknownLength<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.0.as_mut().poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
