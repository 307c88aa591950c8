//! The contestants that are subcommands of this program.

use std::path::PathBuf;
use std::process::Command;

use clap::ValueEnum;
use lendfile_bench::Result;
use lendfile_bench::contest::{Contestant, Launch, Role, Site};
use lendfile_bench::server::Address;

use crate::bare::Method;

/// The limit, and the same server with a copying body.
pub(super) struct Bare {
    pub(super) name: &'static str,
    pub(super) program: PathBuf,
    pub(super) method: Method,
    pub(super) limit: bool,
}

impl Contestant for Bare {
    fn name(&self) -> &str {
        self.name
    }

    fn role(&self) -> Role {
        if self.limit { Role::Limit } else { Role::Rival }
    }

    fn launch(&self, site: &Site<'_>) -> Result<Launch> {
        let mut command = Command::new(&self.program);
        command
            .args(["bare", "--listen", &site.any_port.to_string(), "--file"])
            .arg(site.directory.join(site.file_name));
        if let Some(method) = self.method.to_possible_value() {
            command.args(["--method", method.get_name()]);
        }
        Ok(Launch {
            command,
            address: Address::Announced,
        })
    }
}

/// tower-http on axum.
pub(super) struct ServeDir {
    pub(super) program: PathBuf,
}

impl Contestant for ServeDir {
    fn name(&self) -> &'static str {
        "tower-http ServeDir"
    }

    fn launch(&self, site: &Site<'_>) -> Result<Launch> {
        let mut command = Command::new(&self.program);
        command
            .args(["serve-dir", "--listen", &site.any_port.to_string()])
            .arg("--directory")
            .arg(site.directory);
        Ok(Launch {
            command,
            address: Address::Announced,
        })
    }
}
