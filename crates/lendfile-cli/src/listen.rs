//! Listening sockets: addresses, names, Unix sockets, and those that systemd hands over.

use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use socket2::{Domain, Protocol, Socket, Type};

use crate::args::values::Listen;
use crate::failure::Failure;

/// Connections that wait to be accepted, per socket; the kernel cuts it to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// A place where clients are awaited.
#[derive(Debug)]
pub(crate) enum Place {
    /// A TCP address, and for each thread a socket.
    Tcp(SocketAddr, Vec<TcpListener>),
    /// A Unix socket that all threads share.
    Unix(UnixPlace),
}

/// A Unix socket, with the path to be removed in the end if we have made it.
#[derive(Debug)]
pub(crate) struct UnixPlace {
    pub(crate) listener: UnixListener,
    name: String,
    made: Option<PathBuf>,
}

impl Place {
    /// The directory of a socket that is to be removed in the end.
    pub(crate) fn directory(&self) -> Option<PathBuf> {
        let Self::Unix(UnixPlace { made, .. }) = self else {
            return None;
        };
        let parent = made.as_ref()?.parent()?;
        // Of a name alone it is the working directory.
        Some(match parent.as_os_str().is_empty() {
            true => PathBuf::from("."),
            false => parent.to_owned(),
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr, _) => write!(f, "http://{addr}"),
            Self::Unix(unix) => write!(f, "unix:{}", unix.name),
        }
    }
}

impl Drop for UnixPlace {
    fn drop(&mut self) {
        if let Some(path) = &self.made {
            // Another process may have taken or removed it since.
            _ = fs::remove_file(path);
        }
    }
}

/// The sockets that systemd has opened for this process (`LISTEN_FDS`, sd_listen_fds(3)).
pub(crate) fn inherited(threads: usize) -> Result<Vec<Place>, Failure> {
    let mut fds = listenfd::ListenFd::from_env();
    let mut places = Vec::new();
    for i in 0..fds.len() {
        let refused = |error: &io::Error| {
            Failure::new(format_args!(
                "cannot serve socket {i} of LISTEN_FDS: {error}; give it stream sockets that listen"
            ))
        };
        let place = match fds.take_tcp_listener(i) {
            Ok(Some(listener)) => shared(listener, threads),
            Ok(None) => continue,
            Err(_) => match fds.take_unix_listener(i) {
                Ok(Some(listener)) => unix_inherited(listener),
                Ok(None) => continue,
                Err(error) => Err(error),
            },
        };
        places.push(place.map_err(|error| refused(&error))?);
    }
    Ok(places)
}

/// One socket for all threads: there is no other of this address to be had.
fn shared(listener: TcpListener, threads: usize) -> io::Result<Place> {
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr()?;
    let mut listeners = vec![listener];
    for _ in 1..threads {
        listeners.push(listeners[0].try_clone()?);
    }
    Ok(Place::Tcp(addr, listeners))
}

fn unix_inherited(listener: UnixListener) -> io::Result<Place> {
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr()?;
    let name = addr
        .as_pathname()
        .map_or("(inherited)".into(), |path| path.display().to_string());
    Ok(Place::Unix(UnixPlace {
        listener,
        name,
        made: None,
    }))
}

/// Opens the sockets of one `--listen`.
pub(crate) fn open(listen: &Listen, mode: u32, threads: usize) -> Result<Vec<Place>, Failure> {
    let opened = match listen {
        Listen::Address(addr) => tcp(*addr, threads).map(|place| vec![place]),
        Listen::Name(name, port) => named(name, *port, threads),
        Listen::Unix(path) => unix(path, mode).map(|place| vec![place]),
    };
    opened.map_err(|error| Failure::listen(listen, &error))
}

/// All addresses of a name that this machine has.
fn named(name: &str, port: u16, threads: usize) -> io::Result<Vec<Place>> {
    let mut places: Vec<Place> = Vec::new();
    let mut absent = None;
    for addr in (name, port).to_socket_addrs()? {
        // With port 0 the first address chooses for all: one name, one port.
        let port = places.first().map_or(addr.port(), |place| match place {
            Place::Tcp(first, _) => first.port(),
            Place::Unix(_) => addr.port(),
        });
        match tcp(SocketAddr::new(addr.ip(), port), threads) {
            Ok(place) => places.push(place),
            // A name may stand for ::1 where there is no IPv6.
            Err(error) if is_absent(&error) => absent = Some(error),
            Err(error) => return Err(error),
        }
    }
    match absent {
        Some(error) if places.is_empty() => Err(error),
        _ => Ok(places),
    }
}

fn is_absent(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT)
    )
}

/// One socket per thread; the kernel spreads the connections among them.
fn tcp(addr: SocketAddr, threads: usize) -> io::Result<Place> {
    if threads == 1 {
        let listener = bind(addr, Sharing::Exclusive)?;
        return Ok(Place::Tcp(listener.local_addr()?, vec![listener]));
    }
    // SO_REUSEPORT would let a second server of the same user share the port unnoticed, so a
    // given one is tried without it first. A free one the kernel never takes from others.
    if addr.port() != 0 {
        bind(addr, Sharing::Exclusive)?;
    }
    let first = bind(addr, Sharing::Shared)?;
    let addr = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..threads {
        listeners.push(bind(addr, Sharing::Shared)?);
    }
    Ok(Place::Tcp(addr, listeners))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Exclusive,
    Shared,
}

fn bind(addr: SocketAddr, sharing: Sharing) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // After a restart, connections of the old server in TIME_WAIT do not keep the port.
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        // So that 0.0.0.0 and [::] can be given side by side, whatever net.ipv6.bindv6only says.
        socket.set_only_v6(true)?;
    }
    if sharing == Sharing::Shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket at a path. One that nobody listens on any more is replaced; anything else is not.
fn unix(path: &Path, mode: u32) -> io::Result<Place> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
            fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && !is_socket(path) => Err(
            io::Error::new(io::ErrorKind::AlreadyExists, "it exists and is no socket"),
        ),
        bound => bound,
    }?;
    let place = UnixPlace {
        listener,
        name: path.display().to_string(),
        made: Some(path.to_owned()),
    };
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    place.listener.set_nonblocking(true)?;
    Ok(Place::Unix(place))
}

/// Whether it is a socket without a listener: its server was killed.
fn is_stale(path: &Path) -> bool {
    is_socket(path)
        && UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// What must be so while Unix sockets are made: nobody else may connect before their mode is set.
pub(crate) fn private_umask<R>(make: impl FnOnce() -> R) -> R {
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let made = make();
    rustix::process::umask(before);
    made
}

impl UnixPlace {
    /// The socket for another thread.
    pub(crate) fn try_clone(&self) -> io::Result<UnixListener> {
        let clone = self.listener.as_fd().try_clone_to_owned()?;
        Ok(clone.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_one_in_use_or_a_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        // As a killed server leaves it.
        drop(UnixListener::bind(&path).unwrap());
        let place = unix(&path, 0o640).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        let error = unix(&path, 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(place);
        assert!(!path.exists(), "removed in the end");
        fs::write(&path, "precious").unwrap();
        let error = unix(&path, 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_name_listens_on_all_its_addresses_with_one_port() {
        let places = named("localhost", 0, 2).unwrap();
        let ports = places.iter().map(|place| match place {
            Place::Tcp(addr, listeners) => {
                assert!(addr.ip().is_loopback() && listeners.len() == 2);
                addr.port()
            }
            Place::Unix(_) => unreachable!("a name is no path"),
        });
        let ports: std::collections::BTreeSet<_> = ports.collect();
        assert_eq!(ports.len(), 1);
    }
}
