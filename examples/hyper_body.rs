//! Sends one file from a plain hyper service.
//!
//! ```console
//! $ cargo run --release -p lendfile-examples --example hyper_body -- [ADDR:PORT [FILE [by-hand]]]
//! ```
//!
//! Two ways to the same: [`lendfile::serve`], which has timeouts and a graceful shutdown, and an
//! accept loop of one's own around hyper's connection.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "its first line tells where it listens")]

use std::convert::Infallible;
use std::env;
use std::io;
use std::io::IsTerminal;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use lendfile::{FileBody, FileRegion, Listener, OpenFile};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> io::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    let mut args = env::args().skip(1);
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let name = args.next().unwrap_or_else(|| "Cargo.lock".to_owned());
    // Opened once: what is sent is this file, even if another one takes its name.
    let file = OpenFile::open(name)?;
    let listener = TcpListener::bind(addr).await?;
    println!("listening on http://{}", listener.local_addr()?);
    match args.next().as_deref() {
        None => in_short(listener, file).await,
        Some("by-hand") => by_hand(listener, file).await,
        Some(other) => Err(io::Error::other(format!("no way is named {other:?}"))),
    }
}

/// The handler. hyper takes Content-Length from the body.
fn answer<B>(file: &Arc<OpenFile>, request: &Request<B>) -> Response<FileBody> {
    let region = FileRegion::whole(file.clone());
    // The request's extensions tell whether its connection can send the file without reading it.
    Response::new(FileBody::for_request(region, request.extensions()))
}

async fn in_short(listener: TcpListener, file: Arc<OpenFile>) -> io::Result<()> {
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let response = answer(&file, &request);
        async { Ok::<_, Infallible>(response) }
    });
    lendfile::serve(listener, service).await
}

async fn by_hand(listener: TcpListener, file: Arc<OpenFile>) -> io::Result<()> {
    let listener = Listener::new(listener);
    loop {
        let (stream, connection, peer) = listener.accept().await;
        let file = file.clone();
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            // Without this the file is sent all the same, but copied.
            request.extensions_mut().insert(connection.clone());
            let response = answer(&file, &request);
            async { Ok::<_, Infallible>(response) }
        });
        tokio::spawn(async move {
            let served = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::info!(%peer, error, "connection ended");
            }
        });
    }
}
