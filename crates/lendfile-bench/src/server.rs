//! A server under measurement: a child process in its place, stopped when dropped.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::place::Place;
use crate::ticker::{self, Ticker};
use crate::{Error, Result};

/// How long a server may take until it can be reached.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Between two attempts to reach a server that does not announce itself.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(20);

/// Looks at a server that may be dying, with such pauses between them.
const DYING_ATTEMPTS: u32 = 10;

/// How much of the end of a server's standard error is kept for the reason of its failure.
const STDERR_BYTES: usize = 2048;

/// What a server's first line of standard output begins with; its address follows.
pub const ANNOUNCEMENT: &str = "listening on http://";

/// How a server's address is learnt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Address {
    /// Its first line of standard output is [`ANNOUNCEMENT`] and the address.
    Announced,
    /// It was told to listen here.
    Fixed(SocketAddr),
}

/// A running server. Dropping it kills the process and waits for its end.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
    stderr: Arc<Mutex<Vec<u8>>>,
    ticker: Ticker,
    announces: bool,
}

impl Server {
    /// Starts `command` in `place` and waits until a connection from `client` succeeds.
    ///
    /// The child stays in the caller's process group, so that Ctrl-C ends it too, whatever the caller
    /// does.
    ///
    /// # Errors
    ///
    /// [`crate::Kind::Unavailable`] if the program does not exist; [`crate::Kind::Disqualified`],
    /// with the end of its standard error, if it ends or cannot be reached within ten seconds.
    pub fn start(
        place: &Place,
        client: &Place,
        command: &mut Command,
        address: Address,
    ) -> Result<Self> {
        Self::start_within(START_LIMIT, place, client, command, address)
    }

    /// The same for a server that may take longer.
    pub(crate) fn start_within(
        limit: Duration,
        place: &Place,
        client: &Place,
        command: &mut Command,
        address: Address,
    ) -> Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = place.spawn(command)?;
        let stderr = Arc::new(Mutex::new(Vec::new()));
        if let Some(pipe) = child.stderr.take() {
            let stderr = Arc::clone(&stderr);
            thread::spawn(move || keep_end(pipe, &stderr));
        }
        let ticker = Ticker::default();
        let first_line = child
            .stdout
            .take()
            .map(|stdout| first_line(stdout, &ticker));
        // From here on the child is stopped by `drop`, whatever happens.
        let mut server = Self {
            child,
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            stderr,
            ticker,
            announces: command.get_args().any(|arg| arg == ticker::FLAG),
        };
        server.address = match address {
            Address::Fixed(address) => address,
            Address::Announced => {
                let line = first_line.and_then(|line| line.recv_timeout(limit).ok());
                parse_announcement(line.as_deref().unwrap_or("")).ok_or_else(|| {
                    Error::disqualified(format!(
                        "no `{ANNOUNCEMENT}ADDR:PORT` in the first line, which is {line:?}{}",
                        server.last_words(),
                    ))
                })?
            }
        };
        server.wait_until_reachable(client, limit)?;
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The longest delay that the server's own ticker has announced since this was last asked: zero
    /// if it has none.
    pub fn take_worst_stall(&self) -> Duration {
        self.ticker.take_worst()
    }

    /// The same up to this moment: waits until the ticker has spoken of it, for a server that was
    /// started with `--ticker`.
    pub(crate) fn take_worst_stall_until_now(&self) -> Duration {
        if self.announces {
            thread::sleep(ticker::HEARD_WITHIN);
        }
        self.take_worst_stall()
    }

    /// How it ended, if it has, and the end of its standard error, as the end of a sentence.
    pub fn last_words(&mut self) -> String {
        let mut status = self.child.try_wait();
        // Who dies closes its sockets before it can be waited for.
        for _ in 0..DYING_ATTEMPTS {
            if !matches!(status, Ok(None)) {
                break;
            }
            thread::sleep(ATTEMPT_PAUSE);
            status = self.child.try_wait();
        }
        let ended = match status {
            Ok(Some(status)) => {
                // Its last lines may still be on their way through the pipe.
                thread::sleep(ATTEMPT_PAUSE);
                format!("; it ended with {status}")
            }
            _ => String::new(),
        };
        let stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        match String::from_utf8_lossy(&stderr).trim() {
            "" => ended,
            words => format!("{ended}; stderr: {words}"),
        }
    }

    /// Asks it to end, by SIGTERM, and gives it some seconds for that: for those who look at what it
    /// leaves behind. It is asked again each second: nginx, as one process, does not notice a signal
    /// that comes just before it begins to wait.
    pub fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let begun = Instant::now();
        let mut asked = 0;
        while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < START_LIMIT {
            if begun.elapsed().as_secs() >= asked {
                // It may have ended meanwhile.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
                asked += 1;
            }
            thread::sleep(ATTEMPT_PAUSE);
        }
    }

    /// Ends it by SIGKILL, as a machine out of memory would, and waits for its end.
    pub(crate) fn kill(&mut self) {
        // Both fail only if the child is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn wait_until_reachable(&mut self, client: &Place, limit: Duration) -> Result<()> {
        let begun = Instant::now();
        loop {
            let attempt = client.run(|| TcpStream::connect_timeout(&self.address, limit))?;
            let Err(error) = attempt else { return Ok(()) };
            let ended = !matches!(self.child.try_wait(), Ok(None));
            if ended || begun.elapsed() > limit {
                let address = self.address;
                return Err(Error::disqualified(format!(
                    "{address} cannot be reached: {error}{}",
                    self.last_words()
                )));
            }
            thread::sleep(ATTEMPT_PAUSE);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Hands over the first line, then reads on to the end, so that the server never waits for us.
/// Lines of a ticker go to `ticker`.
fn first_line(stdout: impl Read + Send + 'static, ticker: &Ticker) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    let ticker = ticker.clone();
    thread::spawn(move || {
        let mut reader = BufReader::new(stdout);
        let mut line = String::new();
        if reader.read_line(&mut line).is_ok() {
            let _ = sender.send(line);
        }
        let mut line = Vec::new();
        while reader
            .read_until(b'\n', &mut line)
            .is_ok_and(|count| count > 0)
        {
            if let Some(delay) = std::str::from_utf8(&line).ok().and_then(ticker::parse) {
                ticker.late_by(delay);
            }
            line.clear();
        }
    });
    receiver
}

fn keep_end(mut pipe: impl Read, end: &Mutex<Vec<u8>>) {
    let mut buf = [0; 1024];
    while let Ok(count) = pipe.read(&mut buf) {
        if count == 0 {
            return;
        }
        let mut end = end.lock().unwrap_or_else(PoisonError::into_inner);
        end.extend_from_slice(&buf[..count]);
        let surplus = end.len().saturating_sub(STDERR_BYTES);
        end.drain(..surplus);
    }
}

fn parse_announcement(line: &str) -> Option<SocketAddr> {
    let rest = line.trim().strip_prefix(ANNOUNCEMENT)?;
    rest.trim_end_matches('/').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(script: &str, address: Address) -> Result<Server> {
        let here = Place::default();
        Server::start(
            &here,
            &here,
            Command::new("sh").args(["-c", script]),
            address,
        )
    }

    #[test]
    fn an_announcement_is_an_address_with_or_without_a_slash() {
        let expected = "127.0.0.1:80".parse().ok();
        assert_eq!(
            parse_announcement("listening on http://127.0.0.1:80\n"),
            expected
        );
        assert_eq!(
            parse_announcement("listening on http://127.0.0.1:80/"),
            expected
        );
        assert_eq!(parse_announcement("127.0.0.1:80"), None);
    }

    #[test]
    fn a_server_that_ends_says_why() {
        let error = start("echo out of beans >&2; exit 3", Address::Announced).unwrap_err();
        assert!(error.to_string().contains("out of beans"), "{error}");

        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let error = start("echo no >&2; exit 3", Address::Fixed(free)).unwrap_err();
        assert!(error.to_string().contains("exit status: 3"), "{error}");
    }

    #[test]
    fn a_servers_ticker_is_heard() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let script = format!(
            "echo listening on http://{address}; echo late by 7000; echo more; echo late by 900; \
             exec sleep 60"
        );
        let server = start(&script, Address::Announced).unwrap();
        let begun = Instant::now();
        while server.take_worst_stall() != Duration::from_micros(7) {
            assert!(begun.elapsed() < START_LIMIT, "never heard");
            thread::yield_now();
        }
    }

    #[test]
    fn a_server_that_misses_a_signal_is_asked_again() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let left = dir.path().join("left");
        // The second one ends it.
        let script = format!(
            "trap 'trap \"echo > {}; exit\" TERM' TERM; echo listening on http://{address}; \
             while :; do sleep 0.05; done",
            left.display()
        );
        start(&script, Address::Announced).unwrap().stop();
        assert!(left.exists(), "it was killed");
    }

    #[test]
    fn dropping_a_server_ends_its_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let script = format!("echo listening on http://{address}; exec sleep 60");
        let server = start(&script, Address::Announced).unwrap();
        assert_eq!(server.address(), address);
        let process = format!("/proc/{}", server.pid());
        assert!(std::path::Path::new(&process).exists());
        drop(server);
        assert!(!std::path::Path::new(&process).exists());
    }
}
