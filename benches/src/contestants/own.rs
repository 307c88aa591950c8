//! The contestants that are subcommands of this program.

use std::path::PathBuf;
use std::process::Command;

use clap::ValueEnum;
use lendfile_bench::Result;
use lendfile_bench::contest::{Contestant, Launch, Role, Site};
use lendfile_bench::server::Address;

use crate::bare::Method;

/// A bare responder.
pub(super) struct Bare {
    pub(super) name: &'static str,
    pub(super) program: PathBuf,
    pub(super) method: Method,
    pub(super) role: Role,
}

impl Contestant for Bare {
    fn name(&self) -> &str {
        self.name
    }

    fn role(&self) -> Role {
        self.role
    }

    fn launch(&self, site: &Site<'_>) -> Result<Launch> {
        let mut command = Command::new(&self.program);
        command.arg("bare").arg("--directory").arg(site.directory);
        command.args(["--listen", &site.any_port.to_string()]);
        if let Some(method) = self.method.to_possible_value() {
            command.args(["--method", method.get_name()]);
        }
        Ok(Launch {
            command,
            address: Address::Announced,
        })
    }
}

/// A server made of a Rust library.
pub(super) struct Rival {
    pub(super) name: &'static str,
    pub(super) program: PathBuf,
    pub(super) subcommand: &'static [&'static str],
}

impl Contestant for Rival {
    fn name(&self) -> &str {
        self.name
    }

    fn launch(&self, site: &Site<'_>) -> Result<Launch> {
        let mut command = Command::new(&self.program);
        command.args(self.subcommand);
        command.args(["--listen", &site.any_port.to_string()]);
        command.arg("--directory").arg(site.directory);
        Ok(Launch {
            command,
            address: Address::Announced,
        })
    }
}
