//! The backend on tokio's readiness: [`EpollTransport`] sends regions of files over tokio's own
//! `TcpStream` and `UnixStream` by sendfile, splice, from a mapping, or by copying. [`send_file`],
//! [`recv_file`] and [`relay`] are plain futures over the same.
//!
//! Nothing here spawns a task or a blocking job: a send is tried, and when the socket is full the
//! task waits for tokio to report it writable.
//!
//! No poll waits for the disk: pages that are not in the page cache are awaited, by looking again
//! each millisecond where the filesystem can be asked, and by a few helper threads of this crate
//! where it cannot.
#![forbid(unsafe_code)]

mod arrival;
mod backend;
mod borrowed;
mod buffer;
mod cold;
mod copy;
mod cork;
mod destination;
mod fetch;
mod kept;
mod mmap;
mod options;
mod pace;
mod pipe;
mod plumbing;
mod read;
mod reception;
mod recv_file;
mod relay;
mod send_file;
mod sender;
mod sendfile;
mod socket;
mod splice;
mod transport;
mod turn;

pub use backend::Epoll;
pub use buffer::PageBuffer;
pub use cold::warm_bytes;
pub use options::TransferOptions;
pub use pace::Pacer;
pub use pipe::Pipe;
pub use read::FileReader;
pub use reception::Reception;
pub use recv_file::{RecvFile, recv_file};
pub use relay::{Relay, Relayed, Undelivered, relay};
pub use send_file::{SendFile, send_file};
pub use sendfile::is_writable;
pub use socket::Socket;
pub use transport::EpollTransport;
pub use turn::{ColdTurn, yield_turn};
