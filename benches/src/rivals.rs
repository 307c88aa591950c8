//! What Rust servers do today, each on one thread. They are built with the race, since a library has
//! no program that could be installed.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

pub mod actix;
pub mod memory;
pub mod plain;
pub mod serve_dir;
pub mod staticfile;

/// Runs `serve` on this thread with a listener, of which `announce` is told the address first.
fn on_one_thread(
    listen: SocketAddr,
    announce: impl FnOnce(SocketAddr),
    serve: impl AsyncFnOnce(TcpListener) -> io::Result<()>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        announce(listener.local_addr()?);
        serve(listener).await
    })
}

/// Serves each connection by hyper's HTTP/1 with a clone of `service`.
fn http1<S, B>(listen: SocketAddr, announce: impl FnOnce(SocketAddr), service: S) -> io::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    on_one_thread(listen, announce, async |listener| {
        loop {
            let (stream, _) = listener.accept().await?;
            // Only the measurement suffers if it fails.
            let _ = stream.set_nodelay(true);
            let service = service.clone();
            tokio::spawn(async move {
                // A client that goes away is nobody's failure.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    })
}
