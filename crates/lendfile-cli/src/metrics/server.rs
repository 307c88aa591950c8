//! The listener for Prometheus and for load balancers: `/metrics` and `/healthz`.
//!
//! Apart from the files, so that it can be kept from the public by its address, and so that it
//! still answers when the files' connections are at their limit.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use lendfile::{Connections, FileBody};

use super::Metrics;
use super::page;

/// Connections at a time: a few scrapers and health checks, and not more descriptors than that.
const CONNECTIONS: NonZeroUsize = NonZeroUsize::new(64).unwrap();

/// The listener, bound and not yet served.
#[derive(Debug)]
pub(crate) struct MetricsServer {
    addr: SocketAddr,
    listener: TcpListener,
    metrics: Metrics,
    stopping: Arc<AtomicBool>,
}

impl MetricsServer {
    /// # Errors
    ///
    /// Those of asking the listener for its address.
    pub(crate) fn new(listener: TcpListener, metrics: Metrics) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            addr: listener.local_addr()?,
            listener,
            metrics,
            stopping: Arc::default(),
        })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// What makes `/healthz` answer 503: load balancers then send no new clients while the files'
    /// transfers end.
    pub(crate) fn stopping(&self) -> Arc<AtomicBool> {
        self.stopping.clone()
    }

    /// Serves until `ended` resolves.
    pub(crate) async fn serve(
        self,
        ended: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let (metrics, stopping) = (self.metrics, self.stopping);
        let service = tower::service_fn(move |request: Request<_>| {
            let response = answer(request.method(), request.uri().path(), &metrics, &stopping);
            std::future::ready(Ok::<_, Infallible>(response))
        });
        lendfile::serve(listener, service)
            .with_connections(Connections::limited(Some(CONNECTIONS), None))
            .with_graceful_shutdown(ended)
            .with_grace_period(Duration::ZERO)
            .await
    }
}

fn answer(
    method: &Method,
    path: &str,
    metrics: &Metrics,
    stopping: &AtomicBool,
) -> Response<FileBody> {
    let text = "text/plain; charset=utf-8";
    let (status, content_type, body) = match (method, path) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            (StatusCode::OK, page::CONTENT_TYPE, metrics.page())
        }
        (&Method::GET | &Method::HEAD, "/healthz") => match stopping.load(Relaxed) {
            false => (StatusCode::OK, text, "ok\n".to_owned()),
            true => {
                let stopping = "stopping\n".to_owned();
                (StatusCode::SERVICE_UNAVAILABLE, text, stopping)
            }
        },
        (&Method::GET | &Method::HEAD, _) => {
            let not_found = "not found; there are /metrics and /healthz\n".to_owned();
            (StatusCode::NOT_FOUND, text, not_found)
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, text, String::new()),
    };
    let mut response = Response::new(FileBody::memory(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}
