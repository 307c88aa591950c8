//! `hyper-staticfile` on hyper, on one thread.
//!
//! With `TCP_NODELAY`, for the same reason as [`super::serve_dir`].

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_staticfile::Static;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Serves `directory` on `listen` until the process ends; `announce` is told the address first.
///
/// # Errors
///
/// If the address cannot be had.
pub fn serve(
    listen: SocketAddr,
    directory: &Path,
    announce: impl FnOnce(SocketAddr),
) -> io::Result<()> {
    let files = Static::new(directory);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        announce(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            // Only the measurement suffers if it fails.
            let _ = stream.set_nodelay(true);
            let files = files.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| files.clone().serve(request));
                // A client that goes away is nobody's failure.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    })
}
