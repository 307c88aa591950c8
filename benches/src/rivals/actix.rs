//! `actix-files`, on one worker.
//!
//! With `TCP_NODELAY`, for the same reason as [`super::serve_dir`].

use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use actix_web::rt::System;
use actix_web::rt::net::TcpStream;
use actix_web::{App, HttpServer};

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
    let directory = directory.to_owned();
    System::new().block_on(async move {
        let server =
            HttpServer::new(move || App::new().service(actix_files::Files::new("/", &directory)))
                .workers(1)
                // As nginx's in the race: connections are kept.
                .keep_alive(Duration::from_secs(3600))
                .on_connect(|stream: &dyn Any, _| {
                    if let Some(stream) = stream.downcast_ref::<TcpStream>() {
                        // Only the measurement suffers if it fails.
                        let _ = stream.set_nodelay(true);
                    }
                })
                .bind(listen)?;
        let address = server.addrs().first().copied().unwrap_or(listen);
        announce(address);
        server.run().await
    })
}
