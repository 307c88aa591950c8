//! The command line.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};
use lendfile::Method;
use lendfile_uring::Options;

use crate::backend::Backend;
use crate::bench::Bench;
use crate::failure::Failure;
use crate::probe;

/// Serves files over HTTP without copying them through user memory.
#[derive(Debug, Parser)]
#[command(name = "lendfile", version, after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  lendfile serve .                                 this directory on http://127.0.0.1:8080
  lendfile serve /srv --listen 0.0.0.0:80          to the network
  lendfile serve /srv --listen [::1]:0             on a free port, which is printed
  lendfile serve /srv --method copy                without sendfile, to compare
  lendfile probe                                   what this machine can do
  lendfile bench                                   which method is fastest here

LENDFILE_LOG=lendfile_core=debug logs each transfer to standard error.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Bench(Bench),
    Probe(Probe),
    Serve(Serve),
}

/// Serve the files below a directory, over HTTP/1.1 and cleartext HTTP/2
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Serve {
    /// The directory
    pub(crate) dir: PathBuf,

    /// Address and port; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080", value_parser = listen_addr)]
    pub(crate) listen: SocketAddr,

    /// Threads, each with its own sockets [default: one per CPU]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,

    /// How files are sent
    #[arg(long, default_value_t = Method::Auto, value_parser = method_parser())]
    pub(crate) method: Method,

    /// Watch a 1 ms ticker on each thread and print ten times a second how late it was; for `bench`
    #[arg(long, hide = true)]
    pub(crate) ticker: bool,

    /// What waits for sockets and disks
    #[arg(long, value_enum, default_value_t)]
    pub(crate) backend: Backend,

    /// Kernel workers per thread that wait for the disk, with a ring
    #[arg(long, value_name = "N", default_value_t = Options::default().workers, hide_short_help = true)]
    pub(crate) ring_workers: u32,

    /// Pipes and buffers filled ahead per thread, with a ring
    #[arg(long, value_name = "N", default_value_t = Options::default().windows, hide_short_help = true)]
    pub(crate) ring_windows: usize,

    /// Has ring-fixed read past the page cache
    #[arg(long, hide_short_help = true)]
    pub(crate) direct_io: bool,
}

impl Serve {
    pub(crate) fn ring_options(&self) -> Options {
        let mut options = Options::default();
        options.workers = self.ring_workers;
        options.windows = self.ring_windows;
        options.direct_io = self.direct_io;
        options
    }
}

/// Show what this machine can do for lendfile, by trying it
#[derive(Debug, clap::Args)]
pub(crate) struct Probe {
    /// As JSON
    #[arg(long)]
    json: bool,

    /// The directory whose filesystem is tried
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

impl Probe {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let format = if self.json {
            probe::Format::Json
        } else {
            probe::Format::Human
        };
        probe::run(&self.dir, format)
    }
}

fn listen_addr(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .map_err(|_| "give an IP address and a port, such as 127.0.0.1:8080, 0.0.0.0:80 or [::1]:0")
}

fn method_parser() -> impl TypedValueParser<Value = Method> {
    PossibleValuesParser::new(Method::ALL.map(Method::name))
        .map(|name| name.parse().expect("clap lets only the names pass"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_method_can_be_named() {
        for method in Method::ALL {
            let args = Args::parse_from(["lendfile", "serve", ".", "--method", method.name()]);
            assert!(matches!(args.command, Command::Serve(serve) if serve.method == method));
        }
    }
}
