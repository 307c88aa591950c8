//! Accepting connections, whatever goes wrong with one of them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use lendfile_epoll::Socket;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Resource, getrlimit};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream, unix};

use crate::Limits;

/// First and longest pause while nothing can be accepted.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// Descriptors that connections leave for the files they ask for: a quarter of those that were free
/// when accepting began, but not more than this.
const MOST_RESERVED: u64 = 4096;

mod sealed {
    pub trait Sealed {}
    impl Sealed for tokio::net::TcpListener {}
    impl Sealed for tokio::net::UnixListener {}
}

/// A listening socket of tokio's. Sealed: `TcpListener` and `UnixListener` are all there are.
pub trait Accept: AsFd + Send + Sync + sealed::Sealed + 'static {
    /// What it accepts.
    type Socket: Socket + Send + 'static;
    /// A peer's address.
    type Addr: Send + std::fmt::Debug + Clone + Sync + 'static;

    /// Accepts one connection and makes its socket ready: `TCP_NODELAY` is on, since a response
    /// whose end waits for an acknowledgement waits 40 ms for a delayed one.
    ///
    /// # Errors
    ///
    /// Those of `accept(2)`.
    ///
    /// # Cancel safety
    ///
    /// A dropped call has accepted nothing.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Socket, Self::Addr)>> + Send;

    /// The address it listens on.
    ///
    /// # Errors
    ///
    /// Those of `getsockname(2)`.
    fn local_addr(&self) -> io::Result<Self::Addr>;

    /// A peer's address in the network, if it is in one.
    fn peer(addr: &Self::Addr) -> Option<SocketAddr>;

    /// Sets the socket options that `limits` ask for on a listening socket, from which accepted ones
    /// inherit them, or on an accepted one.
    ///
    /// # Errors
    ///
    /// Those of `setsockopt(2)`.
    fn limit(socket: impl AsFd, limits: &Limits) -> io::Result<()>;
}

impl Accept for TcpListener {
    type Socket = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (socket, addr) = Self::accept(self).await?;
        socket.set_nodelay(true)?;
        Ok((socket, addr))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }

    fn peer(addr: &SocketAddr) -> Option<SocketAddr> {
        Some(*addr)
    }

    fn limit(socket: impl AsFd, limits: &Limits) -> io::Result<()> {
        let socket = SockRef::from(&socket);
        if let Some(bytes) = limits.unsent_bytes {
            socket.set_tcp_notsent_lowat(bytes.get())?;
        }
        // Set, but not relied upon: a stalled reader that goes on sending was seen to outlive it
        // (Linux 6.18, loopback), so the connection's own clock watches, too.
        socket.set_tcp_user_timeout(limits.progress_timeout)
    }
}

impl Accept for UnixListener {
    type Socket = UnixStream;
    type Addr = std::sync::Arc<unix::SocketAddr>;

    async fn accept(&self) -> io::Result<(UnixStream, Self::Addr)> {
        let (socket, addr) = Self::accept(self).await?;
        Ok((socket, addr.into()))
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Self::local_addr(self).map(Into::into)
    }

    fn peer(_: &Self::Addr) -> Option<SocketAddr> {
        None
    }

    fn limit(_: impl AsFd, _: &Limits) -> io::Result<()> {
        Ok(())
    }
}

/// What `accept(2)` reports of a connection that was lost before it was accepted (its manual page,
/// "Error handling"): the next one may be there already. Not EPERM and EOPNOTSUPP, which a security
/// module may give of every connection.
const LOST: [Errno; 10] = [
    Errno::CONNABORTED,
    Errno::CONNRESET,
    Errno::HOSTDOWN,
    Errno::HOSTUNREACH,
    Errno::INTR,
    Errno::NETDOWN,
    Errno::NETUNREACH,
    Errno::NONET,
    Errno::NOPROTOOPT,
    Errno::PROTO,
];

/// Whether there are descriptors left for one more connection and the file that it asks for.
///
/// The kernel gives the lowest descriptor that is free, so the number of a socket just accepted
/// says how many are taken: no book is kept, and others' are counted, too.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// The last socket was one of those that should be left for files, or there was none to be had.
    is_short: AtomicBool,
    /// How many were taken when the first connection had been accepted.
    taken: OnceLock<u64>,
    /// The first of those that are left, by the limit as it was last seen.
    reserved: AtomicU64,
}

impl Room {
    /// Asks again only if it was short before.
    fn is_left(&self, listener: BorrowedFd<'_>) -> bool {
        if !self.is_short.load(Relaxed) {
            return true;
        }
        let lowest_free = lowest_free(listener);
        let is_left = lowest_free < self.reserve(lowest_free);
        self.is_short.store(!is_left, Relaxed);
        is_left
    }

    fn note(&self, accepted: BorrowedFd<'_>) {
        if self.taken.get().is_none() {
            self.reserve(lowest_free(accepted));
        }
        if number(accepted) >= self.reserved.load(Relaxed) {
            self.is_short.store(true, Relaxed);
        }
    }

    /// There was no descriptor for a connection, whatever the limit was when it was last seen.
    fn note_shortage(&self) {
        self.is_short.store(true, Relaxed);
    }

    /// Of what was free, not of all: a program that keeps most of them busy itself still serves.
    /// Asks for the limit, which may have been changed meanwhile (`prlimit(1)`).
    fn reserve(&self, lowest_free: u64) -> u64 {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let taken = *self.taken.get_or_init(|| lowest_free);
        let reserved = limit - (limit.saturating_sub(taken) / 4).min(MOST_RESERVED);
        self.reserved.store(reserved, Relaxed);
        reserved
    }
}

/// The next descriptor that the kernel will give, or a number beyond all of them.
fn lowest_free(any: BorrowedFd<'_>) -> u64 {
    fcntl_dupfd_cloexec(any, 0).map_or(u64::MAX, |fd| number(fd.as_fd()))
}

fn number(fd: BorrowedFd<'_>) -> u64 {
    u64::try_from(fd.as_raw_fd()).unwrap_or(0)
}

/// The next connection. Never fails: a connection that died before it was accepted is passed
/// over. When descriptors or memory run out, or for a reason that may last, it pauses, ever
/// longer, instead of spinning.
pub(crate) async fn next<L: Accept>(listener: &L, room: &Room) -> (L::Socket, L::Addr) {
    let mut pause = PAUSES.0;
    loop {
        let accepted = match room.is_left(listener.as_fd()) {
            true => listener.accept().await,
            false => Err(Errno::MFILE.into()),
        };
        let error = match accepted {
            Ok((socket, addr)) => {
                room.note(socket.as_fd());
                return (socket, addr);
            }
            Err(error) => error,
        };
        let errno = Errno::from_io_error(&error);
        if errno == Some(Errno::MFILE) {
            room.note_shortage();
        }
        if errno.is_some_and(|errno| LOST.contains(&errno)) {
            tracing::debug!(%error, "a connection was lost before it was accepted");
            // Who makes and breaks connections in a row has not the thread to itself.
            tokio::task::yield_now().await;
        } else {
            tracing::warn!(%error, pause_ms = pause.as_millis(), "cannot accept; pausing");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// A listener that answers with this error.
    struct Failing(Errno, AtomicUsize, std::fs::File);

    impl AsFd for Failing {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.2.as_fd()
        }
    }

    impl sealed::Sealed for Failing {}

    impl Accept for Failing {
        type Socket = TcpStream;
        type Addr = SocketAddr;

        async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
            self.1.fetch_add(1, Relaxed);
            Err(self.0.into())
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Err(self.0.into())
        }

        fn peer(addr: &SocketAddr) -> Option<SocketAddr> {
            Some(*addr)
        }

        fn limit(_: impl AsFd, _: &Limits) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_was_lost_before_it_was_accepted_is_passed_over_at_once() {
        const MANY: usize = 1000;
        for errno in LOST {
            let listener = Failing(errno, AtomicUsize::new(0), tempfile::tempfile().unwrap());
            let room = Room::default();
            let begun = tokio::time::Instant::now();
            let asked_often = async {
                while listener.1.load(Relaxed) < MANY {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                _ = next(&listener, &room) => unreachable!("it accepts nothing"),
                () = asked_often => {}
            }
            // The clock stands still unless somebody waits for it.
            assert_eq!(begun.elapsed(), Duration::ZERO, "{errno}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_may_last_is_not_asked_for_again_and_again() {
        for errno in [Errno::BADF, Errno::INVAL, Errno::MFILE, Errno::NOTSOCK] {
            let listener = Failing(errno, AtomicUsize::new(0), tempfile::tempfile().unwrap());
            let half_a_second = Duration::from_millis(500);
            let none = tokio::time::timeout(half_a_second, next(&listener, &Room::default())).await;
            assert!(none.is_err());
            // After 0, 5, 15, 35, 75, 155 and 315 ms.
            let asked = listener.1.load(Relaxed);
            assert_eq!(asked, 7, "{errno}");
        }
    }
}
