#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod accept;
mod access_log;
mod body;
mod connection;
mod listener;
mod observe;
mod serve;
pub mod service;

pub use accept::Accept;
pub use access_log::{AccessLog, LogFormat};
pub use body::{FileBody, Lending};
pub use connection::Connection;
pub use lendfile_core::{
    Backend, Capabilities, Error, ErrorKind, Failure, FileRegion, LendStream, Method, OpenFile,
    Outcome, Progress, RateLimit, Transfer,
};
pub use lendfile_epoll::{
    Epoll, EpollTransport, RecvFile, Relay, Relayed, SendFile, Socket, TransferOptions,
    Undelivered, recv_file, relay, send_file,
};
pub use listener::Listener;
pub use observe::{Exchange, Head, Observer};
#[cfg(feature = "tls")]
pub use serve::Tls;
pub use serve::{Connections, Cut, Limits, RefusedRequest, Serve, serve};
pub use service::{
    CacheLimits, CacheUse, Coding, Disposition, FileResponse, Root, SendFileLayer, ServeDir,
    ServeFile, Symlinks,
};
