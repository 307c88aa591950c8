//! A TCP proxy that copies nothing: what arrives on one side leaves on the other by splice.
//!
//! ```console
//! $ cargo run --release -p lendfile-examples --example splice_proxy -- LISTEN TARGET
//! $ cargo run --release -p lendfile-examples --example splice_proxy -- 127.0.0.1:8081 127.0.0.1:8080
//! ```
//!
//! Half-closed connections stay half-closed; a target that cannot be reached ends its client's
//! connection; each end is logged with both directions' counts.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "its first line tells where it listens")]

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::time::Duration;
use std::{env, io};

use lendfile::{TransferOptions, relay};
use tokio::net::{TcpListener, TcpStream};

/// Pause after accepting has failed, as it does when descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() -> io::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    let mut args = env::args().skip(1);
    let (Some(listen), Some(target), None) = (args.next(), args.next(), args.next()) else {
        return Err(io::Error::other("usage: splice_proxy LISTEN TARGET"));
    };
    let listener = TcpListener::bind(listen).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        match listener.accept().await {
            Ok((client, peer)) => {
                let target = target.clone();
                tokio::spawn(async move { proxy(client, peer, &target).await });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn proxy(client: TcpStream, peer: SocketAddr, target: &str) {
    let server = match TcpStream::connect(target).await {
        Ok(server) => server,
        Err(error) => {
            tracing::warn!(%peer, target, %error, "the target cannot be reached");
            return;
        }
    };
    // A conversation's small messages must not wait for acknowledgements.
    _ = client.set_nodelay(true);
    _ = server.set_nodelay(true);
    match relay(&client, &server, TransferOptions::new()).await {
        Ok(relayed) => {
            let (up, down) = (relayed.a_to_b.len, relayed.b_to_a.len);
            tracing::info!(%peer, up, down, "ended");
        }
        Err(failure) => {
            let report = failure.report();
            let (up, down) = (report.a_to_b.bytes_sent(), report.b_to_a.bytes_sent());
            tracing::info!(%peer, up, down, error = %failure, "broke off");
        }
    }
}
