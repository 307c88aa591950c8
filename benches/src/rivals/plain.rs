//! lendfile without hyper: its futures behind the least that answers an HTTP/1.1 request. What it costs
//! more than a bare responder is tokio's and the backend's; what `lendfile serve` costs more than this
//! is hyper's and the file service's.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use lendfile_core::{FileRegion, Method, OpenFile};
use lendfile_epoll::{TransferOptions, send_file};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::request::{self, REQUEST_BYTES};

struct Served {
    head: Vec<u8>,
    file: Arc<OpenFile>,
}

/// Serves the files right in `directory`, opened now, on `listen` until the process ends; `announce` is
/// told the address first.
///
/// # Errors
///
/// If the address cannot be had, or a file cannot be opened.
pub fn serve(
    listen: SocketAddr,
    directory: &Path,
    method: Method,
    announce: impl FnOnce(SocketAddr),
) -> io::Result<()> {
    let mut files = HashMap::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let file = OpenFile::open(entry.path())?;
            let head = request::head(file.len());
            let name = entry.file_name().into_encoded_bytes();
            files.insert(name, Served { head, file });
        }
    }
    let files = Arc::new(files);
    let options = TransferOptions::new().method(method).strict();
    super::on_one_thread(listen, announce, async |listener| {
        loop {
            let (stream, _) = listener.accept().await?;
            // Only the measurement suffers if it fails.
            let _ = stream.set_nodelay(true);
            let files = files.clone();
            tokio::spawn(async move {
                // A client that goes away is nobody's failure.
                let _ = answer(stream, &files, options).await;
            });
        }
    })
}

async fn answer(
    mut stream: TcpStream,
    files: &HashMap<Vec<u8>, Served>,
    options: TransferOptions,
) -> io::Result<()> {
    let (mut received, mut filled) = ([0; REQUEST_BYTES], 0);
    loop {
        let (name, end) = loop {
            if let Some(found) = request::find(&received[..filled]) {
                break found;
            }
            match stream.read(&mut received[filled..]).await? {
                0 => return Ok(()),
                n => filled += n,
            }
        };
        let Some(served) = files.get(name) else {
            return Ok(());
        };
        received.copy_within(end..filled, 0);
        filled -= end;
        let region = FileRegion::whole(served.file.clone());
        send_file(&stream, region, options)
            .with_head(served.head.clone())
            .await?;
    }
}
