//! Fetches a path once and hashes it: the check that a contestant sends the file's bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::head::{self, HEAD_BYTES};
use super::{Load, Target, Until, h2c};
use crate::{Error, Result};

/// How long one read may wait before the server counts as stalled.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// Bytes per read; large enough that hashing, not reading, takes the time.
const READ_BYTES: usize = 256 << 10;

/// A body's length and SHA-256.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Digest {
    /// Bytes hashed.
    pub length: u64,
    /// Their SHA-256.
    pub sha256: [u8; 32],
}

/// Asks for `path` on a connection of its own, blocking, and hashes the body.
///
/// # Errors
///
/// [`crate::Kind::Disqualified`] if the head is not a plain 200 with a Content-Length, or if the
/// body ends early or has bytes beyond it; [`crate::Kind::System`] if the connection cannot be
/// opened or breaks, or a read waits for five seconds.
pub fn fetch_digest(address: SocketAddr, path: &str) -> Result<Digest> {
    let mut stream = TcpStream::connect_timeout(&address, READ_LIMIT)
        .map_err(|error| Error::system(format!("connecting to {address}"), error))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream
        .set_read_timeout(Some(READ_LIMIT))
        .and_then(|()| stream.write_all(request.as_bytes()))
        .map_err(|error| Error::system("sending a request", error))?;

    let mut buf = vec![0; READ_BYTES.max(HEAD_BYTES)];
    let mut filled = 0;
    let head = loop {
        let received = read(&mut stream, &mut buf[filled..HEAD_BYTES])?;
        if received == 0 {
            return Err(Error::disqualified(format!(
                "the server closed the connection after {filled} bytes of a head"
            )));
        }
        filled += received;
        if let Some(head) = head::parse(&buf[..filled])? {
            break head;
        }
    };
    let mut hasher = Sha256::new();
    hasher.update(&buf[head.bytes..filled]);
    let mut length = (filled - head.bytes) as u64;
    while length < head.content_length {
        let received = read(&mut stream, &mut buf)?;
        if received == 0 {
            break;
        }
        hasher.update(&buf[..received]);
        length += received as u64;
    }
    if length != head.content_length {
        return Err(Error::disqualified(format!(
            "{length} body bytes instead of the {} announced",
            head.content_length
        )));
    }
    Ok(Digest {
        length,
        sha256: hasher.finalize().into(),
    })
}

/// The same over cleartext HTTP/2, for a target whose length is known.
///
/// # Errors
///
/// As [`super::drain`].
pub fn fetch_digest_h2c(address: SocketAddr, target: &Target) -> Result<Digest> {
    let mut hasher = Sha256::new();
    let mut load = Load::new(address, &*target.path, target.length);
    load.until = Until::Answered(1);
    let outcome = h2c::drain(&load, &mut |bytes| hasher.update(bytes))?;
    Ok(Digest {
        length: outcome.bytes,
        sha256: hasher.finalize().into(),
    })
}

fn read(stream: &mut TcpStream, buf: &mut [u8]) -> Result<usize> {
    loop {
        match stream.read(buf) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result.map_err(|error| Error::system("receiving a body", error)),
        }
    }
}
