//! A body under a rate limit.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};
use lendfile_core::RateLimit;
use lendfile_epoll::Pacer;

use super::FileBody;

/// Hands out another body's frames in the portions that a rate allows. A portion of lent bytes is
/// lent, since [`Bytes::split_to`] keeps their address: nothing is copied.
pub(super) struct Paced {
    body: FileBody,
    pacer: Pacer,
    /// Taken from the body, not yet handed out.
    kept: Bytes,
}

impl Paced {
    pub(super) fn new(body: FileBody, limit: RateLimit) -> Self {
        Self {
            body,
            pacer: Pacer::new(limit),
            kept: Bytes::new(),
        }
    }

    pub(super) fn body(&self) -> &FileBody {
        &self.body
    }

    pub(super) fn map_body(self, f: impl FnOnce(FileBody) -> FileBody) -> Self {
        Self {
            body: f(self.body),
            ..self
        }
    }

    /// Bytes not yet handed out, if that is known.
    pub(super) fn len(&self) -> Option<u64> {
        Some(self.body.state.len()? + self.kept.len() as u64)
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        while self.kept.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => self.kept = bytes,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            }
        }
        let allowed = ready!(self.pacer.poll_allowance(cx, self.kept.len() as u64));
        self.pacer.take(allowed);
        let allowed = usize::try_from(allowed).expect("at most the length of a slice");
        Poll::Ready(Some(Ok(Frame::data(self.kept.split_to(allowed)))))
    }
}
