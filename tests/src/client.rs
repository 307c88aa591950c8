//! A blocking HTTP/1.1 client that sends what it is told, byte by byte, and hashes what comes; and
//! an HTTP/2 one with several streams at once.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sha2::{Digest, Sha256};

use crate::PATIENCE;
use crate::content::hex;
use crate::server::Address;

/// Bodies up to this length are kept.
const KEPT_BYTES: usize = 4 << 20;

trait Socket: Read + Write + Send {}
impl<T: Read + Write + Send> Socket for T {}

/// One connection. Every read ends within [`PATIENCE`].
pub struct Client {
    socket: BufReader<Box<dyn Socket>>,
}

/// A response, taken apart.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Bytes of the body, after taking the chunks' framing off.
    pub len: u64,
    /// SHA-256 of the body.
    pub sha256: String,
    /// The body, if it is not longer than 4 MiB; else its beginning.
    pub body: Vec<u8>,
}

impl Client {
    /// Connects.
    ///
    /// # Panics
    ///
    /// If nobody listens.
    pub fn connect(address: &Address) -> Self {
        let socket: Box<dyn Socket> = match address {
            Address::Tcp(addr) => {
                let socket = TcpStream::connect(addr).expect("connect");
                socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                socket.set_write_timeout(Some(PATIENCE)).expect("a timeout");
                Box::new(socket)
            }
            Address::Unix(path) => {
                let socket = UnixStream::connect(path).expect("connect");
                socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                socket.set_write_timeout(Some(PATIENCE)).expect("a timeout");
                Box::new(socket)
            }
        };
        Self::over(socket)
    }

    /// Speaks over anything that reads and writes.
    pub fn over(socket: impl Read + Write + Send + 'static) -> Self {
        let socket: Box<dyn Socket> = Box::new(socket);
        Self {
            socket: BufReader::with_capacity(256 << 10, socket),
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    ///
    /// If the server has closed.
    pub fn send(&mut self, raw: impl AsRef<[u8]>) {
        self.socket.get_mut().write_all(raw.as_ref()).expect("send");
    }

    /// Sends a GET with extra header lines, each ended by CRLF, and takes the response.
    ///
    /// # Panics
    ///
    /// If no whole response comes.
    pub fn get(&mut self, path: &str, headers: &str) -> Response {
        self.request("GET", path, headers)
    }

    /// Sends a request without a body and takes the response.
    ///
    /// # Panics
    ///
    /// If no whole response comes.
    pub fn request(&mut self, method: &str, path: &str, headers: &str) -> Response {
        self.send(format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\n{headers}\r\n"
        ));
        self.response(method).expect("a response")
    }

    /// Takes the response to a request of `method` off the connection.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` if the connection ended before the response did.
    ///
    /// # Panics
    ///
    /// If it is not a response: the connection has lost its place.
    pub fn response(&mut self, method: &str) -> io::Result<Response> {
        let (status, headers) = self.head()?;
        let mut sink = Sink::default();
        if method == "HEAD" || status == 304 || status == 204 {
        } else if headers
            .get("transfer-encoding")
            .is_some_and(|v| v == "chunked")
        {
            loop {
                let line = self.line()?;
                let len = u64::from_str_radix(&line, 16).map_err(io::Error::other)?;
                self.take(len, &mut sink)?;
                let end = self.line()?;
                assert_eq!(end, "", "a chunk does not end where it said");
                if len == 0 {
                    break;
                }
            }
        } else if let Some(len) = headers.get("content-length") {
            let len = len.parse().map_err(io::Error::other)?;
            self.take(len, &mut sink)?;
        } else {
            self.take(u64::MAX, &mut sink)?;
        }
        Ok(Response {
            status,
            headers,
            len: sink.len,
            sha256: hex(sink.hash),
            body: sink.kept,
        })
    }

    /// Takes a response's head off the connection.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` if the connection ended before.
    ///
    /// # Panics
    ///
    /// If it is not a head: the connection has lost its place.
    pub fn head(&mut self) -> io::Result<(u16, BTreeMap<String, String>)> {
        let status = self.line()?;
        let code = status
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .unwrap_or_else(|| panic!("not a status line: {status:?}"));
        let mut headers = BTreeMap::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok((code, headers));
            }
            let (name, value) = line.split_once(": ").expect("a header line");
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
    }

    /// Reads `len` bytes of a body.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` if the connection ended before.
    pub fn read_exact(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.socket.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Everything until the server closes.
    ///
    /// # Errors
    ///
    /// Those of reading, such as a reset.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.socket.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.socket.read_line(&mut line)?;
        line.strip_suffix("\r\n")
            .map(str::to_owned)
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn take(&mut self, len: u64, sink: &mut Sink) -> io::Result<()> {
        let got = io::copy(&mut (&mut self.socket).take(len), sink)?;
        if got < len && len != u64::MAX {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

#[derive(Default)]
struct Sink {
    len: u64,
    hash: Sha256,
    kept: Vec<u8>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.len += bytes.len() as u64;
        self.hash.update(bytes);
        let room = KEPT_BYTES - self.kept.len();
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gets all `paths` at once over one cleartext HTTP/2 connection; length and SHA-256 of each.
///
/// # Panics
///
/// If a response is not 200 or does not come.
pub fn get_by_h2(address: &Address, paths: &[&str]) -> Vec<(u64, String)> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(async {
            let all = async {
                match address {
                    Address::Tcp(addr) => {
                        let socket = tokio::net::TcpStream::connect(addr).await;
                        streams(socket.expect("connect"), paths).await
                    }
                    Address::Unix(path) => {
                        let socket = tokio::net::UnixStream::connect(path).await;
                        streams(socket.expect("connect"), paths).await
                    }
                }
            };
            tokio::time::timeout(PATIENCE * 4, all)
                .await
                .expect("in time")
        })
}

async fn streams(
    socket: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    paths: &[&str],
) -> Vec<(u64, String)> {
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
            .await
            .expect("handshake");
    let driver = tokio::spawn(connection);
    let fetches = paths.iter().map(|path| {
        let mut sender = sender.clone();
        async move {
            let request = Request::get(format!("http://test{path}"))
                .body(Empty::<Bytes>::new())
                .expect("a request");
            let response = sender.send_request(request).await.expect("a response");
            assert_eq!(response.status(), 200, "{path}");
            let mut body = response.into_body();
            let (mut len, mut hash) = (0, Sha256::new());
            while let Some(frame) = body.frame().await {
                if let Ok(data) = frame.expect("a frame").into_data() {
                    len += data.len() as u64;
                    hash.update(&data);
                }
            }
            (len, hex(hash))
        }
    });
    let results = futures_util::future::join_all(fetches).await;
    driver.abort();
    results
}
