//! The `lendfile` binary, as its users meet it: what it prints, how it ends, and the bytes.
#![forbid(unsafe_code)]

mod backend;
mod bench;
mod command;
mod failures;
mod http2;
mod limits;
mod observe;
mod output;
mod readme;
mod serve;
mod settings;
mod shutdown;
mod sockets;
mod tls;
