//! Serving: an accept loop, hyper's connection with its limits, and the handle in every request.
//!
//! - `limits`: what a connection may take, and hyper told of it.
//! - `activity`, `watched`, `clock`: what it does, who notes it, and when that takes too long.
//! - `conversation`: from an accepted stream to hyper. `version`: to which. `connection`: until its end.
//!   `service`: what stands before the user's service.
//! - `connections`: how many there may be. `tls`: rustls.

mod activity;
mod clock;
mod connection;
mod connections;
mod conversation;
mod limits;
mod service;
#[cfg(feature = "tls")]
mod tls;
mod version;
mod watched;

use std::fmt;
use std::future::{Future, IntoFuture, pending, poll_fn};
use std::io;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use lendfile_core::{Backend, Error, Method};
use lendfile_epoll::Epoll;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use self::activity::Activity;
use self::connection::BoxError;
pub use self::connections::{Connections, RefusedRequest};
use self::conversation::{Conversation, Server};
pub use self::limits::{Cut, Limits};
#[cfg(feature = "tls")]
pub use self::tls::Tls;
use self::watched::Watched;
use crate::observe::{Observer, Watch};
use crate::{Accept, Listener};

/// Time that running responses have to finish after shutdown was asked for.
const GRACE: Duration = Duration::from_secs(30);

/// Serves HTTP/1.1 and HTTP/2, in clear or through TLS (feature `tls`), with `service`. Connections in
/// clear are lent its file bodies; through TLS they are copied.
///
/// The service is any tower service whose responses' bodies yield [`Bytes`]: a
/// [`ServeDir`](crate::ServeDir), an axum `Router`, a `tower::service_fn`. Every request carries a
/// [`Connection`](crate::Connection) in its extensions. Await the result to run it; it resolves after
/// [shutdown](Serve::with_graceful_shutdown), and never by itself: a connection that fails is
/// logged, and when descriptors run out accepting pauses (5 ms, doubling to 1 s) until there are
/// some again; the last quarter of them is left to files. It spawns a task per connection and runs in
/// whatever tokio runtime awaits it: a multi-thread one, or one current-thread runtime per core with a
/// socket of its own each (`SO_REUSEPORT`), which is what the `lendfile` command does.
///
/// A request without a valid `Host`, with two, or with a doubtful `Transfer-Encoding` is answered
/// 400 before it reaches the service. One with `Content-Length` and `Transfer-Encoding` both is read
/// by the latter and its connection closed after the answer (RFC 9112 §6.1): hyper drops the former,
/// so nobody can refuse it. [`Limits`] bound what a connection may take.
///
/// Each connection is a `tracing` span at level DEBUG, `connection`, with its peer; what the service
/// logs is in it, and so is the event at each transfer's end.
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
        limits: Limits::default(),
        connections: Connections::new(),
        observer: None,
        #[cfg(feature = "tls")]
        tls: None,
    }
}

/// A server, to be configured and awaited. Made by [`serve`].
pub struct Serve<L, S, B = Epoll> {
    listener: Listener<L, B>,
    service: S,
    shutdown: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    grace: Duration,
    limits: Limits,
    connections: Connections,
    observer: Option<Arc<dyn Watch>>,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
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
            limits: self.limits,
            connections: self.connections,
            observer: self.observer,
            #[cfg(feature = "tls")]
            tls: self.tls,
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

    /// Bounds what each connection may take.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Counts its connections with others', and bounds how many there may be.
    #[must_use]
    pub fn with_connections(mut self, connections: Connections) -> Self {
        self.connections = connections;
        self
    }

    /// Tells `observer` of every request and of its end: an [`AccessLog`](crate::AccessLog), metrics
    /// of yours, or a pair of both. What hyper refuses by itself (a head that cannot be parsed or is
    /// too long) never becomes a request; [`Connections::refused_requests`] counts it.
    #[must_use]
    pub fn with_observer(mut self, observer: impl Observer) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Speaks TLS. Nothing is lent then: see [`Tls`].
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Stops accepting when `signal` resolves (a token's `cancelled_owned()`, say), lets running
    /// responses finish for up to the [grace period](Serve::with_grace_period), then aborts them.
    /// Idle connections are closed at once, and HTTP/2 peers are told by GOAWAY.
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
    /// An error of the listening socket, before anything was accepted.
    type Output = io::Result<()>;
    type IntoFuture = BoxFuture<'static, io::Result<()>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            L::limit(self.listener.get_ref(), &self.limits)?;
            let server = Arc::new(Server {
                protocols: self.limits.protocols(),
                limits: Arc::new(self.limits),
                connections: self.connections,
                stopping: CancellationToken::new(),
                observer: self.observer,
                #[cfg(feature = "tls")]
                tls: self.tls,
            });
            let mut tasks = JoinSet::new();
            let mut shutdown = self.shutdown.unwrap_or_else(|| Box::pin(pending()));
            loop {
                let mut accepting = pin!(async {
                    let (stream, connection, addr) =
                        self.listener.accept_within(&server.limits).await;
                    let peer = L::peer(&addr);
                    let admitted = server.connections.admit(peer).await?;
                    Some((stream, connection.with_peer(peer), addr, admitted))
                });
                let event = poll_fn(|cx| {
                    // At once, and not when the next comes: what is left of those that have ended
                    // holds memory pages that lie between others'.
                    while let Poll::Ready(Some(_)) = tasks.poll_join_next(cx) {}
                    match shutdown.as_mut().poll(cx) {
                        Poll::Ready(()) => Poll::Ready(ControlFlow::Break(())),
                        Poll::Pending => accepting.as_mut().poll(cx).map(ControlFlow::Continue),
                    }
                });
                let (stream, connection, addr, admitted) = match event.await {
                    ControlFlow::Break(()) => break,
                    ControlFlow::Continue(None) => continue,
                    ControlFlow::Continue(Some(accepted)) => accepted,
                };
                let span = tracing::debug_span!("connection", peer = ?addr);
                let activity = Arc::new(Activity::new(connection.ledger().clone()));
                let stream = Watched::new(stream, activity.clone());
                let service = self.service.clone();
                let conversation = Conversation {
                    server: server.clone(),
                    connection,
                    activity,
                    began: Instant::now(),
                    admitted,
                };
                conversation.spawn(&mut tasks, stream, service, span);
            }
            drop(self.listener);
            finish(&server.stopping, tasks, self.grace).await;
            Ok(())
        })
    }
}

/// Lets the running responses finish, for up to `grace`.
async fn finish(stopping: &CancellationToken, mut tasks: JoinSet<()>, grace: Duration) {
    stopping.cancel();
    let ended = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, ended).await.is_err() {
        tracing::warn!("responses still running after the grace period are aborted");
    }
    tasks.shutdown().await;
}

impl<L: fmt::Debug, S, B: fmt::Debug> fmt::Debug for Serve<L, S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("listener", &self.listener)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}
