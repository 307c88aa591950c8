//! A log that can be read.

use std::io;
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut lines = self.0.lock().map_err(|_| io::ErrorKind::Other)?;
        lines.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The subscriber for warnings and errors, and what it has heard.
pub fn log() -> (tracing::Dispatch, impl Fn() -> String) {
    log_of("warn")
}

/// The subscriber for what `filter` lets through (targets and levels, as in `RUST_LOG`), and what it
/// has heard: a line for each event, with the spans that it is in.
pub fn log_of(filter: &str) -> (tracing::Dispatch, impl Fn() -> String) {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let heard = move || {
        let lines = lines.0.lock().map(|lines| lines.clone());
        String::from_utf8_lossy(&lines.unwrap_or_default()).into_owned()
    };
    (tracing::Dispatch::new(subscriber), heard)
}
