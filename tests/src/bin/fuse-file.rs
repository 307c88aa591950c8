//! A FUSE server of one file, for tests: `fuse-file SOURCE MOUNT DELAY_MS [FAILS_AT [ENDS_AT]]` shows
//! the content of SOURCE as MOUNT/file, answers each read after the delay, those that reach the byte
//! FAILS_AT with EIO, and those that reach the byte ENDS_AT with what is before it, whatever length
//! it has told. It says `mounted`, and ends with the mount or its standard input.
//!
//! It is a process of its own, since one that waits for itself in the kernel cannot be killed. It
//! speaks the protocol of fuse(4) itself: what a library would add is what must be slow or wrong
//! here. Nothing but looking the file up, opening and reading it is answered.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "it says when it is mounted")]

use std::env;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::process::{self, Command};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Bytes before each request's own, and before each answer's.
const REQUEST_HEAD: usize = 40;
const ANSWER_HEAD: usize = 16;

/// The least buffer that the kernel reads requests into is 8 KiB.
const REQUEST_BYTES: usize = 64 << 10;

/// Seconds for which the kernel need not ask again.
const VALID: u64 = 3600;

const ROOT: u64 = 1;
const FILE: u64 = 2;

const ENOENT: i32 = 2;
const EIO: i32 = 5;
const ENODEV: i32 = 19;
const ENOSYS: i32 = 38;

struct Server {
    device: File,
    source: File,
    delay: Duration,
    fails_at: u64,
    ends_at: u64,
}

fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let mut next = || arguments.next().ok_or(io::ErrorKind::InvalidInput);
    let (source, mount) = (File::open(next()?)?, next()?);
    let number = |text: String| text.parse().map_err(|_| io::ErrorKind::InvalidInput);
    let delay = number(next()?)?;
    let fails_at = next().map_or(Ok(u64::MAX), number)?;
    let ends_at = next().map_or(Ok(u64::MAX), number)?;
    let device = File::options().read(true).write(true).open("/dev/fuse")?;
    let mut mounting = Command::new("mount")
        .args(["-i", "-t", "fuse", "-o"])
        .arg("ro,fd=0,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions")
        .args(["fuse-file", &mount])
        .stdin(device.try_clone()?)
        .spawn()?;
    thread::spawn(move || {
        // It may ask before it ends, so the answers must come from elsewhere.
        if mounting.wait().is_ok_and(|status| status.success()) {
            println!("mounted");
        } else {
            process::exit(1);
        }
        // Whoever started this has ended, however.
        _ = io::copy(&mut io::stdin(), &mut io::sink());
        _ = Command::new("umount").args(["-l", &mount]).status();
        process::exit(0);
    });
    let server = Arc::new(Server {
        device,
        source,
        delay: Duration::from_millis(delay),
        fails_at,
        ends_at,
    });
    let mut request = vec![0; REQUEST_BYTES];
    loop {
        match (&server.device).read(&mut request) {
            Ok(n) => server.answer(&request[..n]),
            Err(error) if error.raw_os_error() == Some(ENODEV) => return Ok(()),
            // Interrupted, or the request is gone already.
            Err(_) => {}
        }
    }
}

impl Server {
    fn answer(self: &Arc<Self>, request: &[u8]) {
        let unique = u64_at(request, 8);
        let body = &request[REQUEST_HEAD..];
        let answer = match u32_at(request, 4) {
            // FORGET, INTERRUPT, BATCH_FORGET: to these there is no answer.
            2 | 36 | 42 => return,
            // LOOKUP
            1 if body == b"file\0" => {
                Ok([words(&[FILE, 0, VALID, VALID, 0]), self.attributes(FILE)].concat())
            }
            1 => Err(ENOENT),
            // GETATTR
            3 => Ok([words(&[VALID, 0]), self.attributes(u64_at(request, 16))].concat()),
            // OPEN, OPENDIR: a handle that is not used, and FOPEN_KEEP_CACHE.
            14 | 27 => Ok(words(&[0, 2])),
            // READ
            15 => {
                let (offset, size) = (u64_at(body, 8), u64::from(u32_at(body, 16)));
                let server = Arc::clone(self);
                // Reads that wait do not wait for one another.
                thread::spawn(move || {
                    // This is the slow disk.
                    thread::sleep(server.delay);
                    server.write(unique, server.read(offset, size));
                });
                return;
            }
            // STATFS, all zeros: a file of which this cannot be asked is not mapped.
            17 => Ok(vec![0; 80]),
            // RELEASE, RELEASEDIR
            18 | 29 => Ok(Vec::new()),
            // INIT: version 7.31, readahead as offered, ASYNC_READ, writes of a page.
            26 => {
                let mut answer = [7, 31, u32_at(body, 8), 1, 0, 4096]
                    .map(u32::to_ne_bytes)
                    .concat();
                answer.resize(64, 0);
                Ok(answer)
            }
            _ => Err(ENOSYS),
        };
        self.write(unique, answer);
    }

    fn read(&self, offset: u64, size: u64) -> Result<Vec<u8>, i32> {
        let end = (offset + size).min(self.len()).min(self.ends_at);
        // Answered as behind the end, reads ahead of the one that reaches it would move the end that
        // the kernel believes, and everybody would read zeros before it.
        if end > self.fails_at || offset > self.ends_at {
            return Err(EIO);
        }
        let mut bytes = vec![0; usize::try_from(end.saturating_sub(offset)).map_err(|_| EIO)?];
        self.source
            .read_exact_at(&mut bytes, offset)
            .map_err(|_| EIO)?;
        Ok(bytes)
    }

    /// The source may have been written since this was started.
    fn len(&self) -> u64 {
        self.source.metadata().map_or(0, |metadata| metadata.len())
    }

    fn attributes(&self, node: u64) -> Vec<u8> {
        let (mode, len) = match node {
            ROOT => (0o040_755, 0),
            _ => (0o100_644, self.len()),
        };
        // Number, length, blocks, three times; their nanoseconds, mode, links, owner, group,
        // device, block size, flags.
        let long = words(&[node, len, len.div_ceil(512), 0, 0, 0]);
        let short = [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0_u32].map(u32::to_ne_bytes);
        [long, short.concat()].concat()
    }

    fn write(&self, unique: u64, answer: Result<Vec<u8>, i32>) {
        let (errno, body) = match answer {
            Ok(body) => (0, body),
            Err(errno) => (-errno, Vec::new()),
        };
        let len = u32::try_from(ANSWER_HEAD + body.len()).expect("a short answer");
        let mut bytes = len.to_ne_bytes().to_vec();
        bytes.extend(errno.to_ne_bytes());
        bytes.extend(unique.to_ne_bytes());
        bytes.extend(body);
        // Whoever asked may have been interrupted.
        _ = (&self.device).write(&bytes);
    }
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
