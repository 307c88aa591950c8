//! The limit: the least work that still is an HTTP/1.1 server of a few files.
//!
//! One thread, edge-triggered epoll, files opened once, heads made once. It reads a request only to
//! find its path and its end. What a real server needs more than this is the price of being one; no
//! server that sends the same way can be much faster.

mod body;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use clap::ValueEnum;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{set_tcp_cork, set_tcp_nodelay};
use rustix::net::{RecvFlags, SocketFlags};

use crate::request::{self, REQUEST_BYTES};
use body::{Sending, Served};

const EVENTS: usize = 256;

/// How the body leaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Method {
    /// `pread` into a buffer, then `send`.
    Copy,
    /// From memory, in one call with the head.
    Memory,
    /// `send` from a mapping of the file.
    Mmap,
    /// The head with `MSG_MORE`, then `sendfile`.
    Sendfile,
    /// `TCP_CORK` on, head, `sendfile`, `TCP_CORK` off.
    SendfileCork,
    /// The head with `MSG_MORE`, then `splice` through a pipe.
    Splice,
}

/// Serves the files of `directory` that are there now on `listen` until the process ends;
/// `announce` is told the address first.
///
/// # Errors
///
/// If a file cannot be opened or the address cannot be had.
pub fn serve(
    listen: SocketAddr,
    directory: &Path,
    method: Method,
    announce: impl FnOnce(SocketAddr),
) -> io::Result<()> {
    let responder = Responder::new(directory, method)?;
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
                accept(&listener, &poll, &mut connections)?;
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
    names: BTreeMap<Vec<u8>, usize>,
    files: Vec<Served>,
    method: Method,
}

impl Responder {
    fn new(directory: &Path, method: Method) -> io::Result<Self> {
        let (mut names, mut files) = (BTreeMap::new(), Vec::new());
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            if entry.metadata()?.is_file() {
                names.insert(entry.file_name().into_encoded_bytes(), files.len());
                files.push(Served::open(&entry.path(), method)?);
            }
        }
        Ok(Self {
            names,
            files,
            method,
        })
    }
}

struct Connection {
    socket: OwnedFd,
    request: Box<[u8; REQUEST_BYTES]>,
    filled: usize,
    sending: Option<Sending>,
}

fn accept(
    listener: &TcpListener,
    poll: &OwnedFd,
    connections: &mut Vec<Option<Connection>>,
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
        });
    }
}

impl Connection {
    /// Goes on until the socket says EAGAIN, as edge-triggered readiness asks for.
    fn advance(&mut self, responder: &Responder) -> rustix::io::Result<()> {
        loop {
            let step = match &mut self.sending {
                None => self.receive(responder),
                Some(sending) => match sending.step(&self.socket, responder) {
                    Ok(true) => {
                        if responder.method == Method::SendfileCork {
                            set_tcp_cork(&self.socket, false)?;
                        }
                        self.sending = None;
                        Ok(())
                    }
                    result => result.map(drop),
                },
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
        let (name, end) = loop {
            if let Some(found) = request::find(&self.request[..self.filled]) {
                break found;
            }
            let free = &mut self.request[self.filled..];
            match rustix::net::recv(&self.socket, free, RecvFlags::empty())? {
                (_, 0) => return Err(Errno::CONNRESET),
                (_, received) => self.filled += received,
            }
        };
        // What is no file's name is closed without a word.
        let index = responder.names.get(name);
        let sending = Sending::new(*index.ok_or(Errno::NOENT)?, responder)?;
        self.request.copy_within(end..self.filled, 0);
        self.filled -= end;
        if responder.method == Method::SendfileCork {
            set_tcp_cork(&self.socket, true)?;
        }
        self.sending = Some(sending);
        Ok(())
    }
}

fn key(descriptor: &impl AsFd) -> u64 {
    // A borrowed descriptor is never negative.
    u64::try_from(descriptor.as_fd().as_raw_fd()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
