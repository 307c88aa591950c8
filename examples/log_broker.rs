//! A small message broker: producers append batches to logs on disk, consumers fetch ranges of
//! them by offset, and neither copies a byte through user memory.
//!
//! ```console
//! $ cargo run --release -p lendfile-examples --example log_broker -- 127.0.0.1:7000 logs
//! ```
//!
//! The protocol, over one connection as often as one likes:
//!
//! ```text
//! APPEND topic length\n  and the batch   →  OK offset\n
//! FETCH topic offset most\n              →  OK offset length\n  and the bytes; length 0 at the end
//! anything else, or what cannot be done  →  ERR reason\n, and the end of the connection
//! ```
//!
//! A log is a row of segments, `TOPIC-OFFSET.log`. A batch never crosses from one to the next, and
//! is visible to consumers once it is whole; a producer that breaks off leaves nothing behind.
//! A fetch's head and the segment's first pages leave in one train of segments.
//!
//! What a broker for production has and this has not: fsync, replication, retention, and framing
//! with checksums, by which a batch torn by a crash of the machine would be recognised.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "its first line tells where it listens")]

use std::collections::HashMap;
use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lendfile::{FileRegion, OpenFile, TransferOptions, recv_file, send_file};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// A segment that is longer is followed by a new one.
const SEGMENT_BYTES: u64 = 64 << 20;

/// The longest batch, and the longest answer to a fetch.
const BATCH_BYTES: u64 = 16 << 20;

/// Time for a batch to arrive; other producers of the topic wait meanwhile.
const BATCH_TIME: Duration = Duration::from_secs(10);

/// The longest request line.
const LINE_BYTES: usize = 256;

/// Pause after accepting has failed, as it does when descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() -> io::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    let mut args = env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:7000".to_owned());
    let directory = args.next().unwrap_or_else(|| "logs".to_owned());
    let broker = Arc::new(Broker::open(directory.into())?);
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                _ = socket.set_nodelay(true);
                let broker = broker.clone();
                tokio::spawn(async move {
                    if let Err(error) = broker.converse(socket).await {
                        tracing::info!(%peer, %error, "connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

struct Broker {
    directory: PathBuf,
    topics: Mutex<HashMap<String, Arc<Topic>>>,
}

#[derive(Default)]
struct Topic {
    /// What is visible.
    segments: Mutex<Vec<Segment>>,
    /// One batch at a time.
    appending: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Segment {
    path: PathBuf,
    offset: u64,
    /// Of its whole batches.
    len: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refuse<T>(reason: impl Into<String>) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::InvalidInput, reason.into()))
}

impl Broker {
    /// Finds the logs of an earlier run.
    fn open(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        let mut topics: HashMap<String, Arc<Topic>> = HashMap::new();
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let Some((name, offset)) = parse_name(&entry.path()) else {
                continue;
            };
            let segment = Segment {
                path: entry.path(),
                offset,
                len: entry.metadata()?.len(),
            };
            lock(&topics.entry(name).or_default().segments).push(segment);
        }
        for topic in topics.values() {
            lock(&topic.segments).sort_by_key(|segment| segment.offset);
        }
        Ok(Self {
            directory,
            topics: Mutex::new(topics),
        })
    }

    async fn converse(&self, mut socket: TcpStream) -> io::Result<()> {
        while let Some(line) = read_line(&mut socket).await? {
            let words: Vec<&str> = line.split(' ').collect();
            let done = match words[..] {
                ["APPEND", topic, len] => self.append(&socket, topic, len).await,
                ["FETCH", topic, offset, most] => self.fetch(&socket, topic, offset, most).await,
                _ => refuse("no such request"),
            };
            if let Err(error) = done {
                // If bytes of an answer are out already, the connection's end tells.
                say(&socket, &format!("ERR {error}\n")).await?;
                return Err(error);
            }
        }
        Ok(())
    }

    async fn append(&self, socket: &TcpStream, name: &str, len: &str) -> io::Result<()> {
        let len = number(len)?;
        if len == 0 || len > BATCH_BYTES {
            return refuse(format!("a batch has 1 to {BATCH_BYTES} bytes"));
        }
        let topic = self.topic(name)?;
        let _one_at_a_time = topic.appending.lock().await;
        let last = lock(&topic.segments).last().cloned();
        let segment = match last {
            Some(last) if last.len < SEGMENT_BYTES => last,
            last => {
                let offset = last.map_or(0, |last| last.offset + last.len);
                let path = self.directory.join(format!("{name}-{offset:020}.log"));
                File::create(&path)?;
                let len = 0;
                let segment = Segment { path, offset, len };
                lock(&topic.segments).push(segment.clone());
                segment
            }
        };
        let file = OpenOptions::new().write(true).open(&segment.path)?;
        let range = segment.len..segment.len + len;
        let receiving = recv_file(socket, &file, range, TransferOptions::new());
        let received = match timeout(BATCH_TIME, receiving).await {
            Ok(received) => received.map(drop).map_err(io::Error::from),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        if let Err(error) = received {
            // What has come of it is taken back; nobody has seen it.
            file.set_len(segment.len)?;
            return Err(error);
        }
        if let Some(last) = lock(&topic.segments).last_mut() {
            last.len += len;
        }
        let offset = segment.offset + segment.len;
        say(socket, &format!("OK {offset}\n")).await
    }

    async fn fetch(
        &self,
        socket: &TcpStream,
        name: &str,
        offset: &str,
        most: &str,
    ) -> io::Result<()> {
        let (offset, most) = (number(offset)?, number(most)?);
        // Asking for a topic does not make one.
        let topic = lock(&self.topics).get(name).cloned().unwrap_or_default();
        let found = lock(&topic.segments)
            .iter()
            .rfind(|segment| segment.offset <= offset)
            .cloned();
        let Some(segment) = found else {
            return say(socket, &format!("OK {offset} 0\n")).await;
        };
        let skipped = offset - segment.offset;
        let Some(rest) = segment.len.checked_sub(skipped) else {
            return refuse("the log ends before this offset");
        };
        let len = rest.min(most).min(BATCH_BYTES);
        let region = FileRegion::new(OpenFile::open(&segment.path)?, skipped, len)?;
        let head = format!("OK {offset} {len}\n");
        send_file(socket, region, TransferOptions::new())
            .with_head(head)
            .await?;
        Ok(())
    }

    fn topic(&self, name: &str) -> io::Result<Arc<Topic>> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            return refuse("topics are named by letters, digits and _");
        }
        Ok(lock(&self.topics)
            .entry(name.to_owned())
            .or_default()
            .clone())
    }
}

/// `TOPIC-OFFSET.log`
fn parse_name(path: &Path) -> Option<(String, u64)> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".log")?;
    let (name, offset) = stem.rsplit_once('-')?;
    Some((name.to_owned(), offset.parse().ok()?))
}

fn number(word: &str) -> io::Result<u64> {
    word.parse().or_else(|_| refuse("not a number"))
}

/// Sends a line.
async fn say(socket: &TcpStream, line: &str) -> io::Result<()> {
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        socket.writable().await?;
        match socket.try_write(rest) {
            Ok(n) => rest = &rest[n..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A request without its line's end. Byte by byte, so that a batch behind it stays in the socket
/// for `recv_file`; lines are short.
async fn read_line(socket: &mut TcpStream) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        match socket.read(&mut byte).await? {
            0 if line.is_empty() => return Ok(None),
            0 => return refuse("the line ends early"),
            _ if byte == *b"\n" => break,
            _ if line.len() == LINE_BYTES => return refuse("the line is too long"),
            _ => line.push(byte[0]),
        }
    }
    String::from_utf8(line)
        .map(Some)
        .or_else(|_| refuse("not UTF-8"))
}
