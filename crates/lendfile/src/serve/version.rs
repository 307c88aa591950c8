//! Which HTTP a connection speaks: read from its first bytes, before hyper gets it.
//!
//! hyper-util's `auto` connection does that, too. But it hands hyper the bytes that it has looked at
//! alone, and after a first read so short hyper doubles its buffer: 16 KiB for each of ten thousand
//! idle connections instead of 8.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper_util::server::graceful::GracefulConnection;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::{BoxError, Converse};

/// What a client that speaks HTTP/2 begins with (RFC 9113 §3.4). Nobody else does.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

pin_project! {
    /// A connection that begins with finding out which HTTP it speaks.
    #[project = OpeningProjection]
    pub(super) enum Opening<I, F, C> {
        Reading {
            // Both are taken when the version is known.
            stream: Option<Begun<I>>,
            speak: Option<F>,
        },
        Speaking { #[pin] spoken: Spoken<C> },
        // It was shut down before it said anything.
        Over,
    }
}

pin_project! {
    /// hyper's connection. That of HTTP/2 is twice as long, so it has an allocation of its own, which
    /// the many that speak HTTP/1 do not pay for.
    #[project = SpokenProjection]
    pub(super) enum Spoken<C> {
        Http1 { #[pin] http: C },
        Http2 { http: Pin<Box<dyn Converse + Send>> },
    }
}

impl<C> Spoken<C> {
    pub(super) fn http1(http: C) -> Self {
        Self::Http1 { http }
    }

    pub(super) fn http2<D>(http: D) -> Self
    where
        D: GracefulConnection + Send + 'static,
        D::Error: Into<BoxError>,
    {
        let http = Box::pin(Hypers { http });
        Self::Http2 { http }
    }
}

pin_project! {
    /// A connection of hyper's.
    struct Hypers<C> {
        #[pin]
        http: C,
    }
}

impl<C> Future for Hypers<C>
where
    C: GracefulConnection,
    C::Error: Into<BoxError>,
{
    type Output = Result<(), BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().http.poll(cx).map_err(Into::into)
    }
}

impl<C> Converse for Hypers<C>
where
    C: GracefulConnection,
    C::Error: Into<BoxError>,
{
    fn shut_down(self: Pin<&mut Self>) {
        self.project().http.graceful_shutdown();
    }
}

impl<I, F, C> Opening<I, F, C> {
    /// `speak` is given the version and all of the stream, what was read included.
    pub(super) fn new(stream: I, speak: F) -> Self {
        Self::Reading {
            stream: Some(Begun {
                stream,
                first: [0; PREFACE.len()],
                read: 0,
                taken: 0,
            }),
            speak: Some(speak),
        }
    }
}

impl<I, F, C> Future for Opening<I, F, C>
where
    I: AsyncRead + Unpin,
    F: FnOnce(Version, Begun<I>) -> Spoken<C>,
    C: GracefulConnection,
    C::Error: Into<BoxError>,
{
    type Output = Result<(), BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.as_mut().project() {
                OpeningProjection::Reading { stream, speak } => {
                    let begun = stream.as_mut().expect("taken only with the state");
                    let version = ready!(begun.poll_version(cx))?;
                    let stream = stream.take().expect("it was there");
                    let speak = speak.take().expect("taken only with the stream");
                    let spoken = speak(version, stream);
                    self.set(Self::Speaking { spoken });
                }
                OpeningProjection::Speaking { spoken } => {
                    return match spoken.project() {
                        SpokenProjection::Http1 { http } => http.poll(cx).map_err(Into::into),
                        SpokenProjection::Http2 { http } => http.as_mut().poll(cx),
                    };
                }
                OpeningProjection::Over => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl<I, F, C> Converse for Opening<I, F, C>
where
    I: AsyncRead + Unpin,
    F: FnOnce(Version, Begun<I>) -> Spoken<C>,
    C: GracefulConnection,
    C::Error: Into<BoxError>,
{
    fn shut_down(mut self: Pin<&mut Self>) {
        match self.as_mut().project() {
            OpeningProjection::Reading { .. } => self.set(Self::Over),
            OpeningProjection::Speaking { spoken } => match spoken.project() {
                SpokenProjection::Http1 { http } => http.graceful_shutdown(),
                SpokenProjection::Http2 { http } => http.as_mut().shut_down(),
            },
            OpeningProjection::Over => {}
        }
    }
}

/// A stream of which some bytes were read already, to be read again.
#[derive(Debug)]
pub(super) struct Begun<I> {
    stream: I,
    first: [u8; PREFACE.len()],
    /// How many of `first` were read from the stream.
    read: u8,
    /// How many of those were read from here.
    taken: u8,
}

impl<I: AsyncRead + Unpin> Begun<I> {
    /// Reads until it is clear whether this is the preface of HTTP/2. Who ends before that speaks
    /// HTTP/1, in which hyper knows what to say to half a request.
    fn poll_version(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Version>> {
        loop {
            let read = usize::from(self.read);
            if self.first[..read] != PREFACE[..read] {
                return Poll::Ready(Ok(Version::Http1));
            }
            if read == PREFACE.len() {
                return Poll::Ready(Ok(Version::Http2));
            }
            let mut buf = ReadBuf::new(&mut self.first[read..]);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
            match u8::try_from(buf.filled().len()).expect("24 at most") {
                0 => return Poll::Ready(Ok(Version::Http1)),
                n => self.read += n,
            }
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Begun<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let again = &self.first[usize::from(self.taken)..usize::from(self.read)];
        let again = &again[..again.len().min(buf.remaining())];
        buf.put_slice(again);
        let again = u8::try_from(again.len()).expect("24 at most");
        self.taken += again;
        if again > 0 && buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            // What there is must be looked at first. The waker stays with the stream, and so does an
            // error.
            Poll::Pending | Poll::Ready(Err(_)) if again > 0 => Poll::Ready(Ok(())),
            read => read,
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Begun<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use futures_util::task::noop_waker;

    use super::*;

    /// Gives what it has piece by piece, and has to be waited for between two.
    struct Pieces(VecDeque<Option<&'static [u8]>>);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            match self.0.pop_front() {
                Some(None) => Poll::Pending,
                Some(Some(bytes)) => {
                    let (now, later) = bytes.split_at(bytes.len().min(buf.remaining()));
                    buf.put_slice(now);
                    if !later.is_empty() {
                        self.0.push_front(Some(later));
                    }
                    Poll::Ready(Ok(()))
                }
                None => Poll::Ready(Ok(())),
            }
        }
    }

    /// The version of a stream that comes in these pieces, and what its reader gets, read by read.
    fn open(pieces: &[Option<&'static [u8]>]) -> (Version, Vec<Vec<u8>>) {
        let mut begun = Begun {
            stream: Pieces(pieces.iter().copied().collect()),
            first: [0; PREFACE.len()],
            read: 0,
            taken: 0,
        };
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        let version = loop {
            if let Poll::Ready(version) = begun.poll_version(&mut cx) {
                break version.unwrap();
            }
        };
        let mut reads = Vec::new();
        loop {
            let mut bytes = [0; 64];
            let mut buf = ReadBuf::new(&mut bytes);
            if Pin::new(&mut begun)
                .poll_read(&mut cx, &mut buf)
                .is_pending()
            {
                continue;
            }
            if buf.filled().is_empty() {
                return (version, reads);
            }
            reads.push(buf.filled().to_vec());
        }
    }

    #[test]
    fn a_whole_request_is_one_read_although_its_beginning_was_looked_at() {
        let request = b"GET /a HTTP/1.1\r\nhost: example.org\r\n\r\n";
        let (version, reads) = open(&[Some(request)]);
        assert_eq!(version, Version::Http1);
        assert_eq!(reads, [request.to_vec()]);
    }

    #[test]
    fn the_preface_is_known_however_it_comes_and_is_read_again() {
        let (first, rest) = PREFACE.split_at(7);
        for pieces in [
            &[Some(&PREFACE[..])][..],
            &[Some(first), None, Some(rest)],
            &[None, Some(first), Some(rest), None, Some(b"frame")],
        ] {
            let (version, reads) = open(pieces);
            assert_eq!(version, Version::Http2);
            assert!(reads.concat().starts_with(PREFACE));
        }
    }

    #[test]
    fn what_only_begins_like_the_preface_is_http1_and_so_is_half_of_it() {
        for pieces in [
            &[Some(&b"PRI * HTTP/1.1\r\n\r\n"[..])][..],
            &[Some(&b"P"[..]), None, Some(b"UT / HTTP/1.1\r\n\r\n")],
            &[Some(&PREFACE[..20])],
            &[],
        ] {
            let (version, reads) = open(pieces);
            assert_eq!(version, Version::Http1);
            let sent: Vec<u8> = pieces
                .iter()
                .flatten()
                .copied()
                .flatten()
                .copied()
                .collect();
            assert_eq!(reads.concat(), sent);
        }
    }
}
