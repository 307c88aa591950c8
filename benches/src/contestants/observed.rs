//! `lendfile epoll auto` with something on: what an access log or metrics cost.

use std::path::Path;

use lendfile_bench::Result;
use lendfile_bench::contest::{Contestant, Launch, Lendfile, Site};

/// What is on.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    AccessLog,
    JsonLog,
    Metrics,
}

/// `lendfile auto`, and that.
pub(super) struct Observed {
    lendfile: Lendfile,
    what: What,
}

impl Observed {
    pub(super) fn all(program: &Path) -> [Self; 3] {
        [What::AccessLog, What::JsonLog, What::Metrics].map(|what| Self {
            lendfile: Lendfile::new(program, "auto", Some("epoll")),
            what,
        })
    }
}

impl Contestant for Observed {
    fn name(&self) -> &str {
        match self.what {
            What::AccessLog => "with access log",
            What::JsonLog => "with JSON log",
            What::Metrics => "with metrics",
        }
    }

    fn launch(&self, site: &Site<'_>) -> Result<Launch> {
        let mut launch = self.lendfile.launch(site)?;
        let command = &mut launch.command;
        match self.what {
            What::AccessLog | What::JsonLog => {
                let format = match self.what {
                    What::JsonLog => "json",
                    _ => "combined",
                };
                let log = site.scratch.join("access.log");
                command.arg("--access-log").arg(log);
                command.args(["--access-log-format", format]);
            }
            What::Metrics => {
                command.args(["--metrics", &site.any_port.to_string()]);
            }
        }
        Ok(launch)
    }
}
