//! The race's command line.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use lendfile_bench::report::size;
use lendfile_benches::bare;
use lendfile_core::Method;

use crate::profiles::Profile;

/// Races lendfile against its peers and against the limit.
///
/// Ends with 1 if a contestant failed, if one named by --only is not installed, or if a congestion
/// control is not to be had. Ctrl-C ends the race and writes what there is.
#[derive(Clone, Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) contestant: Option<Apart>,

    /// A short race: 64k and 1m, 3 rounds of half a second, or less if that would take five minutes
    #[arg(long)]
    pub(crate) quick: bool,

    /// The race of a claim, written to benches/record
    #[arg(long, value_name = "TOPIC", conflicts_with_all = ["sizes", "conns", "cc", "only"])]
    pub(crate) record: Option<Profile>,

    /// File lengths, with k, m or g for powers of 1024; 16x64m is 16 files that are asked for in
    /// turn [default: 4k,64k,1m,1g]
    #[arg(long, value_delimiter = ',', value_parser = parse_files)]
    pub(crate) sizes: Vec<Files>,

    /// Keep-alive connections [default: 8]
    #[arg(long, value_delimiter = ',')]
    pub(crate) conns: Vec<usize>,

    /// Seconds of a contestant's turn [default: 1]
    #[arg(long, value_parser = parse_seconds)]
    pub(crate) seconds: Option<Duration>,

    /// Rounds [default: 5]
    #[arg(long)]
    pub(crate) rounds: Option<usize>,

    /// Congestion controls [default: cubic,bbr; on loopback the machine's]
    #[arg(long, value_delimiter = ',')]
    pub(crate) cc: Vec<String>,

    /// HTTP/2 in cleartext; peers that do not speak it fail
    #[arg(long)]
    pub(crate) h2: bool,

    /// The client copies bodies into its memory instead of discarding them in the kernel
    #[arg(long)]
    pub(crate) copy: bool,

    /// The files are taken out of the page cache before each turn, which ends when each has been
    /// sent once; implies --ticker
    #[arg(long)]
    pub(crate) cold: bool,

    /// lendfile's servers watch a 1 ms ticker and report how late it was at worst
    #[arg(long)]
    pub(crate) ticker: bool,

    /// Instead of racing, look at what each way does: system calls, bytes, copies
    #[arg(long)]
    pub(crate) dissect: bool,

    /// Do not try for network namespaces
    #[arg(long)]
    pub(crate) loopback: bool,

    /// Where the files are made [default: where temporary files go]
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,

    /// The lendfile command [default: the one beside this program]
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) lendfile: Option<PathBuf>,

    /// Only contestants whose name is, or begins with, one of these
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub(crate) only: Vec<String>,

    /// The contestants that the others are divided by [default: the limit]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub(crate) against: Vec<String>,

    /// Names that no contestant has are passed over: a profile names methods of every backend.
    #[arg(skip)]
    pub(crate) lenient: bool,

    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write the report as Markdown
    #[arg(long, value_name = "FILE")]
    pub(crate) md: Option<PathBuf>,

    /// Write the report as a page with plots
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,

    /// Write the first table as a picture
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Apart {
    /// actix-files
    #[command(hide = true)]
    Actix {
        #[command(flatten)]
        at: At,
    },
    /// Compare two JSON reports of one race: do their ratios agree within 15 %, or say they do not?
    Compare {
        /// A report
        one: PathBuf,
        /// Another
        other: PathBuf,
    },
    /// The limit
    #[command(hide = true)]
    Bare {
        #[command(flatten)]
        at: At,
        #[arg(long)]
        method: bare::Method,
    },
    /// hyper alone
    #[command(hide = true)]
    Memory {
        #[command(flatten)]
        at: At,
    },
    /// lendfile's futures, without hyper
    #[command(hide = true)]
    Plain {
        #[command(flatten)]
        at: At,
        #[arg(long)]
        method: Method,
    },
    /// tower-http on axum
    #[command(hide = true)]
    ServeDir {
        #[command(flatten)]
        at: At,
    },
    /// hyper-staticfile
    #[command(hide = true)]
    Staticfile {
        #[command(flatten)]
        at: At,
    },
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct At {
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    #[arg(long)]
    pub(crate) directory: PathBuf,
}

/// Files of one length.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Files {
    pub(crate) count: usize,
    pub(crate) length: u64,
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            1 => write!(f, "a file of {}", size(self.length)),
            count => write!(f, "{count} files of {}", size(self.length)),
        }
    }
}

impl Arguments {
    pub(crate) fn files(&self) -> Vec<Files> {
        let lengths: &[u64] = match (&self.sizes[..], self.quick) {
            ([], true) => &[64 << 10, 1 << 20],
            ([], false) => &[4 << 10, 64 << 10, 1 << 20, 1 << 30],
            (sizes, _) => return sizes.to_vec(),
        };
        let one = |&length| Files { count: 1, length };
        lengths.iter().map(one).collect()
    }

    pub(crate) fn connections(&self) -> Vec<usize> {
        match &self.conns[..] {
            [] => vec![8],
            conns => conns.to_vec(),
        }
    }
}

fn parse_files(text: &str) -> Result<Files, String> {
    let (count, length) = text.split_once('x').unwrap_or(("1", text));
    match count.parse() {
        Ok(count) if count > 0 => Ok(Files {
            count,
            length: parse_length(length)?,
        }),
        _ => Err("expected a number of files before the x, as in 16x64m".to_owned()),
    }
}

fn parse_length(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "expected a number of bytes, like 4096, 64k, 1m or 2g".to_owned())
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .map_err(|_| "expected seconds, like 2 or 0.5")?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("expected more than no seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_powers_of_1024_and_may_be_of_several_files() {
        let files = |count, length| Ok(Files { count, length });
        assert_eq!(parse_files("64k"), files(1, 64 << 10));
        assert_eq!(parse_files("16x64m"), files(16, 64 << 20));
        assert_eq!(parse_files("17"), files(1, 17));
        for wrong in ["", "k", "-1", "1.5m", "99999999999g", "x1m", "0x1m"] {
            assert!(parse_files(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_turn_has_a_positive_length() {
        assert_eq!(parse_seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "-1", "inf", "NaN", "x"] {
            assert!(parse_seconds(wrong).is_err(), "{wrong:?}");
        }
    }
}
