//! TLS by rustls: certificates from PEM files, read again on request, and the handshake.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use futures_util::future::{Either, select};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::rustls::Error;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;

/// A certificate and its key, for [`Serve::with_tls`](crate::Serve::with_tls).
///
/// TLS 1.2 and 1.3 with rustls' defaults; ALPN offers `h2` and `http/1.1`. Clones share the
/// certificate, so that [`Tls::reload`] changes it for every server at once.
///
/// Encryption happens in user memory, so **nothing is lent** to such connections: bodies stream
/// owned chunks, and transfers report [`Method::Copy`](crate::Method::Copy).
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    certificate: Arc<Certificate>,
}

impl Tls {
    /// Reads a chain of certificates (the server's first) and a private key from PEM files.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, holds nothing of its kind, or the two do not belong together;
    /// the message names the file.
    pub fn from_pem_files(
        certificates: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> io::Result<Self> {
        let (certificates, key) = (certificates.into(), key.into());
        let certificate = Arc::new(Certificate {
            current: RwLock::new(read(&certificates, &key)?),
            certificates,
            key,
        });
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_cert_resolver(certificate.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            config: Arc::new(config),
            certificate,
        })
    }

    /// Reads the files again. Connections that have shaken hands are not touched.
    ///
    /// # Errors
    ///
    /// As [`Tls::from_pem_files`]; the old certificate stays in use then.
    pub fn reload(&self) -> io::Result<()> {
        let certificate = &self.certificate;
        let read = read(&certificate.certificates, &certificate.key)?;
        *certificate
            .current
            .write()
            .unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    /// Shakes hands, unless that is not done by the deadline or the server shuts down.
    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        deadline: Option<Instant>,
        shutdown: WaitForCancellationFutureOwned,
    ) -> io::Result<TlsStream<S>> {
        let handshake = async {
            let accept = tokio_rustls::TlsAcceptor::from(self.config.clone()).accept(stream);
            match deadline {
                Some(deadline) => tokio::time::timeout_at(deadline.into(), accept).await?,
                None => accept.await,
            }
        };
        match select(pin!(handshake), pin!(shutdown)).await {
            Either::Left((stream, _)) => stream,
            Either::Right(_) => Err(io::ErrorKind::Interrupted.into()),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// The certificate that new connections get.
#[derive(Debug)]
struct Certificate {
    certificates: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(current.clone())
    }
}

fn read(certificates: &Path, key: &Path) -> io::Result<Arc<CertifiedKey>> {
    let chain = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .and_then(|chain| match chain.is_empty() {
            true => Err(pem::Error::NoItemsFound),
            false => Ok(chain),
        })
        .map_err(|error| unusable(certificates, "certificate", error))?;
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, "private key", error))?;
    let pair =
        CertifiedKey::from_der(chain, private, &ring::default_provider()).map_err(|error| {
            let (chain, key) = (certificates.display(), key.display());
            io::Error::other(match error {
                Error::InconsistentKeys(_) => format!(
                    "{key} is not the key of {chain}'s first certificate: they do not belong together"
                ),
                Error::InvalidCertificate(_) => {
                    format!("{chain}: its first certificate cannot be read")
                }
                _ => format!("{key}: not a key of a kind that is known (RSA, ECDSA, Ed25519)"),
            })
        })?;
    Ok(Arc::new(pair))
}

fn unusable(path: &Path, what: &str, error: pem::Error) -> io::Error {
    let path = path.display();
    match error {
        pem::Error::NoItemsFound => io::Error::other(format!("{path}: no {what} in PEM form")),
        pem::Error::Io(error) => io::Error::new(error.kind(), format!("{path}: {error}")),
        error => io::Error::other(format!("{path}: {error}")),
    }
}
