//! Receives files by HTTP PUT, from the socket into the page cache by splice.
//!
//! ```console
//! $ cargo run --release -p lendfile-examples --example upload -- 127.0.0.1:8080 incoming
//! $ curl -T movie.mp4 http://127.0.0.1:8080/movie.mp4
//! ```
//!
//! As small as HTTP can be and still be right for `curl -T`: one request per connection, a
//! Content-Length, `Expect: 100-continue`. A file appears under its name only when it is whole;
//! what an interrupted upload has brought stays beside it as `NAME.part`, and the answer or the
//! log tells how much that is.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "its first line tells where it listens")]

use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs, io};

use lendfile::{TransferOptions, recv_file};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// The longest head of a request.
const HEAD_BYTES: usize = 16 << 10;

/// Time for the head to arrive.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// Pause after accepting has failed, as it does when descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() -> io::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    let mut args = env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let directory = PathBuf::from(args.next().unwrap_or_else(|| "incoming".to_owned()));
    fs::create_dir_all(&directory)?;
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        match listener.accept().await {
            Ok((mut socket, peer)) => {
                let directory = directory.clone();
                tokio::spawn(async move {
                    let (status, text) = match serve(&mut socket, &directory).await {
                        Ok(received) => ("201 Created", format!("{received} bytes")),
                        Err(Refused { status, text }) => (status, text),
                    };
                    tracing::info!(%peer, status, text, "answered");
                    if let Err(error) = answer(&mut socket, status, &text).await {
                        tracing::info!(%peer, %error, "the answer was not taken");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Why there is no new file.
struct Refused {
    status: &'static str,
    text: String,
}

fn refused<T>(status: &'static str, text: impl Into<String>) -> Result<T, Refused> {
    let text = text.into();
    Err(Refused { status, text })
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        let status = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "507 Insufficient Storage",
            io::ErrorKind::UnexpectedEof => "400 Bad Request",
            _ => "500 Internal Server Error",
        };
        let text = error.to_string();
        Self { status, text }
    }
}

/// Receives one file and tells its length.
async fn serve(socket: &mut TcpStream, directory: &Path) -> Result<u64, Refused> {
    let Ok(head) = timeout(HEAD_TIME, read_head(socket)).await else {
        return refused("408 Request Timeout", "no head");
    };
    let (head, early) = head?;
    let request = Request::parse(&head)?;
    let (path, len) = (directory.join(&request.name), request.len);
    if early.len() as u64 > len {
        return refused("400 Bad Request", "one request per connection");
    }
    if request.expects_continue && early.is_empty() {
        socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }

    let part = directory.join(format!("{}.part", request.name));
    let file = File::create(&part)?;
    // What came with the head has left the socket already.
    io::Write::write_all(&mut &file, &early)?;
    let range = early.len() as u64..len;
    match recv_file(&*socket, &file, range, TransferOptions::new()).await {
        Ok(_) => {
            fs::rename(part, path)?;
            Ok(len)
        }
        Err(failure) => {
            let kept = early.len() as u64 + failure.report().bytes_sent();
            let mut refused = Refused::from(io::Error::from(failure));
            refused.text = format!("{}; {kept} of {len} bytes are kept", refused.text);
            Err(refused)
        }
    }
}

/// Reads to the empty line; what follows it in the same read is the body's beginning.
async fn read_head(socket: &mut TcpStream) -> Result<(Vec<u8>, Vec<u8>), Refused> {
    let mut head = Vec::new();
    loop {
        if socket.read_buf(&mut head).await? == 0 {
            return refused("400 Bad Request", "the head ends early");
        }
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            let body = head.split_off(end + 4);
            return Ok((head, body));
        }
        if head.len() > HEAD_BYTES {
            return refused(
                "431 Request Header Fields Too Large",
                "the head is too long",
            );
        }
    }
}

struct Request {
    name: String,
    len: u64,
    expects_continue: bool,
}

impl Request {
    fn parse(head: &[u8]) -> Result<Self, Refused> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        if !request.parse(head).is_ok_and(|parsed| parsed.is_complete()) {
            return refused("400 Bad Request", "not a request of HTTP/1.1");
        }
        if request.method != Some("PUT") {
            return refused("405 Method Not Allowed", "PUT only");
        }
        let name = request.path.unwrap_or_default().trim_start_matches('/');
        // A name is a name: no directories, nothing hidden, nothing to decode.
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            return refused("404 Not Found", "names are letters, digits, - _ and .");
        }
        let all = |wanted: &str| -> Vec<&[u8]> {
            let named = request.headers.iter();
            let named = named.filter(|header| header.name.eq_ignore_ascii_case(wanted));
            named.map(|header| header.value).collect()
        };
        let lengths = all("content-length");
        let digits = |value: &&[u8]| value.iter().all(u8::is_ascii_digit);
        let len = match lengths[..] {
            [value] if digits(&value) => std::str::from_utf8(value).ok(),
            [] => return refused("411 Length Required", "no Content-Length"),
            _ => None,
        };
        let len = len.and_then(|len| len.parse::<u64>().ok());
        let Some(len) = len.filter(|_| all("transfer-encoding").is_empty()) else {
            return refused("400 Bad Request", "the length is not clear");
        };
        let expects = all("expect");
        Ok(Self {
            name: name.to_owned(),
            len,
            expects_continue: expects
                .iter()
                .any(|value| value.eq_ignore_ascii_case(b"100-continue")),
        })
    }
}

async fn answer(socket: &mut TcpStream, status: &str, text: &str) -> io::Result<()> {
    let len = text.len() + 1;
    let response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len}\r\n\
         Connection: close\r\n\r\n{text}\n"
    );
    socket.write_all(response.as_bytes()).await?;
    socket.shutdown().await?;
    // Closing with unread bytes would reset the connection before the answer is read.
    let mut rest = vec![0; 64 << 10];
    let drained = async { while socket.read(&mut rest).await.is_ok_and(|n| n > 0) {} };
    _ = timeout(Duration::from_secs(2), drained).await;
    Ok(())
}
