//! The backend on tokio's readiness: [`EpollTransport`] sends regions of files over tokio's own
//! `TcpStream` and `UnixStream` with `sendfile(2)`, or by copying.
//!
//! Nothing here spawns a task or a blocking job: a send is tried, and when the socket is full the
//! task waits for tokio to report it writable.
//!
//! What it does not do yet: `sendfile` of pages that are not in the page cache waits for the disk
//! inside the call, which stalls the thread (measured: up to 18 ms per 256 KiB on a busy disk).
#![forbid(unsafe_code)]

mod backend;
mod buffer;
mod copy;
mod cork;
mod pipe;
mod read;
mod socket;
mod transport;

pub use backend::Epoll;
pub use buffer::PageBuffer;
pub use pipe::Pipe;
pub use read::FileReader;
pub use socket::Socket;
pub use transport::EpollTransport;
