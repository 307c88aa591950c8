//! The backend as a server asks for it.

use lendfile_core::{Backend, Capabilities, Error, ErrorKind, Method};
use lendfile_epoll::Socket;

use crate::UringTransport;
use crate::ring::Ring;

/// Makes [`UringTransport`]s.
///
/// # Examples
///
/// ```no_run
/// # fn main() -> Result<(), lendfile_core::Error> {
/// # use lendfile_uring::{Runtime, Uring};
/// let runtime = Runtime::new()?;
/// runtime.block_on(async {
///     let uring = Uring::new()?;
///     // lendfile::serve(listener, service).with_backend(uring)?.await
/// #   _ = uring;
/// #   Ok(())
/// })
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Uring {
    capabilities: Capabilities,
}

impl Uring {
    /// The backend of the [`Runtime`](crate::Runtime) that this is called in.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Misuse`] outside of `Runtime::block_on`.
    pub fn new() -> Result<Self, Error> {
        let ring = Ring::current().ok_or_else(|| {
            let message = "not inside a lendfile_uring::Runtime";
            Error::new(ErrorKind::Misuse, message)
        })?;
        Ok(Self {
            capabilities: ring.capabilities,
        })
    }
}

impl<S: Socket + Send + 'static> Backend<S> for Uring {
    type Transport = UringTransport<S>;

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn transport(&self, socket: S, method: Method) -> Result<UringTransport<S>, Error> {
        UringTransport::new(socket, self.capabilities).with_method(method)
    }
}
