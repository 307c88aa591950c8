//! The handle that tells a body's maker that this connection's stream can send lent bytes.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use http::Extensions;
use lendfile_core::{Ledger, LendStream, Method, Transport};

use crate::observe::Open;

/// A connection whose stream is lendfile's.
///
/// [`serve`](crate::serve()) puts one into every request's extensions. Its presence is what makes
/// [`FileBody`](crate::FileBody) lend: where it is missing, the stream may be anybody's, which
/// would read the file page by page and wait for the disk.
///
/// Under `axum::serve` with a [`Listener`](crate::Listener), make the service by
/// `into_make_service_with_connect_info::<lendfile::Connection>()`, which has the same effect.
/// With an accept loop of your own, make it [of the stream](Connection::of) and insert it.
#[derive(Clone, Debug)]
pub struct Connection {
    ledger: Arc<Ledger>,
    method: Method,
    peer: Option<SocketAddr>,
    encryption: Encryption,
    /// That of the request it was put into, if it is observed. Weak: whoever keeps a handle must not
    /// keep the exchange from ending.
    exchange: Option<Weak<dyn Open>>,
}

/// What lies between the HTTP library and the connection's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// Nothing: bytes arrive as they were lent.
    Clear,
    /// TLS: lent bytes would be read through their mapping.
    #[cfg(feature = "tls")]
    Tls,
}

impl Connection {
    /// The handle of a stream.
    pub fn of<T: Transport>(stream: &LendStream<T>) -> Self {
        Self {
            ledger: stream.ledger().clone(),
            method: stream.transport().method(),
            peer: None,
            encryption: Encryption::Clear,
            exchange: None,
        }
    }

    /// Notes the method that was asked for on this connection; bodies read it.
    #[must_use]
    pub fn with_method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// Notes the peer's address, for whoever logs.
    #[must_use]
    pub fn with_peer(mut self, peer: Option<SocketAddr>) -> Self {
        self.peer = peer;
        self
    }

    /// The handle for one request.
    pub(crate) fn in_exchange(&self, exchange: Option<&Arc<dyn Open>>) -> Self {
        Self {
            exchange: exchange.map(Arc::downgrade),
            ..self.clone()
        }
    }

    /// The request's exchange, if it is observed and has not ended.
    pub(crate) fn exchange(&self) -> Option<Arc<dyn Open>> {
        self.exchange.as_ref()?.upgrade()
    }

    #[cfg(feature = "tls")]
    pub(crate) fn encrypted(mut self) -> Self {
        self.encryption = Encryption::Tls;
        self
    }

    /// The handle in a request's extensions, if its connection has one *that can be lent to*.
    pub fn find(extensions: &Extensions) -> Option<&Self> {
        Self::of_request(extensions).filter(|connection| !connection.is_encrypted())
    }

    /// The handle in a request's extensions, whether or not bytes can be lent to its connection.
    pub fn of_request(extensions: &Extensions) -> Option<&Self> {
        let found = extensions.get::<Self>();
        #[cfg(feature = "axum")]
        let found = found.or_else(|| {
            extensions
                .get::<axum::extract::ConnectInfo<Self>>()
                .map(|info| &info.0)
        });
        found
    }

    /// The method asked for.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The peer's address, if it is in a network and was noted.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Whether TLS is spoken, so that nothing can be lent.
    pub fn is_encrypted(&self) -> bool {
        self.encryption != Encryption::Clear
    }

    /// What has been sent on this connection, and how.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }
}
