//! Bodies one behind the other: the parts of a multipart response with what stands between them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::{io, mem};

use bytes::Bytes;
use http_body::{Body, Frame};
use lendfile_core::Transfer;

use super::FileBody;

pub(super) struct Concat {
    rest: VecDeque<FileBody>,
    lent: bool,
}

impl Concat {
    pub(super) fn new(bodies: impl IntoIterator<Item = FileBody>) -> Self {
        let rest: VecDeque<FileBody> = bodies.into_iter().collect();
        Self {
            lent: rest.iter().any(FileBody::is_lent),
            rest,
        }
    }

    pub(super) fn is_lent(&self) -> bool {
        self.lent
    }

    /// Bytes not yet handed out.
    pub(super) fn len(&self) -> Option<u64> {
        self.rest.iter().map(|body| body.state.len()).sum()
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        while let Some(first) = self.rest.front_mut() {
            if let Some(frame) = ready!(Pin::new(first).poll_frame(cx)) {
                return Poll::Ready(Some(frame));
            }
            self.rest.pop_front();
        }
        Poll::Ready(None)
    }

    /// One report for all: the last of the bodies to end makes it.
    pub(super) fn on_end(&mut self, callback: Callback) {
        let sum = Arc::new(Sum {
            state: Mutex::new((None, Some(callback))),
        });
        for body in mem::take(&mut self.rest) {
            let sum = sum.clone();
            // Boxed, since a body may be several again.
            let add: Callback = Box::new(move |transfer| sum.add(&transfer));
            self.rest.push_back(body.on_end(add));
        }
    }
}

pub(super) type Callback = Box<dyn FnOnce(Transfer) + Send>;

/// Held by each body's callback; the report is made when the last has been called or dropped.
struct Sum {
    state: Mutex<(Option<Transfer>, Option<Callback>)>,
}

impl Sum {
    fn add(&self, transfer: &Transfer) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut state.0 {
            Some(sum) => sum.add(transfer),
            none => *none = Some(transfer.clone()),
        }
    }
}

impl Drop for Sum {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let (Some(sum), Some(callback)) = (state.0.take(), state.1.take()) {
            callback(sum);
        }
    }
}
