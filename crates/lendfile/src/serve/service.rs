//! What stands between hyper and the user's service: the connection's handle for every request,
//! the books of its clock, and the requests that hyper lets pass but HTTP does not.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tower::util::{Oneshot, ServiceExt};
use tower_service::Service;

use super::activity::{Activity, InFlight, Owed};
use super::limits::Limits;
use crate::Connection;
use crate::observe::{Head, Open, Taking, Watch};

/// The service of one connection.
pub(super) struct OnConnection<S> {
    pub(super) connection: Connection,
    pub(super) service: S,
    pub(super) activity: Arc<Activity>,
    pub(super) limits: Arc<Limits>,
    pub(super) observer: Option<Arc<dyn Watch>>,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for OnConnection<S>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone,
    B: Body<Data = Bytes>,
{
    type Response = Response<Answer<B>>;
    type Error = S::Error;
    type Future = Answering<Oneshot<S, Request<Incoming>>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let http2 = request.version() == Version::HTTP_2;
        let in_flight = Some(InFlight::begin(&self.activity, http2));
        let exchange = self
            .observer
            .clone()
            .map(|observer| observer.begin(&Head::of(&request, &self.connection)));
        let well_formed = is_well_formed(&request);
        let last = !well_formed
            || self
                .limits
                .max_requests
                .is_some_and(|most| self.activity.requests() >= most.get());
        let service = well_formed.then(|| {
            let connection = self.connection.in_exchange(exchange.as_ref());
            request.extensions_mut().insert(connection);
            self.service.clone().oneshot(request)
        });
        Answering {
            service,
            in_flight,
            exchange,
            // HTTP/2 knows no such header; its connection is told by GOAWAY.
            closes: last && !http2,
        }
    }
}

/// Whether the request names its host as RFC 9112 §3.2 and RFC 9113 §8.3.1 demand, and frames its
/// body in one way only. (hyper refuses a last coding other than `chunked`, and of a
/// request that has Content-Length and Transfer-Encoding both it drops the former and closes behind
/// the answer: RFC 9112 §6.1 allows that, and it cannot be seen here.)
fn is_well_formed<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let mut hosts = headers.get_all(HOST).iter();
    let named = match (request.version(), hosts.next(), hosts.next()) {
        (_, _, Some(_)) => false,
        (Version::HTTP_2, host, None) => {
            let authority = request.uri().authority().map(Authority::as_str);
            match (authority, host.map(HeaderValue::to_str)) {
                (None, None) | (_, Some(Err(_))) => false,
                (None, Some(Ok(name))) | (Some(name), None) => is_host(name),
                // Names of hosts are compared without case (RFC 3986 §6.2.2.1).
                (Some(authority), Some(Ok(host))) => {
                    is_host(host) && host.eq_ignore_ascii_case(authority)
                }
            }
        }
        (Version::HTTP_11, None, None) => false,
        // HTTP/1.0 has no Host.
        (_, None, None) => true,
        (_, Some(host), None) => host.to_str().is_ok_and(is_host),
    };
    named && is_framed_once(headers)
}

fn is_host(text: &str) -> bool {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (text, ""),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let named = match name {
        // Allowed for targets without an authority.
        "" => text.is_empty(),
        // Most are of this kind, and parsing the others allocates.
        _ if name.bytes().all(plain) => true,
        _ => name.parse::<Authority>().is_ok() && !name.contains('@'),
    };
    named && port.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_framed_once(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(first) = codings.next() else {
        return true;
    };
    let has_identity = first.as_bytes().split(|byte| *byte == b',').any(|coding| {
        let coding = coding.trim_ascii();
        coding.eq_ignore_ascii_case(b"identity")
    });
    codings.next().is_none() && !has_identity
}

pin_project! {
    /// The answer to come.
    pub(super) struct Answering<F> {
        // `None` for a request that is refused.
        #[pin]
        service: Option<F>,
        in_flight: Option<InFlight>,
        exchange: Option<Arc<dyn Open>>,
        closes: bool,
    }
}

impl<F, B, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes>,
{
    type Output = Result<Response<Answer<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = match this.service.as_pin_mut() {
            Some(service) => ready!(service.poll(cx))?.map(Some),
            None => bad_request(),
        };
        let mut in_flight = this.in_flight.take().expect("polled after it was ready");
        in_flight.waits_for_us(false);
        let status = response.status();
        let exchange = this.exchange.take();
        let mut response = response.map(|body| {
            let mut answer = Answer {
                body,
                in_flight,
                taking: None,
            };
            answer.taking = exchange.map(|exchange| Taking::new(exchange, status, &answer));
            answer
        });
        if *this.closes {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        Poll::Ready(Ok(response))
    }
}

fn bad_request<B>() -> Response<Option<B>> {
    let mut response = Response::new(None);
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let zero = HeaderValue::from_static("0");
    response.headers_mut().insert(CONTENT_LENGTH, zero);
    response
}

pin_project! {
    /// A body that tells its connection's clock whether it or the peer is waited for, and its
    /// exchange what came out of it.
    #[derive(Debug)]
    pub(super) struct Answer<B> {
        #[pin]
        body: Option<B>,
        in_flight: InFlight,
        taking: Option<Taking>,
    }
}

impl<B: Body<Data = Bytes>> Body for Answer<B> {
    type Data = Owed;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Owed>, B::Error>>> {
        let this = self.project();
        let Some(mut body) = this.body.as_pin_mut() else {
            return Poll::Ready(None);
        };
        let frame = body.as_mut().poll_frame(cx);
        if let (Some(taking), Poll::Ready(frame)) = (this.taking, &frame) {
            taking.polled(frame.as_ref(), body.is_end_stream());
        }
        this.in_flight.waits_for_us(frame.is_pending());
        frame.map_ok(|frame| frame.map_data(|bytes| this.in_flight.hand_over(bytes)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version, uri: &str, headers: &[(&'static str, &str)]) -> Request<()> {
        let mut request = Request::builder().version(version).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn a_request_names_its_host_once_and_validly() {
        for (headers, well_formed) in [
            (&[("host", "example.org:80")][..], true),
            (&[("host", "[::1]:80")], true),
            (&[("host", "")], true),
            (&[], false),
            (&[("host", "a"), ("host", "a")], false),
            (&[("host", "a b")], false),
            (&[("host", "user@a")], false),
            (&[("host", "a/b")], false),
            (&[("host", "a:b")], false),
            (&[("host", "a~b")], true),
            (&[("host", ":80")], false),
            (&[("host", "[::1")], false),
        ] {
            let request = request(Version::HTTP_11, "/", headers);
            assert_eq!(is_well_formed(&request), well_formed, "{headers:?}");
        }
        assert!(is_well_formed(&request(Version::HTTP_10, "/", &[])));
    }

    #[test]
    fn http2_has_an_authority_which_its_host_must_not_contradict() {
        for (uri, headers, well_formed) in [
            ("http://a/", &[][..], true),
            ("http://a/", &[("host", "a")], true),
            ("http://a/", &[("host", "b")], false),
            ("http://a/", &[("host", "A")], true),
            ("http://user@a/", &[], false),
            ("http://user@a/", &[("host", "user@a")], false),
            ("/", &[("host", "a")], true),
            ("/", &[], false),
        ] {
            let request = request(Version::HTTP_2, uri, headers);
            assert_eq!(is_well_formed(&request), well_formed, "{uri} {headers:?}");
        }
    }

    #[test]
    fn a_body_is_framed_in_one_way() {
        for (codings, well_formed) in [
            (&["chunked"][..], true),
            (&["gzip, chunked"], true),
            (&["chunked", "chunked"], false),
            (&["identity, chunked"], false),
            (&["identity"], false),
        ] {
            let mut headers = vec![("host", "a")];
            headers.extend(codings.iter().map(|coding| ("transfer-encoding", *coding)));
            let request = request(Version::HTTP_11, "/", &headers);
            assert_eq!(is_well_formed(&request), well_formed, "{codings:?}");
        }
    }
}
