//! The services' future: most answers are there at once and need none.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;

use crate::FileBody;

/// The response of a file service; ready at once for a file that is kept.
pub struct ResponseFuture(Kind);

enum Kind {
    Opening(Pin<Box<dyn Future<Output = Response<FileBody>> + Send>>),
    Ready(Option<Response<FileBody>>),
}

impl ResponseFuture {
    pub(super) fn ready(response: Response<FileBody>) -> Self {
        Self(Kind::Ready(Some(response)))
    }

    pub(super) fn opening(
        future: impl Future<Output = Response<FileBody>> + Send + 'static,
    ) -> Self {
        Self(Kind::Opening(Box::pin(future)))
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<FileBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Kind::Opening(opening) => opening.as_mut().poll(cx).map(Ok),
            Kind::Ready(response) => {
                Poll::Ready(Ok(response.take().expect("polled after it was ready")))
            }
        }
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
