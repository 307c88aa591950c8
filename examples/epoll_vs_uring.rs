//! The same service on tokio's readiness and on a ring, switched by an argument.
//!
//! ```console
//! $ cargo run --release -p lendfile-examples --example epoll_vs_uring -- epoll [ADDR:PORT [DIR]]
//! $ cargo run --release -p lendfile-examples --example epoll_vs_uring -- uring [ADDR:PORT [DIR]]
//! ```
//!
//! What differs is the runtime and one line at the server. docs/io_uring.md says when which is the
//! better one.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "its first line tells where it listens")]

use std::env;
use std::io;
use std::io::IsTerminal;

use lendfile::{Serve, ServeDir};
use lendfile_uring::{Runtime, Uring};
use tokio::net::TcpListener;

fn main() -> io::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    let mut args = env::args().skip(1);
    let backend = args.next().unwrap_or_else(|| "uring".to_owned());
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let dir = args.next().unwrap_or_else(|| ".".to_owned());
    match backend.as_str() {
        "epoll" => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(async { server(&addr, &dir).await?.await }),
        // An error where io_uring is denied, with the cure; the runtime belongs to its thread.
        "uring" => Runtime::new()?.block_on(async {
            let serve = server(&addr, &dir).await?;
            serve.with_backend(Uring::new()?)?.await
        }),
        other => Err(io::Error::other(format!("no backend is named {other:?}"))),
    }
}

/// The server, whatever it runs on.
async fn server(addr: &str, dir: &str) -> io::Result<Serve<TcpListener, ServeDir>> {
    let listener = TcpListener::bind(addr).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(lendfile::serve(listener, ServeDir::new(dir)?))
}
