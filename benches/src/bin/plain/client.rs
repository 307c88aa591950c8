//! The other side of a contestant: it never sleeps, so that the contestant does not pay for waking
//! it.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use lendfile_bench::network::Network;
use rustix::net::RecvFlags;

/// Bytes sent or discarded by one call.
const CALL_BYTES: usize = 256 << 10;

/// How long nothing may move before the contestant counts as stalled.
const STALL_LIMIT: Duration = Duration::from_secs(5);

/// Where a contestant says that it listens.
pub(crate) fn announced(stdout: impl Read) -> io::Result<SocketAddr> {
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let address = line.trim().strip_prefix("listening on ");
    address
        .and_then(|address| address.parse().ok())
        .ok_or_else(|| io::Error::other(format!("it said {line:?}")))
}

/// Uploads `len` bytes again and again, for at least `time`; how many in all.
pub(crate) fn upload(address: SocketAddr, len: u64, time: Duration) -> io::Result<u64> {
    let block = vec![7; CALL_BYTES];
    let begun = Instant::now();
    let mut total = 0;
    while begun.elapsed() < time {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nonblocking(true)?;
        let mut left = len;
        let mut watch = Watch::begin();
        while left > 0 {
            let most = usize::try_from(left).map_or(CALL_BYTES, |left| left.min(CALL_BYTES));
            let sent = watch.moved(socket.write(&block[..most]))?;
            left -= sent as u64;
        }
        // One byte says that all is in the file.
        while watch.moved(socket.read(&mut [0]))? == 0 {}
        total += len;
    }
    Ok(total)
}

/// What a relay connects to.
pub(crate) struct Sink(TcpListener);

impl Sink {
    pub(crate) fn open(network: &Network) -> io::Result<Self> {
        let place = network.client_place();
        let ip = match &place.namespace {
            Some(namespace) => namespace.address(),
            None => Ipv4Addr::LOCALHOST,
        };
        TcpListener::bind((ip, 0)).map(Self)
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Sends into a relay and takes out behind it, for `time`; how many bytes came out.
pub(crate) fn pass_through(relay: SocketAddr, sink: &Sink, time: Duration) -> io::Result<u64> {
    let block = vec![7; CALL_BYTES];
    let mut discard = vec![0; 4 * CALL_BYTES];
    let mut source = TcpStream::connect(relay)?;
    let (drain, _) = sink.0.accept()?;
    source.set_nonblocking(true)?;
    let begun = Instant::now();
    let mut total = 0;
    let mut watch = Watch::begin();
    while begun.elapsed() < time {
        match source.write(&block) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        let taken = rustix::net::recv(&drain, discard.as_mut_slice(), flags);
        total += watch.moved(taken.map(|(_, len)| len).map_err(Into::into))? as u64;
    }
    Ok(total)
}

/// Fails when nothing has moved for long.
struct Watch(Instant);

impl Watch {
    fn begin() -> Self {
        Self(Instant::now())
    }

    /// Bytes moved; 0 if the socket was not ready.
    fn moved(&mut self, result: io::Result<usize>) -> io::Result<usize> {
        match result {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                self.0 = Instant::now();
                Ok(n)
            }
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            Err(_) if self.0.elapsed() > STALL_LIMIT => Err(ErrorKind::TimedOut.into()),
            Err(_) => Ok(0),
        }
    }
}
