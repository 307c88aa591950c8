//! The crowd's sockets: blocking, every wait bounded.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use super::PATIENCE;

/// What a client reads at a time.
const READ_BYTES: usize = 256 << 10;

/// Header fields of a response.
const MAX_HEADERS: usize = 32;

/// Connections of one source address, far below the number of its ports.
const PER_SOURCE: usize = 4000;

/// A connection; the `index`th of a crowd has a source address that has ports for it.
pub(super) fn connect(address: SocketAddr, index: usize) -> io::Result<TcpStream> {
    connect_with(address, index, |_| Ok(()))
}

/// The same with a receive buffer as small as the kernel allows, so that what is held is held by
/// the server.
pub(super) fn connect_narrow(address: SocketAddr, index: usize) -> io::Result<TcpStream> {
    connect_with(address, index, |socket| socket.set_recv_buffer_size(1))
}

fn connect_with(
    address: SocketAddr,
    index: usize,
    prepare: impl Fn(&Socket) -> io::Result<()>,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    prepare(&socket)?;
    let host = u8::try_from(2 + index / PER_SOURCE).map_err(io::Error::other)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)).into())?;
    socket.connect_timeout(&address.into(), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A response's head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Of the body.
    pub(super) length: u64,
    /// Of the file, if this is a part of it.
    pub(super) total: Option<u64>,
}

/// A keep-alive connection that reads answers.
#[derive(Debug)]
pub(super) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Bytes in `buffer` that belong to a body whose head was read.
    rest: std::ops::Range<usize>,
}

impl Client {
    pub(super) fn connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            stream: connect(address, 0)?,
            buffer: vec![0; READ_BYTES],
            rest: 0..0,
        })
    }

    /// Sends a request and waits for the answer's head. `fields` are whole lines.
    pub(super) fn ask(&mut self, target: &str, fields: &str) -> io::Result<Answer> {
        let request = format!("GET {target} HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
        self.stream.write_all(request.as_bytes())?;
        let mut filled = 0;
        loop {
            let n = self.stream.read(&mut self.buffer[filled..])?;
            if n == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            filled += n;
            if let Some((end, answer)) = parse(&self.buffer[..filled])? {
                self.rest = end..filled;
                return Ok(answer);
            }
        }
    }

    /// Hands at most `length` bytes of the body to `take`, as they come.
    pub(super) fn body(&mut self, length: u64, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            if self.rest.is_empty() {
                self.rest = 0..self.stream.read(&mut self.buffer)?;
                if self.rest.is_empty() {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            }
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            let end = self.rest.end.min(self.rest.start.saturating_add(most));
            let part = &self.buffer[self.rest.start..end];
            left -= part.len() as u64;
            take(part);
            self.rest.start = end;
        }
        Ok(())
    }
}

fn parse(bytes: &[u8]) -> io::Result<Option<(usize, Answer)>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let status = response.parse(bytes).map_err(io::Error::other)?;
    let httparse::Status::Complete(end) = status else {
        return Ok(None);
    };
    let field = |name: &str| {
        let header = response.headers.iter();
        let mut header = header.filter(|header| header.name.eq_ignore_ascii_case(name));
        str::from_utf8(header.next()?.value).ok()
    };
    let length = field("content-length").and_then(|length| length.parse().ok());
    let answer = Answer {
        status: response.code.unwrap_or(0),
        length: length.ok_or_else(|| io::Error::other("no content-length"))?,
        total: field("content-range").and_then(|range| range.rsplit_once('/')?.1.parse().ok()),
    };
    Ok(Some((end, answer)))
}

/// Asks for the small file on a connection of its own.
pub(super) fn probe(address: SocketAddr) -> io::Result<()> {
    let mut client = Client::connect(address)?;
    small(&mut client)
}

/// Asks for everything once and more, so that what a server makes only once is there.
pub(super) fn warm_up(address: SocketAddr) -> io::Result<()> {
    for _ in 0..100 {
        probe(address)?;
        let mut client = Client::connect(address)?;
        let answer = client.ask("/large", "range: bytes=0-99999\r\n")?;
        client.body(answer.length, |_| {})?;
    }
    Ok(())
}

/// Asks for the small file.
fn small(client: &mut Client) -> io::Result<()> {
    let answer = client.ask("/small", "")?;
    if answer.status != 200 || answer.length != super::SMALL_BYTES {
        return Err(io::Error::other(format!("answered {answer:?}")));
    }
    client.body(answer.length, |_| {})
}
