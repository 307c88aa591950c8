//! hyper alone: files in memory, no service to speak of, on one thread. What a server on hyper cannot
//! be faster than, unless the kernel is spared the copy.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Serves the files right in `directory`, read now, on `listen` until the process ends; `announce`
/// is told the address first.
///
/// # Errors
///
/// If the address cannot be had, or a file cannot be read.
pub fn serve(
    listen: SocketAddr,
    directory: &Path,
    announce: impl FnOnce(SocketAddr),
) -> io::Result<()> {
    let files = Arc::new(read(directory)?);
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
            let files = Arc::clone(&files);
            tokio::spawn(async move {
                let service = service_fn(|request: Request<Incoming>| {
                    let response = answer(&files, request.uri().path());
                    async { Ok::<_, Infallible>(response) }
                });
                // A client that goes away is nobody's failure.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    })
}

fn read(directory: &Path) -> io::Result<HashMap<String, Bytes>> {
    let mut files = HashMap::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let path = format!("/{}", entry.file_name().to_string_lossy());
            files.insert(path, std::fs::read(entry.path())?.into());
        }
    }
    Ok(files)
}

fn answer(files: &HashMap<String, Bytes>, path: &str) -> Response<Full<Bytes>> {
    files.get(path).map_or_else(
        || {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        },
        |content| Response::new(Full::new(content.clone())),
    )
}
