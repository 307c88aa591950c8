//! Many connections that do nothing: what each costs.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use super::client::{connect, connect_narrow, warm_up};
use super::{Holdings, PATIENCE, Program, SETTLED_WITHIN, SMALL_BYTES, Service, allow_descriptors};
use crate::{Error, Result};

/// Descriptors that this process or the server may have beside the crowd's.
const OTHER_DESCRIPTORS: u64 = 512;

/// Between two looks at whether the server still moves.
const PAUSE: Duration = Duration::from_millis(200);

/// What a crowd cost.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Crowd {
    /// How many came.
    pub connections: usize,
    /// What the server held before.
    pub before: Holdings,
    /// And with all of them there.
    pub during: Holdings,
    /// And within ten seconds from when all had gone.
    pub after: Holdings,
}

impl Crowd {
    /// The server's private memory for each connection, in bytes.
    pub fn private_bytes_each(&self) -> u64 {
        let grown =
            self.during.private_bytes - self.before.private_bytes.min(self.during.private_bytes);
        grown / self.connections.max(1) as u64
    }

    /// The kernel's memory for the buffers of both ends, in bytes.
    pub fn tcp_bytes_each(&self) -> u64 {
        self.during.tcp_bytes.saturating_sub(self.before.tcp_bytes) / self.connections.max(1) as u64
    }
}

/// Connections that have asked for a small file once and rest.
///
/// # Errors
///
/// [`crate::Kind::Unavailable`] if so many descriptors are not to be had;
/// [`crate::Kind::Disqualified`] if one of them is not answered.
pub fn idle(program: &Program, connections: usize) -> Result<Crowd> {
    crowd(program, connections, |service, index| {
        let mut stream = connect(service.address(), index)?;
        stream.write_all(b"GET /small HTTP/1.1\r\nhost: a\r\n\r\n")?;
        let mut got = Vec::new();
        let mut buffer = [0; 2048];
        loop {
            let n = stream.read(&mut buffer)?;
            got.extend_from_slice(&buffer[..n]);
            let head = got.windows(4).position(|end| end == b"\r\n\r\n");
            match head {
                Some(head) if got.len() as u64 == head as u64 + 4 + SMALL_BYTES => break,
                _ if n == 0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                _ => {}
            }
        }
        Ok(stream)
    })
}

/// Connections that have asked for 1 GiB and read nothing of it.
///
/// # Errors
///
/// Those of [`idle`].
pub fn stalled(program: &Program, connections: usize) -> Result<Crowd> {
    crowd(program, connections, |service, index| {
        let mut stream = connect_narrow(service.address(), index)?;
        stream.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n")?;
        // The server has begun to send.
        stream.peek(&mut [0])?;
        Ok(stream)
    })
}

/// Connections before the crowd proper.
const FEW: usize = 100;

fn crowd(
    program: &Program,
    connections: usize,
    one: impl Fn(&Service, usize) -> std::io::Result<std::net::TcpStream>,
) -> Result<Crowd> {
    let wanted = connections as u64 + OTHER_DESCRIPTORS;
    // The server leaves a quarter of its descriptors for files.
    allow_descriptors(wanted * 4 / 3 + 1)?;
    let most = wanted.to_string();
    let options = [
        ["--max-connections", most.as_str()],
        ["--idle-timeout", "30m"],
        ["--progress-timeout", "30m"],
    ];
    let service = Service::start(program, options.as_flattened())?;
    let failed = |index: usize, error| {
        Error::disqualified(format!("connection {index} of the crowd: {error}"))
    };
    warm_up(service.address())
        .map_err(|error| Error::disqualified(format!("before the crowd: {error}")))?;
    let gather = |connections: usize| -> Result<Vec<_>> {
        (0..connections)
            .map(|index| one(&service, index).map_err(|error| failed(index, error)))
            .collect()
    };
    // What a thread opens once for whoever stalls is not what a crowd leaves behind.
    drop(gather(connections.min(FEW))?);
    let before = settled(&service)?;
    let crowd = gather(connections)?;
    let during = settled(&service)?;
    drop(crowd);
    let begun = Instant::now();
    let mut after = settled(&service)?;
    let is_more = |after: &Holdings| {
        after.descriptors > before.descriptors
            || after.private_bytes > before.private_bytes + before.private_bytes / 10
    };
    while is_more(&after) && begun.elapsed() < SETTLED_WITHIN {
        after = settled(&service)?;
    }
    Ok(Crowd {
        connections,
        before,
        during,
        after,
    })
}

/// What the server holds once that does not change any more.
fn settled(service: &Service) -> Result<Holdings> {
    let begun = Instant::now();
    let mut last = service.holdings()?;
    loop {
        thread::sleep(PAUSE);
        let now = service.holdings()?;
        let same = (now.private_bytes, now.descriptors, now.tcp_bytes)
            == (last.private_bytes, last.descriptors, last.tcp_bytes);
        if same || begun.elapsed() > PATIENCE {
            return Ok(now);
        }
        last = now;
    }
}
