//! One keep-alive connection of the drain client: asks, reads a head, discards a body.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::Drain;
use super::head::{self, HEAD_BYTES};
use crate::{Error, Result};

/// How long opening a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

pub(super) struct Connection {
    stream: TcpStream,
    /// What the current answer's Content-Length must be.
    length: u64,
    asked: Instant,
    awaited: Awaited,
    head: Box<[u8; HEAD_BYTES]>,
}

enum Awaited {
    Head {
        filled: usize,
    },
    Body {
        remaining: u64,
    },
    /// The answer is complete and nothing has been asked since.
    Nothing,
}

/// What one non-blocking receive brought.
pub(super) enum Turn {
    Complete { body_bytes: u64, took: Duration },
    Nothing,
    Received { body_bytes: u64 },
}

impl Connection {
    pub(super) fn open(address: SocketAddr) -> Result<Self> {
        Ok(Self {
            stream: connect(address)?,
            length: 0,
            asked: Instant::now(),
            awaited: Awaited::Nothing,
            head: Box::new([0; HEAD_BYTES]),
        })
    }

    /// Sends the request for a body of `length` bytes. Nothing else is on its way out, so it fits
    /// into the socket's buffer whole.
    pub(super) fn ask(&mut self, request: &[u8], length: u64) -> Result<()> {
        self.length = length;
        self.asked = Instant::now();
        self.awaited = Awaited::Head { filled: 0 };
        self.stream
            .write_all(request)
            .map_err(|error| Error::system("sending a request", error))
    }

    /// One `recv`, never beyond the current answer's end.
    pub(super) fn turn(&mut self, drain: Drain, buf: &mut [u8]) -> Result<Turn> {
        let (remaining, body_bytes) = match self.awaited {
            Awaited::Nothing => return Ok(Turn::Nothing),
            Awaited::Head { filled } => {
                let received = self.receive_head(filled)?;
                if received == 0 {
                    return Ok(Turn::Nothing);
                }
                let filled = filled + received;
                match head::parse(&self.head[..filled])? {
                    None => {
                        self.awaited = Awaited::Head { filled };
                        return Ok(Turn::Received { body_bytes: 0 });
                    }
                    Some(head) => self.begin_body(&head, filled)?,
                }
            }
            Awaited::Body { remaining } => {
                let received = self.receive_body(remaining, drain, buf)?;
                if received == 0 {
                    return Ok(Turn::Nothing);
                }
                (remaining - received, received)
            }
        };
        if remaining > 0 {
            self.awaited = Awaited::Body { remaining };
            return Ok(Turn::Received { body_bytes });
        }
        self.awaited = Awaited::Nothing;
        Ok(Turn::Complete {
            body_bytes,
            took: self.asked.elapsed(),
        })
    }

    /// Checks a complete head; returns how much of the body is still to come and how much came
    /// along with the head.
    fn begin_body(&self, head: &head::Head, filled: usize) -> Result<(u64, u64)> {
        if head.content_length != self.length {
            return Err(Error::disqualified(format!(
                "Content-Length {} instead of {}",
                head.content_length, self.length
            )));
        }
        let came_along = (filled - head.bytes) as u64;
        match self.length.checked_sub(came_along) {
            Some(remaining) => Ok((remaining, came_along)),
            None => Err(Error::disqualified(format!(
                "{} bytes beyond the answer's length",
                came_along - self.length
            ))),
        }
    }

    fn receive_head(&mut self, filled: usize) -> Result<usize> {
        let result = recv(&self.stream, &mut self.head[filled..], RecvFlags::DONTWAIT);
        count(result, || format!("after {filled} bytes of a head"))
    }

    /// `MSG_TRUNC` on TCP frees the received pages without copying them; only the buffer's length
    /// matters (tcp(7)).
    fn receive_body(&self, remaining: u64, drain: Drain, buf: &mut [u8]) -> Result<u64> {
        let most = usize::try_from(remaining).map_or(buf.len(), |all| all.min(buf.len()));
        let flags = match drain {
            Drain::Copy => RecvFlags::DONTWAIT,
            Drain::Discard => RecvFlags::DONTWAIT | RecvFlags::TRUNC,
        };
        let result = recv(&self.stream, &mut buf[..most], flags);
        count(result, || {
            format!("with {remaining} of {} body bytes to come", self.length)
        })
        .map(|received| received as u64)
    }
}

/// A non-blocking connection without Nagle's delay.
pub(super) fn connect(address: SocketAddr) -> Result<TcpStream> {
    TcpStream::connect_timeout(&address, CONNECT_LIMIT)
        .and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        })
        .map_err(|error| Error::system(format!("connecting to {address}"), error))
}

/// Bytes received; 0 for "not yet". An orderly end is an error here, since every answer is awaited.
fn count(
    result: rustix::io::Result<(usize, usize)>,
    position: impl FnOnce() -> String,
) -> Result<usize> {
    match result {
        Ok((_, 0)) => Err(Error::disqualified(format!(
            "the server closed the connection {}",
            position()
        ))),
        Ok((_, received)) => Ok(received),
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        Err(errno) => Err(Error::system(format!("receiving {}", position()), errno)),
    }
}
