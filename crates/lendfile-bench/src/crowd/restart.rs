//! SIGKILL in the middle of transfers: can the next server listen at once?

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::client::{connect, probe};
use super::{LARGE_BYTES, Program, Service, start};
use crate::place::Place;
use crate::server::Server;
use crate::{Error, Result};

/// Transfers under way when it is killed: half are being read, half are not.
const TRANSFERS: usize = 64;

/// What the restarts have shown.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Restarts {
    /// From SIGKILL to the first answer of the next server on the same port, process start included.
    pub until_answered: Vec<Duration>,
    /// Transfers that were under way, all of which must have been seen to end early.
    pub cut: usize,
}

/// Kills a server `times` times in the middle of transfers and starts the next on the same port.
///
/// # Errors
///
/// [`crate::Kind::Disqualified`] if it cannot listen at once or does not answer, or if a transfer
/// looked complete.
pub fn restart(program: &Program, times: usize) -> Result<Restarts> {
    let mut service = Service::start(program, &[])?;
    let address = service.address();
    let disqualified =
        |what: &str, error: std::io::Error| Error::disqualified(format!("{what}: {error}"));
    let mut restarts = Restarts {
        until_answered: Vec::new(),
        cut: 0,
    };
    for _ in 0..times {
        let mut transfers = (0..TRANSFERS)
            .map(|index| under_way(address, index))
            .collect::<Result<Vec<_>>>()?;
        let killed = Instant::now();
        let server = start_again(&mut service, program)?;
        service.server = server;
        probe(address).map_err(|error| disqualified("the first request", error))?;
        restarts.until_answered.push(killed.elapsed());
        for transfer in &mut transfers {
            transfer.must_end_early()?;
            restarts.cut += 1;
        }
    }
    Ok(restarts)
}

/// Ends the server by SIGKILL and starts another in its place, which has one attempt.
fn start_again(service: &mut Service, program: &Program) -> Result<Server> {
    let address = service.address();
    service.server.kill();
    start(
        &Place::default(),
        program,
        address,
        &[],
        service.directory.path(),
    )
}

struct Transfer {
    stream: TcpStream,
    got: u64,
}

fn under_way(address: std::net::SocketAddr, index: usize) -> Result<Transfer> {
    let begin = || -> std::io::Result<Transfer> {
        let mut stream = connect(address, 0)?;
        stream.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n")?;
        let mut got = 0;
        // The others have their first byte waiting, and a full socket behind it.
        if index.is_multiple_of(2) {
            let mut buffer = vec![0; 64 << 10];
            while got < 4 << 20 {
                let n = stream.read(&mut buffer)?;
                if n == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                got += n as u64;
            }
        } else {
            stream.peek(&mut [0])?;
        }
        Ok(Transfer { stream, got })
    };
    begin().map_err(|error| Error::disqualified(format!("transfer {index}: {error}")))
}

impl Transfer {
    /// Reads what is left, an end or a reset.
    fn must_end_early(&mut self) -> Result<()> {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = self.stream.read(&mut buffer) {
            self.got += n as u64;
        }
        match self.got < LARGE_BYTES {
            true => Ok(()),
            false => Err(Error::disqualified("a transfer outlived its server")),
        }
    }
}
