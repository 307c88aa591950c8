//! How a head and a body leave, by each method.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::path::Path;

use bytes::Bytes;
use lendfile_core::{FileRegion, OpenFile};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};
use rustix::pipe::{PipeFlags, SpliceFlags};

use super::{Method, Responder};
use crate::request;

/// Bytes per `sendfile`: past this, larger calls were not faster in any measurement.
const SENDFILE_BYTES: u64 = 1 << 20;

/// Bytes per `pread` and `send` of the copying method, and per `send` from memory or a mapping: the
/// fastest of 64 KiB to 1 MiB on one stream.
const COPY_BYTES: usize = 256 << 10;

/// A pipe's size: the most that an unprivileged user may have (`fs.pipe-max-size`).
const PIPE_BYTES: usize = 1 << 20;

/// A file, ready to be sent.
pub(super) struct Served {
    head: Vec<u8>,
    file: File,
    length: u64,
    /// The content, for those that send from memory: a copy, or a mapping.
    memory: Bytes,
}

impl Served {
    pub(super) fn open(path: &Path, method: Method) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let memory = match method {
            Method::Memory => std::fs::read(path)?.into(),
            Method::Mmap if length > 0 => {
                let region = FileRegion::whole(OpenFile::new(file.try_clone()?)?);
                let mapping = region.map().map_err(io::Error::other)?;
                mapping.lend(&region, ())
            }
            _ => Bytes::new(),
        };
        Ok(Self {
            head: request::head(length),
            file,
            length,
            memory,
        })
    }
}

/// A response under way.
pub(super) struct Sending {
    /// Of the file.
    index: usize,
    head_sent: usize,
    /// Body bytes accepted by the socket.
    offset: u64,
    through: Through,
}

/// What bytes pass through.
enum Through {
    /// What has been read, and how much of that is sent; kept while the socket is full, so that no
    /// byte is read twice.
    Buffer {
        buf: Box<[u8]>,
        read: usize,
        sent: usize,
    },
    Nothing,
    Pipe {
        read: OwnedFd,
        write: OwnedFd,
        filled: usize,
    },
}

thread_local! {
    /// Idle buffers and pipes: one per connection at most, made once.
    static IDLE: std::cell::RefCell<Vec<Through>> = const { std::cell::RefCell::new(Vec::new()) };
}

impl Sending {
    pub(super) fn new(index: usize, responder: &Responder) -> rustix::io::Result<Self> {
        let idle = || IDLE.with_borrow_mut(Vec::pop);
        let through = match responder.method {
            Method::Copy => idle().unwrap_or_else(|| Through::Buffer {
                buf: vec![0; COPY_BYTES].into(),
                read: 0,
                sent: 0,
            }),
            Method::Splice if responder.files[index].length > 0 => match idle() {
                Some(pipe) => pipe,
                None => {
                    let (read, write) =
                        rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
                    rustix::pipe::fcntl_setpipe_size(&write, PIPE_BYTES)?;
                    Through::Pipe {
                        read,
                        write,
                        filled: 0,
                    }
                }
            },
            _ => Through::Nothing,
        };
        Ok(Self {
            index,
            head_sent: 0,
            offset: 0,
            through,
        })
    }

    /// Sends what is left of the head, then one piece of the body; true at its end.
    pub(super) fn step(
        &mut self,
        socket: &OwnedFd,
        responder: &Responder,
    ) -> rustix::io::Result<bool> {
        let served = &responder.files[self.index];
        if !served.memory.is_empty() {
            self.gather(socket, served)?;
        } else {
            self.send_head(socket, served)?;
            // Never beyond what the file still holds: the kernel would keep MSG_MORE on, and the
            // tail would wait for 200 ms (golang#41513).
            let remaining = served.length - self.offset;
            if remaining > 0 {
                let sent = match &mut self.through {
                    Through::Buffer { buf, read, sent } => {
                        copy(socket, served, self.offset, buf, (read, sent))?
                    }
                    Through::Nothing => {
                        let count =
                            usize::try_from(remaining.min(SENDFILE_BYTES)).unwrap_or(usize::MAX);
                        let mut offset = self.offset;
                        rustix::fs::sendfile(socket, &served.file, Some(&mut offset), count)?
                    }
                    Through::Pipe {
                        read,
                        write,
                        filled,
                    } => {
                        if *filled == 0 {
                            let count = usize::try_from(remaining)
                                .unwrap_or(usize::MAX)
                                .min(PIPE_BYTES);
                            let mut offset = self.offset;
                            *filled = rustix::pipe::splice(
                                &served.file,
                                Some(&mut offset),
                                &*write,
                                None,
                                count,
                                SpliceFlags::NONBLOCK,
                            )?;
                        }
                        let more = if remaining > *filled as u64 {
                            SpliceFlags::MORE
                        } else {
                            SpliceFlags::empty()
                        };
                        let flags = SpliceFlags::NONBLOCK | more;
                        let sent =
                            rustix::pipe::splice(&*read, None, socket, None, *filled, flags)?;
                        *filled -= sent;
                        sent
                    }
                };
                if sent == 0 {
                    // The file was truncated; the promised length cannot be kept.
                    return Err(Errno::IO);
                }
                self.offset += sent as u64;
            }
        }
        let ended = self.offset == served.length;
        if ended {
            match std::mem::replace(&mut self.through, Through::Nothing) {
                Through::Nothing => {}
                Through::Buffer { buf, .. } => {
                    let (read, sent) = (0, 0);
                    let idle_buffer = Through::Buffer { buf, read, sent };
                    IDLE.with_borrow_mut(|idle| idle.push(idle_buffer));
                }
                // Its bytes have all been counted out.
                pipe @ Through::Pipe { .. } => IDLE.with_borrow_mut(|idle| idle.push(pipe)),
            }
        }
        Ok(ended)
    }

    fn send_head(&mut self, socket: &OwnedFd, served: &Served) -> rustix::io::Result<()> {
        // MSG_MORE only if a body follows: nothing else would push the head out.
        let flags = if served.length > 0 {
            SendFlags::MORE
        } else {
            SendFlags::empty()
        };
        while self.head_sent < served.head.len() {
            self.head_sent += rustix::net::send(socket, &served.head[self.head_sent..], flags)?;
        }
        Ok(())
    }

    /// What is left of the head and a piece of the content in one call.
    fn gather(&mut self, socket: &OwnedFd, served: &Served) -> rustix::io::Result<()> {
        let head = &served.head[self.head_sent..];
        let offset = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let rest = &served.memory[offset..];
        let piece = &rest[..rest.len().min(COPY_BYTES)];
        let sent = rustix::net::sendmsg(
            socket,
            &[IoSlice::new(head), IoSlice::new(piece)],
            &mut SendAncillaryBuffer::default(),
            SendFlags::empty(),
        )?;
        let of_head = sent.min(head.len());
        self.head_sent += of_head;
        self.offset += (sent - of_head) as u64;
        Ok(())
    }
}

/// Sends what is left of the piece that was read, or of the next one. Returns bytes sent.
fn copy(
    socket: &OwnedFd,
    served: &Served,
    offset: u64,
    buf: &mut [u8],
    (read, sent): (&mut usize, &mut usize),
) -> rustix::io::Result<usize> {
    if sent == read {
        *read = rustix::io::pread(&served.file, &mut *buf, offset)?;
        *sent = 0;
    }
    if *read == 0 {
        return Ok(0);
    }
    let count = rustix::net::send(socket, &buf[*sent..*read], SendFlags::empty())?;
    *sent += count;
    Ok(count)
}
