//! The end of a turn.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};

/// Has the task polled again after the others that are ready, and after the runtime has looked for
/// events: waking at once would have tokio poll it 60 times in a row. For backends.
pub fn yield_turn<R>(cx: &mut Context<'_>) -> Poll<R> {
    // Deferred by the scheduler; the future may be dropped then.
    _ = pin!(tokio::task::yield_now()).poll(cx);
    Poll::Pending
}
