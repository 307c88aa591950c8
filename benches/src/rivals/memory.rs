//! hyper alone: files in memory, no service to speak of, on one thread. What a server on hyper cannot
//! be faster than, unless the kernel is spared the copy.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};

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
    let service = service_fn(move |request: Request<Incoming>| {
        ready(Ok::<_, Infallible>(answer(&files, request.uri().path())))
    });
    super::http1(listen, announce, service)
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
