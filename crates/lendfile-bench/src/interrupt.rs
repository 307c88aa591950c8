//! Ctrl-C: the first one asks to stop, the second one ends the process.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::{Error, Result};

/// What a shell adds to a signal's number to make the exit code of whom it ended.
const SIGNALLED: i32 = 128;

/// A flag that the first SIGINT or SIGTERM sets; the next one ends the process as it would have
/// without this.
///
/// # Errors
///
/// [`crate::Kind::System`] if the handlers cannot be installed.
pub fn flag() -> Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal passes the first handler before the flag is set.
        flag::register_conditional_shutdown(signal, SIGNALLED + signal, Arc::clone(&interrupted))
            .and_then(|_| flag::register(signal, Arc::clone(&interrupted)))
            .map_err(|error| Error::system("handling signals", error))?;
    }
    Ok(interrupted)
}
