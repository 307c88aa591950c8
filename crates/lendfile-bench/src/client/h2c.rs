//! The HTTP/2 side of the drain client: the `h2` crate on sockets that are polled without waiting.
//!
//! Nothing ever wakes anything here: every connection and body is polled in turn, with a waker that
//! does nothing, so that this client spins just as the other one does.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use http::{Request, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::connect;
use super::load::Requests;
use super::pace::Pace;
use super::{Load, Outcome};
use crate::{Error, Result};

/// Flow-control windows in bytes: so large that the server never waits for an update.
const WINDOW_BYTES: u32 = 64 << 20;

/// As [`super::drain`]; `sink` is given every byte.
pub(super) fn drain(load: &Load, sink: &mut dyn FnMut(&[u8])) -> Result<Outcome> {
    let mut requests = Requests::new(load);
    let mut cx = Context::from_waker(Waker::noop());
    let mut channels = (0..load.connections)
        .map(|_| Channel::open(load, &mut cx))
        .collect::<Result<Vec<_>>>()?;
    let mut pace = Pace::begin(load);
    for channel in &mut channels {
        channel.ask_next(load, &mut requests)?;
    }
    while pace.goes_on() && !requests.are_answered() {
        for channel in &mut channels {
            channel.turn(load, &mut requests, &mut pace, sink, &mut cx)?;
        }
        pace.pause()?;
    }
    Ok(pace.finish())
}

/// A connection with at most one stream.
struct Channel {
    connection: Connection<Spinning>,
    sender: SendRequest<Bytes>,
    awaited: Awaited,
    asked: Instant,
}

enum Awaited {
    Body { body: RecvStream, remaining: u64 },
    Head { head: ResponseFuture, length: u64 },
    Nothing,
}

impl Channel {
    fn open(load: &Load, cx: &mut Context<'_>) -> Result<Self> {
        let stream = Spinning(connect(load.address)?);
        let mut handshake = std::pin::pin!(
            Builder::new()
                .initial_window_size(WINDOW_BYTES)
                .initial_connection_window_size(WINDOW_BYTES)
                .enable_push(false)
                .handshake(stream)
        );
        let begun = Instant::now();
        loop {
            // The preface is only written; it takes one turn unless the socket's buffer is tiny.
            if let Poll::Ready(result) = handshake.as_mut().poll(cx) {
                let (sender, connection) = result.map_err(failed)?;
                return Ok(Self {
                    connection,
                    sender,
                    awaited: Awaited::Nothing,
                    asked: begun,
                });
            }
        }
    }

    fn ask_next(&mut self, load: &Load, requests: &mut Requests) -> Result<()> {
        let Some(target) = requests.next() else {
            return Ok(());
        };
        let target = &load.targets[target];
        let request = Request::get(format!("http://{}{}", load.address, target.path))
            .body(())
            .map_err(|error| Error::disqualified(format!("{}: {error}", target.path)))?;
        self.asked = Instant::now();
        let (head, _) = self.sender.send_request(request, true).map_err(failed)?;
        self.awaited = Awaited::Head {
            head,
            length: target.length,
        };
        Ok(())
    }

    fn turn(
        &mut self,
        load: &Load,
        requests: &mut Requests,
        pace: &mut Pace,
        sink: &mut dyn FnMut(&[u8]),
        cx: &mut Context<'_>,
    ) -> Result<()> {
        if let Poll::Ready(ended) = Pin::new(&mut self.connection).poll(cx) {
            ended.map_err(failed)?;
            return Err(Error::disqualified("the server closed the connection"));
        }
        loop {
            match &mut self.awaited {
                Awaited::Nothing => return Ok(()),
                Awaited::Head { head, length } => {
                    let Poll::Ready(response) = Pin::new(head).poll(cx) else {
                        return Ok(());
                    };
                    let response = response.map_err(failed)?;
                    check(&response, *length)?;
                    self.awaited = Awaited::Body {
                        remaining: *length,
                        body: response.into_body(),
                    };
                }
                Awaited::Body { body, remaining } => match body.poll_data(cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Some(data)) => {
                        let data = data.map_err(failed)?;
                        sink(&data);
                        let count = data.len();
                        body.flow_control()
                            .release_capacity(count)
                            .map_err(failed)?;
                        *remaining = remaining.checked_sub(count as u64).ok_or_else(|| {
                            Error::disqualified("bytes beyond the answer's length")
                        })?;
                        pace.received(count as u64);
                    }
                    Poll::Ready(None) if *remaining == 0 => {
                        pace.completed(self.asked.elapsed());
                        requests.answered();
                        self.awaited = Awaited::Nothing;
                        self.ask_next(load, requests)?;
                    }
                    Poll::Ready(None) => {
                        return Err(Error::disqualified(format!(
                            "the body ended with {remaining} bytes to come"
                        )));
                    }
                },
            }
        }
    }
}

fn check<B>(response: &http::Response<B>, length: u64) -> Result<()> {
    if response.status() != StatusCode::OK {
        return Err(Error::disqualified(format!(
            "status {} of HTTP/2 instead of 200",
            response.status()
        )));
    }
    let announced = response.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced != Some(length) {
        return Err(Error::disqualified(match announced {
            None => "no Content-Length".to_owned(),
            Some(other) => format!("Content-Length {other} instead of {length}"),
        }));
    }
    Ok(())
}

fn failed(error: h2::Error) -> Error {
    match error.reason() {
        Some(Reason::NO_ERROR) => Error::disqualified("the server closed the connection"),
        _ => Error::disqualified(format!("HTTP/2: {error}")),
    }
}

/// A non-blocking socket under tokio's traits, without a reactor: "not yet" is pending, and nobody
/// is woken.
struct Spinning(TcpStream);

impl AsyncRead for Spinning {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        pending(self.0.read(buf.initialize_unfilled())).map_ok(|count| buf.advance(count))
    }
}

impl AsyncWrite for Spinning {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        pending(self.0.write(buf))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shutdown(std::net::Shutdown::Write))
    }
}

fn pending<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            ) =>
        {
            Poll::Pending
        }
        result => Poll::Ready(result),
    }
}
