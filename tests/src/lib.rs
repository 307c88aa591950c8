//! What the tests share: files of known content, servers of every kind, a client that takes
//! responses apart byte by byte.
#![forbid(unsafe_code)]

pub mod browser;
pub mod client;
pub mod conformance;
pub mod content;
pub mod h2;
pub mod hostile;
pub mod log;
pub mod mounts;
pub mod process;
pub mod server;
pub mod sockets;
pub mod uring;

use std::time::Duration;

/// The longest that any single wait may take before a test fails instead of hanging.
pub const PATIENCE: Duration = Duration::from_secs(30);
