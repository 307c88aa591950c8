//! From an accepted stream to hyper's connection, through TLS if that is spoken.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower_service::Service;
use tracing::Instrument;

use super::activity::Activity;
use super::clock::Clock;
use super::connection::{BoxError, Serving};
use super::connections::{Admitted, Connections};
use super::limits::{Limits, Protocols};
use super::service::OnConnection;
#[cfg(feature = "tls")]
use super::tls::Tls;
use super::version::{Opening, Spoken, Version};
use crate::Connection;
use crate::observe::Watch;

/// What the connections of one server share.
pub(super) struct Server {
    pub(super) protocols: Protocols,
    pub(super) limits: Arc<Limits>,
    pub(super) connections: Connections,
    pub(super) stopping: CancellationToken,
    pub(super) observer: Option<Arc<dyn Watch>>,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<Tls>,
}

/// Spawns the tasks of HTTP/2's streams in their connection's span.
#[derive(Clone, Copy, Debug)]
pub(super) struct InSpan;

impl<F> hyper::rt::Executor<F> for InSpan
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        tokio::spawn(future.in_current_span());
    }
}

/// A connection about to be served.
pub(super) struct Conversation {
    pub(super) server: Arc<Server>,
    pub(super) connection: Connection,
    pub(super) activity: Arc<Activity>,
    /// When it was accepted: a handshake and the first head have one clock.
    pub(super) began: Instant,
    pub(super) admitted: Admitted,
}

impl Conversation {
    pub(super) fn spawn<I, S, B>(
        self,
        tasks: &mut JoinSet<()>,
        stream: I,
        service: S,
        span: tracing::Span,
    ) where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        #[cfg(feature = "tls")]
        if let Some(tls) = self.server.tls.clone() {
            let serving = async move {
                let server = &self.server;
                let stopping = server.stopping.clone().cancelled_owned();
                let deadline = server.limits.header_timeout.map(|limit| self.began + limit);
                match tls.accept(stream, deadline, stopping).await {
                    Ok(stream) => self.encrypted().serve(stream, service).await,
                    Err(error) => tracing::debug!(%error, "no TLS connection came about"),
                }
            };
            tasks.spawn(serving.instrument(span));
            return;
        }
        tasks.spawn(self.serve(stream, service).instrument(span));
    }

    #[cfg(feature = "tls")]
    fn encrypted(mut self) -> Self {
        self.connection = self.connection.encrypted();
        self
    }

    /// Not an `async fn`: what it would keep alive beside the connection is memory that ten
    /// thousand idle ones have ten thousand times.
    fn serve<I, S, B>(self, stream: I, service: S) -> impl Future<Output = ()>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let server = &self.server;
        let service = OnConnection {
            connection: self.connection,
            service,
            activity: self.activity.clone(),
            limits: server.limits.clone(),
            observer: server.observer.clone(),
        };
        let shared = self.server.clone();
        let http = Opening::new(stream, move |version, stream| {
            let Protocols { http1, http2 } = &shared.protocols;
            let stream = TokioIo::new(stream);
            match version {
                Version::Http1 => Spoken::http1(http1.serve_connection(stream, service)),
                Version::Http2 => Spoken::http2(http2.serve_connection(stream, service)),
            }
        });
        let clock = Clock::new(self.began, self.activity.snapshot());
        let serving = Serving::new(
            http,
            server.stopping.clone().cancelled_owned(),
            clock,
            self.activity,
            server.limits.clone(),
            server.connections.clone(),
        );
        let admitted = self.admitted;
        serving.map(move |ended| {
            if let Err(error) = &ended {
                admitted.ended_with(error);
            }
            drop(admitted);
            if let Err(error) = ended {
                tracing::debug!(error = &*error, "connection ended");
            }
        })
    }
}
