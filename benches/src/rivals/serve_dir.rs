//! What Rust servers do today: `tower-http`'s `ServeDir` on axum, on one thread.
//!
//! With `TCP_NODELAY`, which `axum::serve` does not set: without it, delayed acknowledgements cost
//! 40 ms per request and hide everything else. File reads run on tokio's blocking threads, on the
//! same core.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use axum::Router;
use axum::serve::ListenerExt;
use tower_http::services::ServeDir;

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
    super::on_one_thread(listen, announce, async |listener| {
        let listener = listener.tap_io(|stream| {
            // Only the measurement suffers if it fails.
            let _ = stream.set_nodelay(true);
        });
        let service = Router::new().fallback_service(ServeDir::new(directory));
        axum::serve(listener, service).await
    })
}
