//! `hyper-staticfile` on hyper, on one thread.
//!
//! With `TCP_NODELAY`, for the same reason as [`super::serve_dir`].

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use hyper::service::service_fn;
use hyper_staticfile::Static;

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
    // Its own `Service` boxes each future.
    let service = service_fn(move |request| files.clone().serve(request));
    super::http1(listen, announce, service)
}
