//! The command line.
//!
//! Every flag of `serve` can also be a line of its configuration file and a variable of the
//! environment: see `config`.

pub(crate) mod observe;
pub(crate) mod serve;
pub(crate) mod values;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::bench::Bench;
use crate::failure::Failure;
use crate::probe;
pub(crate) use serve::Serve;

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
  lendfile serve --help                            everything it can do
  lendfile probe                                   what this machine can do
  lendfile bench                                   which method is fastest here

LENDFILE_LOG=lendfile_core=debug logs each transfer to standard error.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Bench(Box<Bench>),
    Generate(Generate),
    Probe(Probe),
    Serve(Box<Serve>),
}

/// Print shell completions or the manual page
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lendfile generate man > /usr/local/share/man/man1/lendfile.1
  lendfile generate bash > /etc/bash_completion.d/lendfile
  lendfile generate zsh > ~/.zfunc/_lendfile
  lendfile generate fish > ~/.config/fish/completions/lendfile.fish")]
pub(crate) struct Generate {
    /// What to print
    #[arg(value_enum)]
    pub(crate) what: Generated,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Generated {
    Bash,
    Elvish,
    Fish,
    /// The manual page, as roff
    Man,
    Zsh,
}

impl Generated {
    /// The shell, if it is one's completions.
    pub(crate) fn shell(self) -> Option<Shell> {
        match self {
            Self::Bash => Some(Shell::Bash),
            Self::Elvish => Some(Shell::Elvish),
            Self::Fish => Some(Shell::Fish),
            Self::Man => None,
            Self::Zsh => Some(Shell::Zsh),
        }
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use lendfile::Method;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
        crate::config::command().debug_assert();
    }

    #[test]
    fn every_method_can_be_named() {
        for &method in Method::ALL {
            let args = Args::parse_from(["lendfile", "serve", ".", "--method", method.name()]);
            assert!(matches!(args.command, Command::Serve(serve) if serve.method == method));
        }
    }
}
