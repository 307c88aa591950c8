//! The flags of `serve` that encrypt and that tell what is going on.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use lendfile::LogFormat;

use super::values;

/// Encryption.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TlsFlags {
    /// Speak TLS, with this chain of certificates in PEM form, the server's first; read again on
    /// SIGHUP
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The certificate's private key in PEM form
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
}

/// What is told of the server's work.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Observation {
    /// Append a line for each response to this file, or - for standard output; opened again on
    /// SIGHUP
    #[arg(long, value_name = "FILE")]
    pub(crate) access_log: Option<PathBuf>,

    /// What the lines look like
    #[arg(long, value_name = "FORMAT", default_value = "combined", value_parser = format())]
    pub(crate) access_log_format: LogFormat,

    /// Serve /metrics for Prometheus and /healthz on this address
    #[arg(long, value_name = "ADDR:PORT", value_parser = values::address)]
    pub(crate) metrics: Option<SocketAddr>,
}

fn format() -> impl TypedValueParser<Value = LogFormat> {
    PossibleValuesParser::new(LogFormat::ALL.iter().copied().map(LogFormat::name))
        .map(|name| name.parse().expect("clap lets only the names pass"))
}
