//! The page-identity test: is what lies in the socket the file itself, or a copy?
//!
//! The answer is left unread in the client's receive buffer until it is there as a whole; then the
//! file is overwritten in place; then the answer is read. If it holds the *new* bytes, the socket
//! held the file's own pages, and nobody has copied them on the way. If it holds the old ones,
//! somebody has: the server, or the kernel for it.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use rustix::io::ioctl_fionread;
use serde::Serialize;
use socket2::{Domain, Socket, Type};

use super::PATIENCE;
use crate::files::TestFile;
use crate::{Error, Result};

/// Above what servers copy along with the head, below what a receive buffer holds.
pub(super) const FILE_BYTES: u64 = 96 << 10;

/// The receive buffer asked for; the kernel doubles it. `net.core.rmem_max` is 208 KiB by default.
const RECEIVE_BYTES: usize = 200 << 10;

/// What becomes of the bytes left behind at the file's ends: parts of pages are copied by some.
const OVERWRITTEN: u8 = 0;

/// Whose pages the socket holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Pages {
    /// Copies, all of them.
    Copied,
    /// Some the file's own, some copies.
    Mixed,
    /// The file's own, all of them.
    Reference,
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Copied => "no",
            Self::Mixed => "in part",
            Self::Reference => "yes",
        })
    }
}

/// Asks for `target`, overwrites the file at `path` once its bytes have arrived, and looks at them.
pub(super) fn look(address: SocketAddr, target: &TestFile, path: &Path) -> Result<Pages> {
    let failed = |what: &str, error| Error::system(format!("page-identity test: {what}"), error);
    let mut stream = connect(address).map_err(|error| failed("connecting", error))?;
    let request = format!("GET /{} HTTP/1.1\r\nHost: {address}\r\n\r\n", target.name);
    stream
        .write_all(request.as_bytes())
        .map_err(|error| failed("asking", error))?;

    let begun = Instant::now();
    loop {
        let arrived = ioctl_fionread(&stream).map_err(|errno| failed("waiting", errno.into()))?;
        // The head comes before it.
        if arrived > target.digest.length {
            break;
        }
        if begun.elapsed() > PATIENCE {
            return Err(Error::unavailable(format!(
                "page-identity test: only {arrived} bytes arrive unread"
            )));
        }
        std::thread::yield_now();
    }
    // The head may be longer than what has been counted beyond the body so far.
    let mut last = 0;
    while last != ioctl_fionread(&stream).map_err(|errno| failed("waiting", errno.into()))? {
        last = ioctl_fionread(&stream).map_err(|errno| failed("waiting", errno.into()))?;
        std::thread::sleep(std::time::Duration::from_millis(20));
    }

    let length = usize::try_from(target.digest.length).unwrap_or(usize::MAX);
    File::options()
        .write(true)
        .open(path)
        .and_then(|file| file.write_all_at(&vec![OVERWRITTEN; length], 0))
        .map_err(|error| failed("overwriting", error))?;

    let mut answer = vec![0; usize::try_from(last).unwrap_or(usize::MAX)];
    stream
        .read_exact(&mut answer)
        .map_err(|error| failed("reading", error))?;
    let body = answer.windows(4).position(|end| end == b"\r\n\r\n");
    let body = body.map_or(&[][..], |at| &answer[at + 4..]);
    if body.len() != length {
        return Err(Error::disqualified(format!(
            "page-identity test: {} bytes instead of {length}",
            body.len()
        )));
    }
    // No byte of a test file is zero.
    let new = body.iter().filter(|byte| **byte == OVERWRITTEN).count();
    Ok(match new {
        0 => Pages::Copied,
        new if new == length => Pages::Reference,
        _ => Pages::Mixed,
    })
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Before connecting: the window's scale is agreed upon then.
    socket.set_recv_buffer_size(RECEIVE_BYTES)?;
    socket.connect(&address.into())?;
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::files::TestFiles;

    /// Serves one answer: the file at `path` by sendfile, or by copying.
    fn serve(path: std::path::PathBuf, by_reference: bool) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).unwrap() > 0);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {FILE_BYTES}\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            if by_reference {
                let file = File::open(path).unwrap();
                let mut offset = 0;
                while offset < FILE_BYTES {
                    let rest = usize::try_from(FILE_BYTES - offset).unwrap();
                    rustix::fs::sendfile(&stream, &file, Some(&mut offset), rest).unwrap();
                }
            } else {
                stream.write_all(&std::fs::read(path).unwrap()).unwrap();
            }
            // Until the client has gone.
            let _ = stream.read(&mut request);
        });
        address
    }

    #[test]
    fn sendfile_shows_as_the_files_own_pages_and_copying_does_not() {
        let files = TestFiles::new().unwrap();
        for (by_reference, expected) in [(true, Pages::Reference), (false, Pages::Copied)] {
            let target = files.create(FILE_BYTES).unwrap();
            let path = files.directory().join(&target.name);
            let address = serve(path.clone(), by_reference);
            assert_eq!(look(address, &target, &path).unwrap(), expected);
        }
    }
}
