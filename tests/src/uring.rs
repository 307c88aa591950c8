//! A ring runtime, or a skip that says why.

use lendfile_uring::{Options, Runtime};

use crate::process;

/// A runtime with a ring on this thread; `None`, with the reason printed, where io_uring is denied.
///
/// # Panics
///
/// If it is not denied and does not work, or if `LENDFILE_REQUIRE` contains `uring`.
pub fn runtime_or_skip(options: Options) -> Option<Runtime> {
    match Runtime::with_options(options) {
        Ok(runtime) => Some(runtime),
        Err(error) if error.is_unsupported() => {
            process::skip("uring", &error.to_string());
            None
        }
        Err(error) => panic!("{error}"),
    }
}
