//! The handle that tells a body's maker that this connection's stream can send lent bytes.

use std::sync::Arc;

use http::Extensions;
use lendfile_core::{Ledger, LendStream, Method, Transport};

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
}

impl Connection {
    /// The handle of a stream.
    pub fn of<T: Transport>(stream: &LendStream<T>) -> Self {
        Self {
            ledger: stream.ledger().clone(),
            method: stream.transport().method(),
        }
    }

    /// Notes the method that was asked for on this connection; bodies read it.
    #[must_use]
    pub fn with_method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// The handle in a request's extensions, if its connection has one.
    pub fn find(extensions: &Extensions) -> Option<&Self> {
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

    /// What has been sent on this connection, and how.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }
}
