//! From where on a socket is peeked at: `SO_PEEK_OFF`, which no safe library offers.
//!
//! Each `MSG_PEEK` then begins where the one before it ended, and taking bytes out moves the place
//! back by as many. Unix sockets have it, and TCP since Linux 6.9 (IPv6: 6.10).

use std::io;
use std::os::fd::AsFd;

use crate::lent::{self, SocketOption};

/// Bytes from the first that is in the socket; negative where each peek begins with that one, as
/// it does unless this was set.
///
/// # Errors
///
/// Those of `getsockopt(2)`.
pub fn of(socket: impl AsFd) -> io::Result<i32> {
    Ok(lent::socket_option(
        socket.as_fd(),
        SocketOption::PeekOffset,
    )?)
}

/// Sets it.
///
/// # Errors
///
/// Those of `setsockopt(2)`: `EOPNOTSUPP` where such sockets do not have it.
pub fn set(socket: impl AsFd, bytes: i32) -> io::Result<()> {
    let option = SocketOption::PeekOffset;
    Ok(lent::set_socket_option(socket.as_fd(), option, bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use rustix::net::{RecvFlags, recv};

    #[test]
    fn a_peek_begins_where_the_last_one_ended_and_taking_moves_it_back() {
        let (mut ours, mut peer) = UnixStream::pair().unwrap();
        assert_eq!(of(&ours).unwrap(), -1);
        set(&ours, 0).unwrap();
        peer.write_all(b"abcdef").unwrap();
        let mut two = [0; 2];
        for expected in [b"ab", b"cd"] {
            recv(&ours, &mut two, RecvFlags::PEEK).unwrap();
            assert_eq!(&two, expected);
        }
        assert_eq!(of(&ours).unwrap(), 4);
        ours.read_exact(&mut [0; 3]).unwrap();
        assert_eq!(of(&ours).unwrap(), 1);
        set(&ours, -1).unwrap();
        recv(&ours, &mut two, RecvFlags::PEEK).unwrap();
        assert_eq!(&two, b"de");
        let file = std::fs::File::open("/dev/null").unwrap();
        of(&file).unwrap_err();
        set(&file, 1).unwrap_err();
    }
}
