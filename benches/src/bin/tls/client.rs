//! A client that counts records.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};

const REQUEST: &[u8] = b"GET /file HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Type, version, length (RFC 8446 §5.1).
const HEADER_BYTES: usize = 5;

/// What a record of TLS 1.3 holds beside its content: the inner type and the tag of AES-GCM or
/// ChaCha20-Poly1305 (§5.2). rustls does not pad.
const OVERHEAD_BYTES: u64 = 17;

/// One connection.
pub(super) struct Client {
    tls: ClientConnection,
    socket: TcpStream,
    /// Of a response, head and body.
    response: u64,
    buffer: Vec<u8>,
    /// Of a record that is only partly there.
    kept: usize,
}

impl Client {
    /// Shakes hands, and takes the first response of a file of `length` bytes.
    pub(super) fn connect(addr: SocketAddr, trusted: &[u8], length: u64) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from(trusted.to_vec()))
            .map_err(io::Error::other)?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let mut tls = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let mut socket = TcpStream::connect(addr)?;
        socket.set_nodelay(true)?;
        let response = first_response(&mut Stream::new(&mut tls, &mut socket), length)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            tls,
            socket,
            response,
            buffer: vec![0; 512 << 10],
            kept: 0,
        })
    }

    /// Asks again and again for about `turn`: bytes of bodies and heads, and the time it took.
    pub(super) fn run(&mut self, turn: Duration) -> io::Result<(u64, Duration)> {
        let start = Instant::now();
        let mut bytes = 0;
        while start.elapsed() < turn {
            self.tls.writer().write_all(REQUEST)?;
            while self.tls.wants_write() {
                match self.tls.write_tls(&mut self.socket) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    written => _ = written?,
                }
            }
            self.take_response()?;
            bytes += self.response;
        }
        Ok((bytes, start.elapsed()))
    }

    fn take_response(&mut self) -> io::Result<()> {
        let mut content = 0;
        // Of the present record, what is still to come.
        let mut skip = 0;
        while content < self.response || skip > 0 {
            let read = match self.socket.read(&mut self.buffer[self.kept..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::hint::spin_loop();
                    continue;
                }
                Err(error) => return Err(error),
            };
            let end = self.kept + read;
            let mut at = 0;
            loop {
                let skipped = skip.min(end - at);
                at += skipped;
                skip -= skipped;
                let Some(header) = self.buffer[at..end].first_chunk::<HEADER_BYTES>() else {
                    break;
                };
                let len = u16::from_be_bytes([header[3], header[4]]);
                content += u64::from(len).saturating_sub(OVERHEAD_BYTES);
                skip = usize::from(len);
                at += HEADER_BYTES;
            }
            self.buffer.copy_within(at..end, 0);
            self.kept = end - at;
        }
        match content == self.response {
            true => Ok(()),
            false => Err(io::Error::other(format!(
                "a response of {content} bytes instead of {}",
                self.response
            ))),
        }
    }
}

/// The length of the response, head and body.
fn first_response(stream: &mut impl ReadWrite, length: u64) -> io::Result<u64> {
    stream.write_all(REQUEST)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    if !head.starts_with(b"HTTP/1.1 200") {
        return Err(io::Error::other(
            String::from_utf8_lossy(&head).into_owned(),
        ));
    }
    let body = io::copy(&mut stream.take(length), &mut io::sink())?;
    match body == length {
        true => Ok(head.len() as u64 + length),
        false => Err(ErrorKind::UnexpectedEof.into()),
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}
