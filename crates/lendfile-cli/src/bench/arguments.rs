//! The command line of `lendfile bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use lendfile::Method;

use super::ways;

const EXAMPLES: &str = "\
Examples:
  lendfile bench                                   every method, files of 1k to 1m
  lendfile bench --dir /srv/files                  with the files that are there
  lendfile bench --dir /mnt --sizes 1g --cold      a disk, not the page cache
  lendfile bench --methods sendfile,copy --conns 1,8,64
  lendfile bench --html report.html                the same as a page with plots

The server and the client each get a core. As root, and where users may make
namespaces, they also get a network of their own (veth, MTU 1500).";

/// Compare the methods and backends on this machine
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Bench {
    /// Serve the files of this directory in turn; with --sizes, files made in it
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// Lengths of the files to make, with k, m or g for powers of 1024 [default: 1k,16k,64k,1m]
    #[arg(long, value_delimiter = ',', value_parser = parse_length)]
    pub(crate) sizes: Vec<u64>,

    /// Keep-alive connections
    #[arg(long, value_delimiter = ',', default_value = "8", value_parser = parse_count)]
    pub(crate) conns: Vec<usize>,

    /// Methods, or all that there are here
    #[arg(long, value_delimiter = ',', default_value = ways::ALL, value_parser = methods())]
    pub(crate) methods: Vec<String>,

    /// Backends, separated by commas [default: all that there are here]
    #[arg(long, value_delimiter = ',', value_parser = ways::BACKENDS)]
    pub(crate) backend: Vec<String>,

    /// Take the files out of the page cache before each turn, which ends when each was sent once,
    /// and watch how long the server's thread is blocked
    #[arg(long)]
    pub(crate) cold: bool,

    /// HTTP/2 in cleartext instead of HTTP/1.1
    #[arg(long)]
    pub(crate) h2: bool,

    /// Seconds of a turn
    #[arg(long, default_value = "0.5", value_parser = parse_seconds)]
    pub(crate) seconds: Duration,

    /// Rounds, in each of which every way has a turn
    #[arg(long, default_value = "5", value_parser = parse_count)]
    pub(crate) rounds: usize,

    /// Congestion controls [default: cubic; on loopback the machine's]
    #[arg(long, value_delimiter = ',')]
    pub(crate) cc: Vec<String>,

    /// Do not try for a network of its own
    #[arg(long)]
    pub(crate) loopback: bool,

    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write the report as a page with plots
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,

    /// Write the report as Markdown
    #[arg(long, value_name = "FILE")]
    pub(crate) md: Option<PathBuf>,

    /// Print the ways that there are here, one a line
    #[arg(long, hide = true)]
    pub(crate) list: bool,
}

impl Bench {
    pub(crate) fn sizes(&self) -> Vec<u64> {
        match &self.sizes[..] {
            [] => vec![1 << 10, 16 << 10, 64 << 10, 1 << 20],
            sizes => sizes.to_vec(),
        }
    }
}

fn methods() -> PossibleValuesParser {
    let names = Method::ALL.iter().copied().map(Method::name);
    PossibleValuesParser::new([ways::ALL].into_iter().chain(names))
}

fn parse_count(text: &str) -> Result<usize, &'static str> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("give a number above zero"),
    }
}

fn parse_length(text: &str) -> Result<u64, &'static str> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    match digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
    {
        Some(length) if length > 0 => Ok(length),
        _ => Err("give a number of bytes, such as 4096, 64k, 1m or 2g"),
    }
}

fn parse_seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().map_err(|_| "give seconds, such as 2 or 0.5")?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("give more than no seconds"),
    }
}
