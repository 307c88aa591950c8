//! `--cors`: answers that scripts of any origin may read (Fetch, "HTTP-CORS protocol").
//!
//! Around the directory's service, since errors, listings and preflights need the headers, too.
//! (tower-http's layer answers each OPTIONS with 200 and no `Allow`, and overrules `--header`.)

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use lendfile::service::ResponseFuture;
use lendfile::{FileBody, ServeDir};
use tower::Service;

use crate::failure::Failure;

/// What a script may send, beside what it always may.
const ALLOWED: &str = "Cache-Control, Content-Type, If-Match, If-Modified-Since, If-None-Match, If-Range, If-Unmodified-Since, Range";

/// What a script may read, beside what it always may; the last two only older browsers have to be
/// told.
const EXPOSED: &str = "Accept-Ranges, Content-Disposition, Content-Encoding, Content-Range, Date, ETag, Content-Length, Last-Modified";

/// A day, in seconds: no browser keeps a preflight's answer for longer.
const MAX_AGE: &str = "86400";

type Field = (HeaderName, HeaderValue);

/// The headers.
#[derive(Debug)]
pub(super) struct Cors {
    preflight: [Field; 3],
    every: [Field; 2],
    /// The user's, in every answer: `--header` alone is for files.
    own: Vec<Field>,
}

impl Cors {
    /// Those that `headers` of the user's do not replace, and of these the ones of the kind.
    ///
    /// # Errors
    ///
    /// Wrong usage: credentials, which browsers never send for an answer to any origin.
    pub(super) fn beside(headers: &[Field]) -> Result<Self, Failure> {
        let (own, others): (Vec<_>, Vec<_>) = headers
            .iter()
            .cloned()
            .partition(|(name, _)| name.as_str().starts_with("access-control-"));
        let last = |wanted: HeaderName| {
            let found = own.iter().rev().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| value.as_bytes())
        };
        let any = last(ACCESS_CONTROL_ALLOW_ORIGIN).is_none_or(|origin| origin == b"*");
        if any && last(ACCESS_CONTROL_ALLOW_CREDENTIALS) == Some(b"true") {
            return Err(Failure::usage(
                "--cors: Access-Control-Allow-Credentials has no effect for any origin (*); name one by --header 'Access-Control-Allow-Origin: https://app.example'",
            ));
        }
        let mut exposed = EXPOSED.to_owned();
        for (name, _) in &others {
            exposed = exposed + ", " + name.as_str();
        }
        let exposed = exposed.try_into().expect("names of headers are visible");
        let fixed = HeaderValue::from_static;
        Ok(Self {
            preflight: [
                (ACCESS_CONTROL_ALLOW_METHODS, fixed("GET, HEAD")),
                (ACCESS_CONTROL_ALLOW_HEADERS, fixed(ALLOWED)),
                (ACCESS_CONTROL_MAX_AGE, fixed(MAX_AGE)),
            ],
            every: [
                (ACCESS_CONTROL_ALLOW_ORIGIN, fixed("*")),
                (ACCESS_CONTROL_EXPOSE_HEADERS, exposed),
            ],
            own,
        })
    }

    fn add(&self, headers: &mut HeaderMap, is_preflight: bool) {
        let preflight = self.preflight.iter().filter(|_| is_preflight);
        for (name, value) in preflight.chain(&self.every).chain(&self.own) {
            // The last one alone: twice would be none for browsers.
            headers.insert(name.clone(), value.clone());
        }
    }
}

/// The directory, with the headers if they were asked for.
#[derive(Clone, Debug)]
pub(super) struct WithCors {
    pub(super) site: ServeDir,
    pub(super) cors: Option<Arc<Cors>>,
}

impl<B> Service<Request<B>> for WithCors {
    type Response = Response<FileBody>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<B>>::poll_ready(&mut self.site, cx)
    }

    fn call(&mut self, request: Request<B>) -> Answering {
        let cors = self.cors.clone().map(|cors| {
            let asks = |name| request.headers().contains_key(name);
            // Fetch, "CORS-preflight request".
            let is_preflight = request.method() == Method::OPTIONS
                && asks(ORIGIN)
                && asks(ACCESS_CONTROL_REQUEST_METHOD);
            (cors, is_preflight)
        });
        Answering {
            answer: self.site.call(request),
            cors,
        }
    }
}

/// The answer to come.
#[derive(Debug)]
pub(super) struct Answering {
    answer: ResponseFuture,
    /// And whether it is to a preflight.
    cors: Option<(Arc<Cors>, bool)>,
}

impl Future for Answering {
    type Output = Result<Response<FileBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = ready!(Pin::new(&mut self.answer).poll(cx))?;
        if let Some((cors, is_preflight)) = &self.cors {
            cors.add(response.headers_mut(), *is_preflight);
        }
        Poll::Ready(Ok(response))
    }
}
