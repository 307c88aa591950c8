//! From how many bytes on a socket counts as readable: `SO_RCVLOWAT`, which no safe library offers.

use std::io;
use std::os::fd::AsFd;

use crate::lent::{self, SocketOption};

/// The socket's mark, in bytes; 1 unless it was set.
///
/// # Errors
///
/// Those of `getsockopt(2)`.
pub fn of(socket: impl AsFd) -> io::Result<i32> {
    Ok(lent::socket_option(
        socket.as_fd(),
        SocketOption::ReceiveLowWater,
    )?)
}

/// Sets it. A TCP socket that has that much already, or has ended, is reported at once
/// (`tcp_set_rcvlowat`, net/ipv4/tcp.c). Its receive buffer grows to hold that much.
///
/// # Errors
///
/// Those of `setsockopt(2)`.
pub fn set(socket: impl AsFd, bytes: i32) -> io::Result<()> {
    let option = SocketOption::ReceiveLowWater;
    Ok(lent::set_socket_option(socket.as_fd(), option, bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn what_was_set_is_read_back() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(of(&socket).unwrap(), 1);
        set(&socket, 12_345).unwrap();
        assert_eq!(of(&socket).unwrap(), 12_345);
        let file = std::fs::File::open("/dev/null").unwrap();
        of(&file).unwrap_err();
        set(&file, 1).unwrap_err();
    }
}
