//! The backend as a server asks for it.

use lendfile_core::{Backend, Capabilities, Error, Method};

use crate::{EpollTransport, Socket};

/// Makes [`EpollTransport`]s.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epoll;

impl<S: Socket + Send + 'static> Backend<S> for Epoll {
    type Transport = EpollTransport<S>;

    fn capabilities(&self) -> &Capabilities {
        EpollTransport::<S>::backend_capabilities()
    }

    fn transport(&self, socket: S, method: Method) -> Result<EpollTransport<S>, Error> {
        EpollTransport::new(socket).with_method(method)
    }
}
