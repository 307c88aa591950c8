//! A listener whose connections are [`LendStream`]s, for `axum::serve`.

use std::io;

use lendfile_core::{Backend, Error, LendStream, Method, MethodSet, capabilities};
use lendfile_epoll::Epoll;

use crate::accept::{self, Accept, Room};
use crate::{Connection, Limits};

/// Wraps a listener so that what it accepts can send lent bytes.
///
/// `axum::serve` gives the service no handle of the connection. Make the service with
/// `into_make_service_with_connect_info::<lendfile::Connection>()`: without it **nothing is lent**
/// and files are sent as owned chunks (correct, but copied), unless the file service or body is
/// switched to [`Lending::Always`](crate::Lending::Always).
///
/// # Examples
///
/// ```no_run
/// # async fn run() -> std::io::Result<()> {
/// use lendfile::{Connection, Listener, ServeDir};
///
/// let listener = Listener::new(tokio::net::TcpListener::bind("127.0.0.1:8080").await?);
/// let app = axum::Router::new().fallback_service(ServeDir::new("public")?);
/// axum::serve(listener, app.into_make_service_with_connect_info::<Connection>()).await
/// # }
/// ```
#[derive(Debug)]
pub struct Listener<L, B = Epoll> {
    inner: L,
    backend: B,
    method: Method,
    room: Room,
}

impl<L: Accept> Listener<L> {
    /// Wraps a listener; the method is chosen per file.
    pub fn new(inner: L) -> Self {
        Self {
            inner,
            backend: Epoll,
            method: Method::Auto,
            room: Room::default(),
        }
    }
}

impl<L: Accept, B: Backend<L::Socket>> Listener<L, B> {
    /// Sends by another backend than tokio's readiness.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if it does not have the method
    /// asked for before.
    pub fn with_backend<C: Backend<L::Socket>>(self, backend: C) -> Result<Listener<L, C>, Error> {
        let listener = Listener {
            inner: self.inner,
            backend,
            method: Method::Auto,
            room: self.room,
        };
        listener.with_method(self.method)
    }

    /// Asks for a method by name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the backend does not have it.
    pub fn with_method(mut self, method: Method) -> Result<Self, Error> {
        capabilities::choose(method, self.backend.capabilities(), MethodSet::EMPTY)?;
        self.method = method;
        Ok(self)
    }

    /// The listener below.
    pub(crate) fn get_ref(&self) -> &L {
        &self.inner
    }

    /// The address it listens on.
    ///
    /// # Errors
    ///
    /// Those of `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<L::Addr> {
        self.inner.local_addr()
    }

    /// Accepts the next connection. Never fails: see [`serve`](crate::serve()).
    ///
    /// # Cancel safety
    ///
    /// A dropped call has accepted nothing.
    pub async fn accept(&self) -> (LendStream<B::Transport>, Connection, L::Addr) {
        let (socket, addr) = accept::next(&self.inner, &self.room).await;
        self.connected(socket, addr)
    }

    /// [`accept`](Self::accept), and has the connection kept to `limits`, which the listening socket
    /// must have taken before.
    pub(crate) async fn accept_within(
        &self,
        limits: &Limits,
    ) -> (LendStream<B::Transport>, Connection, L::Addr) {
        let (socket, addr) = accept::next(&self.inner, &self.room).await;
        // Who had connected before the listening socket took them has inherited nothing. What that
        // one took can fail here only if the connection is lost, as its first read will tell.
        _ = L::limit(&socket, limits);
        self.connected(socket, addr)
    }

    fn connected(
        &self,
        socket: L::Socket,
        addr: L::Addr,
    ) -> (LendStream<B::Transport>, Connection, L::Addr) {
        let transport = self
            .backend
            .transport(socket, self.method)
            .expect("checked by Listener::with_method");
        let stream = LendStream::new(transport);
        let connection = Connection::of(&stream);
        (stream, connection, addr)
    }
}

#[cfg(feature = "axum")]
mod axum_serve {
    use axum::extract::connect_info::Connected;
    use axum::serve::IncomingStream;

    use super::*;

    impl<L: Accept + Unpin, B: Backend<L::Socket> + Unpin> axum::serve::Listener for Listener<L, B> {
        type Io = LendStream<B::Transport>;
        type Addr = L::Addr;

        async fn accept(&mut self) -> (Self::Io, Self::Addr) {
            let (stream, _, addr) = Self::accept(self).await;
            (stream, addr)
        }

        fn local_addr(&self) -> io::Result<L::Addr> {
            Self::local_addr(self)
        }
    }

    impl<L, B> Connected<IncomingStream<'_, Listener<L, B>>> for Connection
    where
        L: Accept + Unpin,
        B: Backend<L::Socket> + Unpin,
    {
        fn connect_info(stream: IncomingStream<'_, Listener<L, B>>) -> Self {
            Self::of(stream.io())
        }
    }
}
