//! The limit: the least work that still is an HTTP/1.1 server of one file.
//!
//! One thread, edge-triggered epoll, one file opened once, one head made once. It reads a request
//! only to find its end, and answers all of them alike. What a real server needs more than this is
//! the price of being one; no server that sends the same way can be much faster.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use clap::ValueEnum;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{set_tcp_cork, set_tcp_nodelay};
use rustix::net::{RecvFlags, SendFlags, SocketFlags};

/// Bytes per `sendfile`: past this, larger calls were not faster in any measurement.
const SENDFILE_BYTES: u64 = 1 << 20;

/// Bytes per `pread` and `send` of the copying method: the fastest of 64 KiB to 1 MiB on one stream.
const COPY_BYTES: usize = 256 << 10;

/// The longest request that is understood, pipelined ones included.
const REQUEST_BYTES: usize = 4096;

const EVENTS: usize = 256;

/// How the body leaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Method {
    /// `pread` into a buffer, then `send`.
    Copy,
    /// The head with `MSG_MORE`, then `sendfile`.
    Sendfile,
    /// `TCP_CORK` on, head, `sendfile`, `TCP_CORK` off.
    SendfileCork,
}

/// Serves `path` on `listen` until the process ends; `announce` is told the address first.
///
/// # Errors
///
/// If the file cannot be opened or the address cannot be had.
pub fn serve(
    listen: SocketAddr,
    path: &Path,
    method: Method,
    announce: impl FnOnce(SocketAddr),
) -> io::Result<()> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let responder = Responder {
        head: format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n\
             Content-Length: {length}\r\n\r\n"
        )
        .into_bytes(),
        file,
        length,
        method,
    };
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    announce(listener.local_addr()?);

    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let listener_key = key(&listener);
    epoll::add(
        &poll,
        &listener,
        EventData::new_u64(listener_key),
        EventFlags::IN,
    )?;
    // Indexed by descriptor number.
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        match epoll::wait(&poll, spare_capacity(&mut events), None) {
            Err(Errno::INTR) => continue,
            result => result?,
        };
        for event in events.drain(..) {
            let ready = event.data.u64();
            if ready == listener_key {
                accept(&listener, &poll, &mut connections, method)?;
                continue;
            }
            let slot = usize::try_from(ready)
                .ok()
                .and_then(|index| connections.get_mut(index));
            if let Some(slot @ Some(_)) = slot
                && let Some(connection) = slot
                && connection.advance(&responder).is_err()
            {
                // The peer is gone, or is not one we understand; dropping closes.
                *slot = None;
            }
        }
    }
}

struct Responder {
    head: Vec<u8>,
    file: File,
    length: u64,
    method: Method,
}

struct Connection {
    socket: OwnedFd,
    request: Box<[u8; REQUEST_BYTES]>,
    filled: usize,
    sending: Option<Sending>,
    /// What the copying method has read; kept while the socket is full, so that no byte is read
    /// twice.
    buf: Vec<u8>,
}

#[derive(Default)]
struct Sending {
    head_sent: usize,
    /// Body bytes accepted by the socket.
    offset: u64,
    /// How many bytes of `buf` are read, and how many of these are sent.
    read: usize,
    read_sent: usize,
}

fn accept(
    listener: &TcpListener,
    poll: &OwnedFd,
    connections: &mut Vec<Option<Connection>>,
    method: Method,
) -> io::Result<()> {
    loop {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = match rustix::net::accept_with(listener, flags) {
            Ok(socket) => socket,
            Err(Errno::AGAIN) => return Ok(()),
            Err(Errno::INTR | Errno::CONNABORTED) => continue,
            Err(errno) => return Err(errno.into()),
        };
        set_tcp_nodelay(&socket, true)?;
        let key = key(&socket);
        // A request that is there already is reported as an edge too.
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(poll, &socket, EventData::new_u64(key), interest)?;
        let index = usize::try_from(key).unwrap_or(usize::MAX);
        if connections.len() <= index {
            connections.resize_with(index + 1, || None);
        }
        connections[index] = Some(Connection {
            socket,
            request: Box::new([0; REQUEST_BYTES]),
            filled: 0,
            sending: None,
            buf: match method {
                Method::Copy => vec![0; COPY_BYTES],
                Method::Sendfile | Method::SendfileCork => Vec::new(),
            },
        });
    }
}

impl Connection {
    /// Goes on until the socket says EAGAIN, as edge-triggered readiness asks for.
    fn advance(&mut self, responder: &Responder) -> rustix::io::Result<()> {
        loop {
            let step = if self.sending.is_some() {
                self.send(responder)
            } else {
                self.receive(responder)
            };
            match step {
                Ok(()) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Reads until there is a whole request, then turns to sending.
    fn receive(&mut self, responder: &Responder) -> rustix::io::Result<()> {
        // A pipelined request may be here already.
        while !self.take_request() {
            let free = &mut self.request[self.filled..];
            match rustix::net::recv(&self.socket, free, RecvFlags::empty())? {
                (_, 0) => return Err(Errno::CONNRESET),
                (_, received) => self.filled += received,
            }
        }
        if responder.method == Method::SendfileCork {
            set_tcp_cork(&self.socket, true)?;
        }
        self.sending = Some(Sending::default());
        Ok(())
    }

    /// Removes the first whole request from the buffer.
    fn take_request(&mut self) -> bool {
        let received = &self.request[..self.filled];
        let Some(at) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            return false;
        };
        self.request.copy_within(at + 4..self.filled, 0);
        self.filled -= at + 4;
        true
    }

    /// Sends what is left of the head, then one piece of the body.
    fn send(&mut self, responder: &Responder) -> rustix::io::Result<()> {
        let Some(sending) = &mut self.sending else {
            return Ok(());
        };
        while sending.head_sent < responder.head.len() {
            // MSG_MORE only if a body follows: nothing else would push the head out.
            let flags = if responder.length > 0 {
                SendFlags::MORE
            } else {
                SendFlags::empty()
            };
            let rest = &responder.head[sending.head_sent..];
            sending.head_sent += rustix::net::send(&self.socket, rest, flags)?;
        }
        // Never beyond what the file still holds: the kernel would keep MSG_MORE on, and the tail
        // would wait for 200 ms (golang#41513).
        let remaining = responder.length - sending.offset;
        if remaining > 0 {
            let sent = match responder.method {
                Method::Copy => copy(&self.socket, &responder.file, sending, &mut self.buf)?,
                Method::Sendfile | Method::SendfileCork => {
                    let count =
                        usize::try_from(remaining.min(SENDFILE_BYTES)).unwrap_or(usize::MAX);
                    let mut offset = sending.offset;
                    rustix::fs::sendfile(&self.socket, &responder.file, Some(&mut offset), count)?
                }
            };
            if sent == 0 {
                // The file was truncated; the promised length cannot be kept.
                return Err(Errno::IO);
            }
            sending.offset += sent as u64;
        }
        if sending.offset == responder.length {
            self.sending = None;
            if responder.method == Method::SendfileCork {
                set_tcp_cork(&self.socket, false)?;
            }
        }
        Ok(())
    }
}

/// Sends what is left of the piece that was read, or of the next one. Returns bytes sent.
fn copy(
    socket: &OwnedFd,
    file: &File,
    sending: &mut Sending,
    buf: &mut [u8],
) -> rustix::io::Result<usize> {
    if sending.read_sent == sending.read {
        sending.read = rustix::io::pread(file, &mut *buf, sending.offset)?;
        sending.read_sent = 0;
    }
    let unsent = &buf[sending.read_sent..sending.read];
    if unsent.is_empty() {
        return Ok(0);
    }
    let sent = rustix::net::send(socket, unsent, SendFlags::empty())?;
    sending.read_sent += sent;
    Ok(sent)
}

fn key(descriptor: &impl AsFd) -> u64 {
    // A borrowed descriptor is never negative.
    u64::try_from(descriptor.as_fd().as_raw_fd()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lendfile_bench::client;
    use lendfile_bench::files::TestFiles;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    fn serving(length: u64, method: Method) -> (SocketAddr, lendfile_bench::files::TestFile) {
        let files = TestFiles::new().unwrap();
        let file = files.create(length).unwrap();
        let path = files.directory().join(&file.name);
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            serve(any, &path, method, |address| sender.send(address).unwrap())
        });
        // The file is open by then, so its directory may go.
        (receiver.recv().unwrap(), file)
    }

    #[test]
    fn every_method_sends_the_files_bytes() {
        for method in [Method::Copy, Method::Sendfile, Method::SendfileCork] {
            for length in [0, 1, 4097, (3 << 20) + 1] {
                let (address, file) = serving(length, method);
                let digest = client::fetch_digest(address, "/file").unwrap();
                assert_eq!(digest, file.digest, "{method:?}, {length}");
            }
        }
    }

    #[test]
    fn pipelined_requests_are_answered_one_after_the_other() {
        let (address, file) = serving(5, Method::Sendfile);
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(3);
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answers = Vec::new();
        // The server may close with a reset once it sees the end.
        let _ = stream.read_to_end(&mut answers);
        let heads = answers
            .windows(9)
            .filter(|bytes| bytes == b"HTTP/1.1 ")
            .count();
        assert_eq!((heads, file.digest.length), (3, 5));
    }
}
