//! Serving: an accept loop, hyper's connection, and the handle in every request.

use std::fmt;
use std::future::{Future, IntoFuture, pending};
use std::io;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{self, BoxFuture, Either};
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use lendfile_core::{Backend, Error, Method};
use lendfile_epoll::Epoll;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower::util::{Oneshot, ServiceExt};
use tower_service::Service;

use crate::{Accept, Connection, Listener};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Time for a request's head to arrive.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Time that running responses have to finish after shutdown was asked for.
const GRACE: Duration = Duration::from_secs(30);

/// hyper's read buffer grows to this and does not shrink, and a request's head must fit into it.
/// A body's frame may be larger whatever it is.
const HYPER_BUFFER_BYTES: usize = 64 << 10;

/// Serves HTTP/1.1 and cleartext HTTP/2 with `service`, lending file bodies to the connections.
///
/// The service is any tower service whose responses' bodies yield [`Bytes`]: a
/// [`ServeDir`](crate::ServeDir), an axum `Router`, a `tower::service_fn`. Every request carries a
/// [`Connection`] in its extensions. Await the result to run it; it resolves after
/// [shutdown](Serve::with_graceful_shutdown), and never by itself: a connection that fails is
/// logged, and when descriptors run out accepting pauses (5 ms, doubling to 1 s) until there are
/// some again.
///
/// # Examples
///
/// ```no_run
/// # async fn run() -> std::io::Result<()> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
/// lendfile::serve(listener, lendfile::ServeDir::new("public")?).await
/// # }
/// ```
pub fn serve<L, S>(listener: L, service: S) -> Serve<L, S>
where
    L: Accept,
{
    Serve {
        listener: Listener::new(listener),
        service,
        shutdown: None,
        grace: GRACE,
    }
}

/// A server, to be configured and awaited. Made by [`serve`].
pub struct Serve<L, S, B = Epoll> {
    listener: Listener<L, B>,
    service: S,
    shutdown: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    grace: Duration,
}

impl<L: Accept, S, B: Backend<L::Socket>> Serve<L, S, B> {
    /// Sends by another backend than tokio's readiness.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if it does not have the method
    /// asked for before.
    pub fn with_backend<C: Backend<L::Socket>>(self, backend: C) -> Result<Serve<L, S, C>, Error> {
        Ok(Serve {
            listener: self.listener.with_backend(backend)?,
            service: self.service,
            shutdown: self.shutdown,
            grace: self.grace,
        })
    }

    /// Sends files by this method.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the backend does not have it.
    pub fn with_method(mut self, method: Method) -> Result<Self, Error> {
        self.listener = self.listener.with_method(method)?;
        Ok(self)
    }

    /// Stops accepting when `signal` resolves, lets running responses finish for up to the
    /// [grace period](Serve::with_grace_period), then aborts them.
    #[must_use]
    pub fn with_graceful_shutdown(
        mut self,
        signal: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        self.shutdown = Some(Box::pin(signal));
        self
    }

    /// How long running responses may take to finish after shutdown was asked for. Default 30 s.
    #[must_use]
    pub fn with_grace_period(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }
}

impl<L, S, B, Payload> IntoFuture for Serve<L, S, B>
where
    L: Accept,
    B: Backend<L::Socket>,
    S: Service<Request<Incoming>, Response = Response<Payload>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    Payload: Body<Data = Bytes> + Send + 'static,
    Payload::Error: Into<BoxError>,
{
    type Output = io::Result<()>;
    type IntoFuture = BoxFuture<'static, io::Result<()>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let http = http();
            let graceful = GracefulShutdown::new();
            let mut tasks = JoinSet::new();
            let mut shutdown = self.shutdown.unwrap_or_else(|| Box::pin(pending()));
            loop {
                let accepting = pin!(self.listener.accept());
                let (stream, connection, peer) = match future::select(accepting, shutdown).await {
                    Either::Left((accepted, signal)) => {
                        shutdown = signal;
                        accepted
                    }
                    Either::Right(_) => break,
                };
                let service = WithConnection {
                    connection,
                    service: self.service.clone(),
                };
                let serving = http
                    .serve_connection(TokioIo::new(stream), service)
                    .into_owned();
                let serving = graceful.watch(serving);
                tasks.spawn(async move {
                    if let Err(error) = serving.await {
                        tracing::debug!(?peer, error = &*error, "connection ended");
                    }
                });
                while tasks.try_join_next().is_some() {}
            }
            drop(self.listener);
            finish(graceful, tasks, self.grace).await;
            Ok(())
        })
    }
}

/// Lets the running responses finish, for up to `grace`.
async fn finish(graceful: GracefulShutdown, mut tasks: JoinSet<()>, grace: Duration) {
    if timeout(grace, graceful.shutdown()).await.is_err() {
        tracing::warn!("responses still running after the grace period are aborted");
    }
    tasks.shutdown().await;
}

fn http() -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .half_close(true)
        .max_buf_size(HYPER_BUFFER_BYTES);
    http.http2().timer(TokioTimer::new());
    http
}

/// Puts the connection's handle into every request.
struct WithConnection<S> {
    connection: Connection,
    service: S,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for WithConnection<S>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Oneshot<S, Request<Incoming>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.connection.clone());
        self.service.clone().oneshot(request)
    }
}

impl<L: fmt::Debug, S, B: fmt::Debug> fmt::Debug for Serve<L, S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("listener", &self.listener)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}
