//! The flags of `serve`.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use lendfile::{Limits, Method, RateLimit};
use lendfile_uring::Options;

use crate::backend::Backend;

use super::observe::{Observation, TlsFlags};
use super::values::{self, CacheRule, Listen, OrOff};

const EXAMPLES: &str = "\
Examples:
  lendfile serve .                                      this directory, for this machine
  lendfile serve /srv/www --listen 0.0.0.0:80 --listen [::]:80
  lendfile serve dist --spa                             an app with client-side routes
  lendfile serve . --cors --header 'X-Robots-Tag: noindex'
  lendfile serve /srv --listen 0.0.0.0:443 --tls-cert chain.pem --tls-key key.pem
  lendfile serve /srv --access-log - --access-log-format json --metrics 127.0.0.1:9100
  lendfile serve /srv --listen unix:/run/lendfile.sock --unix-mode 660
  lendfile serve /srv --listen 0.0.0.0:80 --user www-data
  lendfile serve --config /etc/lendfile.toml --print-config

Settings come from the command line, else from the environment (LENDFILE_LISTEN, LENDFILE_IDLE_TIMEOUT,
…), else from the file given by --config, whose keys are the flags' names:
  dir = \"/srv/www\"
  listen = [\"0.0.0.0:80\", \"[::]:80\"]
  idle-timeout = \"30s\"
  spa = true

Signals: SIGTERM and SIGINT let what runs finish (a second one does not); SIGHUP reopens the access log and
reads the certificate again. Sockets given by systemd (LISTEN_FDS) are served in place of the default address.";

/// Serve the files below a directory, over HTTP/1.1 and HTTP/2, in clear or through TLS
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Serve {
    /// The directory
    pub(crate) dir: PathBuf,

    /// Address and port, name and port, or unix:PATH; port 0 takes a free one. Repeatable
    #[arg(
        long,
        value_name = "ADDR:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:8080"
    )]
    pub(crate) listen: Vec<Listen>,

    /// Permissions of Unix sockets, in octal
    #[arg(long, value_name = "MODE", default_value = "600", value_parser = values::mode)]
    pub(crate) unix_mode: u32,

    /// Threads, each with its own sockets [default: one per CPU]
    #[arg(long, value_name = "N", value_parser = values::positive)]
    pub(crate) threads: Option<NonZeroUsize>,

    /// How files are sent
    #[arg(long, default_value_t = Method::Auto, value_parser = values::method())]
    pub(crate) method: Method,

    /// Watch a 1 ms ticker on each thread and print ten times a second how late it was; for `bench`
    #[arg(long, hide = true)]
    pub(crate) ticker: bool,

    /// What waits for sockets and disks [default: epoll, or a ring for a method that needs one]
    #[arg(long, value_enum)]
    pub(crate) backend: Option<Backend>,

    /// Kernel workers per thread that wait for the disk, with a ring
    #[arg(long, value_name = "N", default_value_t = Options::default().workers, hide_short_help = true,
          value_parser = values::whole::<u32>)]
    pub(crate) ring_workers: u32,

    /// Pipes and buffers filled ahead per thread, with a ring
    #[arg(long, value_name = "N", default_value_t = Options::default().windows, hide_short_help = true,
          value_parser = values::whole::<usize>)]
    pub(crate) ring_windows: usize,

    /// Has ring-fixed read past the page cache
    #[arg(long, num_args = 0..=1, require_equals = true, value_name = "BOOL", hide_short_help = true,
          default_value = "false", default_missing_value = "true")]
    pub(crate) direct_io: bool,

    #[command(flatten, next_help_heading = "Responses")]
    pub(crate) responses: Responses,

    #[command(flatten, next_help_heading = "Limits")]
    pub(crate) limits: LimitFlags,

    #[command(flatten, next_help_heading = "Encryption")]
    pub(crate) tls: TlsFlags,

    #[command(flatten, next_help_heading = "Observation")]
    pub(crate) observation: Observation,

    #[command(flatten, next_help_heading = "Process")]
    pub(crate) process: Process,
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

/// What is answered.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Responses {
    /// For an app that does its own routing: this page where nothing is found
    #[arg(long, num_args = 0..=1, require_equals = true, value_name = "PAGE",
          default_missing_value = "index.html", conflicts_with = "not_found")]
    pub(crate) spa: Option<PathBuf>,

    /// This page, with status 404, where nothing is found
    #[arg(long, value_name = "PAGE")]
    pub(crate) not_found: Option<PathBuf>,

    /// The file that is served for a directory; the first that is there. Repeatable; '' for none
    #[arg(long, value_name = "NAME", default_value = "index.html", value_parser = values::name_or_none())]
    pub(crate) index: Vec<PathBuf>,

    /// List directories without such a file, as HTML or JSON
    #[arg(long, num_args = 0..=1, require_equals = true, value_name = "BOOL",
          default_value = "false", default_missing_value = "true")]
    pub(crate) listing: bool,

    /// Serve names that begin with a dot, too
    #[arg(long, num_args = 0..=1, require_equals = true, value_name = "BOOL",
          default_value = "false", default_missing_value = "true")]
    pub(crate) dotfiles: bool,

    /// Symbolic links that are followed: inside, which stay below the directory, or refuse: none
    #[arg(long, value_name = "WHICH", default_value = "inside")]
    pub(crate) symlinks: SymlinkRule,

    /// Send name.br, name.zst or name.gz where the client takes it
    #[arg(long, num_args = 0..=1, require_equals = true, value_name = "BOOL",
          default_value = "false", default_missing_value = "true")]
    pub(crate) precompressed: bool,

    /// Cache-Control: 'max-age=60' for all files, '*.css: max-age=60' or 'image/*: max-age=60' for
    /// some, the first that matches. Repeatable
    #[arg(long, value_name = "[PATTERN:] VALUE")]
    pub(crate) cache_control: Vec<CacheRule>,

    /// Let names with a hash in them (app.3f2a9c1b.js) be cached for ever
    #[arg(long, num_args = 0..=1, require_equals = true, value_name = "BOOL",
          default_value = "false", default_missing_value = "true")]
    pub(crate) immutable_hashed: bool,

    /// Let scripts of any origin read the answers, headers included; a --header of this kind
    /// (Access-Control-Allow-Origin, …) is in all answers, in place of what is sent for it
    #[arg(long, num_args = 0..=1, require_equals = true, value_name = "BOOL",
          default_value = "false", default_missing_value = "true")]
    pub(crate) cors: bool,

    /// A header for every file. Repeatable
    #[arg(long, value_name = "NAME: VALUE", value_parser = values::header)]
    pub(crate) header: Vec<(HeaderName, HeaderValue)>,

    /// Have browsers save files instead of showing them
    #[arg(long, num_args = 0..=1, require_equals = true, value_name = "BOOL",
          default_value = "false", default_missing_value = "true")]
    pub(crate) download: bool,

    /// Copy what is sent, so that files may be overwritten in place meanwhile
    #[arg(long, num_args = 0..=1, require_equals = true, value_name = "BOOL",
          default_value = "false", default_missing_value = "true")]
    pub(crate) stable: bool,
}

/// Which symbolic links are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SymlinkRule {
    Inside,
    Refuse,
}

/// What connections may take.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LimitFlags {
    /// Connections at a time; further ones wait [default: three quarters of the descriptors]
    #[arg(long, value_name = "N", value_parser = values::positive)]
    pub(crate) max_connections: Option<NonZeroUsize>,

    /// Connections at a time from one IP address, or one /64 of IPv6; further ones are closed
    #[arg(long, value_name = "N|off", default_value = "off", value_parser = values::count)]
    max_connections_per_address: OrOff<NonZeroU64>,

    /// Requests on one connection
    #[arg(long, value_name = "N|off", default_value = "off", value_parser = values::count)]
    max_requests: OrOff<NonZeroU64>,

    /// For a request's head to arrive
    #[arg(long, value_name = "TIME|off", default_value = "30s", value_parser = values::timeout)]
    header_timeout: OrOff<Duration>,

    /// Between a response and the next request
    #[arg(long, value_name = "TIME|off", default_value = "75s", value_parser = values::timeout)]
    idle_timeout: OrOff<Duration>,

    /// For a client to accept something of what there is for it
    #[arg(long, value_name = "TIME|off", default_value = "60s", value_parser = values::timeout)]
    progress_timeout: OrOff<Duration>,

    /// That a client must accept per second, looked at from 10 s on
    #[arg(long, value_name = "BYTES|off", default_value = "off", value_parser = values::rate)]
    min_rate: OrOff<NonZeroU64>,

    /// That each response sends per second at most, after a burst of a tenth of it
    #[arg(long, value_name = "BYTES|off", default_value = "off", value_parser = values::rate)]
    rate_limit: OrOff<NonZeroU64>,

    /// That the kernel may hold for a client beyond what is under way to it
    #[arg(long, value_name = "BYTES|off", default_value = "128KiB", value_parser = values::unsent)]
    unsent_bytes: OrOff<NonZeroU32>,

    /// Bytes of a request's head
    #[arg(long, value_name = "BYTES", default_value = "64KiB", value_parser = values::head_bytes)]
    max_header_bytes: u64,

    /// Header fields of a request
    #[arg(long, value_name = "N", default_value = "100", value_parser = values::whole::<usize>)]
    max_headers: usize,

    /// HTTP/2 streams at a time on one connection
    #[arg(long, value_name = "N", default_value = "128", value_parser = values::whole::<u32>)]
    http2_streams: u32,

    /// For running responses after the first signal to stop
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::duration)]
    pub(crate) grace: Duration,
}

impl LimitFlags {
    /// What one connection may take.
    pub(crate) fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        limits.header_timeout = self.header_timeout.0;
        limits.idle_timeout = self.idle_timeout.0;
        limits.progress_timeout = self.progress_timeout.0;
        limits.min_rate = self.min_rate.0;
        limits.unsent_bytes = self.unsent_bytes.0;
        limits.max_requests = self.max_requests.0;
        limits.max_header_bytes = usize::try_from(self.max_header_bytes).unwrap_or(usize::MAX);
        limits.max_headers = self.max_headers;
        limits.http2_streams = self.http2_streams;
        limits
    }

    /// How fast a response may be sent.
    pub(crate) fn rate(&self) -> Option<RateLimit> {
        self.rate_limit.0.map(RateLimit::new)
    }

    /// How many connections an address may have.
    pub(crate) fn per_address(&self) -> Option<NonZeroU32> {
        let most = self.max_connections_per_address.0?;
        Some(most.try_into().unwrap_or(NonZeroU32::MAX))
    }
}

/// What the process is.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Process {
    /// Become this user, and its groups, once the sockets are open
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,

    /// Let the kernel (Landlock) confine the process to the directory: auto where it can, on or
    /// fail, off
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) sandbox: Sandbox,

    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Print all settings as such a file, with where each comes from, and end
    #[arg(long)]
    pub(crate) print_config: bool,
}

/// When to confine the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Sandbox {
    Auto,
    Off,
    On,
}
