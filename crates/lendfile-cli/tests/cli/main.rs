//! The `lendfile` binary, as its users meet it: what it prints, how it ends, and the bytes.
#![forbid(unsafe_code)]

mod backend;
mod bench;
mod command;
mod failures;
mod observe;
mod output;
mod serve;
mod shutdown;
mod tls;
