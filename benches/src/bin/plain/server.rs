//! The contestants.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use lendfile_core::Method;
use lendfile_epoll::{PageBuffer, TransferOptions, recv_file, relay};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// What the loop that is compared with reads at a time.
const LOOP_BYTES: usize = 256 << 10;

#[derive(Clone, clap::Args)]
pub(crate) struct Arguments {
    way: String,
    ip: IpAddr,
    /// What is received into.
    #[arg(long)]
    file: Option<PathBuf>,
    #[arg(long)]
    fresh: bool,
    /// What is relayed to.
    #[arg(long)]
    target: Option<SocketAddr>,
}

pub(crate) fn serve(arguments: &Arguments) -> io::Result<()> {
    match (&arguments.file, arguments.target) {
        (Some(file), None) if arguments.way == "read-write" => read_write(arguments, file),
        _ => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(on_tokio(arguments)),
    }
}

fn options(way: &str) -> io::Result<TransferOptions> {
    let method = match way {
        "lendfile" => Method::Auto,
        "lendfile-copy" => Method::Copy,
        "lendfile-splice" => Method::Splice,
        other => return Err(io::Error::other(format!("no way is named {other:?}"))),
    };
    Ok(TransferOptions::new().method(method))
}

fn announce(address: SocketAddr) -> io::Result<()> {
    println!("listening on {address}");
    io::stdout().flush()
}

/// The file for the next upload. Removed as soon as it is open, so that none is left behind.
struct Target<'a> {
    path: &'a PathBuf,
    file: File,
    fresh: bool,
}

impl<'a> Target<'a> {
    fn new(path: &'a PathBuf, fresh: bool) -> io::Result<Self> {
        let file = File::create(path)?;
        fs::remove_file(path)?;
        Ok(Self { path, file, fresh })
    }

    fn next(&mut self) -> io::Result<&File> {
        if self.fresh {
            *self = Self::new(self.path, true)?;
        }
        Ok(&self.file)
    }
}

/// Blocking, as plain as can be.
fn read_write(arguments: &Arguments, path: &PathBuf) -> io::Result<()> {
    let listener = std::net::TcpListener::bind((arguments.ip, 0))?;
    announce(listener.local_addr()?)?;
    let mut target = Target::new(path, arguments.fresh)?;
    let mut buffer = PageBuffer::zeroed(LOOP_BYTES);
    loop {
        let (mut socket, _) = listener.accept()?;
        let file = target.next()?;
        let mut left = super::UPLOAD_BYTES;
        let mut offset = 0;
        while left > 0 {
            let n = socket.read(buffer.as_mut())?;
            if n == 0 {
                break;
            }
            file.write_all_at(&buffer.as_ref()[..n], offset)?;
            offset += n as u64;
            left = left.saturating_sub(n as u64);
        }
        // The client goes when its time is over.
        _ = socket.write_all(b"x");
    }
}

async fn on_tokio(arguments: &Arguments) -> io::Result<()> {
    let listener = TcpListener::bind((arguments.ip, 0)).await?;
    announce(listener.local_addr()?)?;
    let Some(to) = arguments.target else {
        let path = arguments.file.as_ref().ok_or(io::ErrorKind::InvalidInput)?;
        let options = options(&arguments.way)?;
        let mut target = Target::new(path, arguments.fresh)?;
        loop {
            let (mut socket, _) = listener.accept().await?;
            let file = target.next()?;
            recv_file(&socket, file, ..super::UPLOAD_BYTES, options).await?;
            _ = socket.write_all(b"x").await;
            // Wait for the client to go, so that its next connection finds this one closed.
            _ = socket.read(&mut [0]).await;
        }
    };
    loop {
        let (mut from, _) = listener.accept().await?;
        let mut to = TcpStream::connect(to).await?;
        // Cut off by the client when its time is over.
        if arguments.way == "tokio" {
            _ = copy_bidirectional(&mut from, &mut to).await;
        } else {
            _ = relay(&from, &to, options(&arguments.way)?).await;
        }
    }
}
