//! nginx, with the configuration in `peers/nginx.conf`.

use std::fs;
use std::process::Command;

use lendfile_bench::contest::{Contestant, Launch, Site};
use lendfile_bench::server::Address;
use lendfile_bench::{Error, Result};

/// Debian puts it where only root's PATH looks.
const PROGRAMS: [&str; 2] = ["nginx", "/usr/sbin/nginx"];

const CONFIGURATION: &str = include_str!("../../peers/nginx.conf");

pub(super) struct Nginx;

impl Contestant for Nginx {
    fn name(&self) -> &'static str {
        "nginx"
    }

    fn launch(&self, site: &Site<'_>) -> Result<Launch> {
        let program = PROGRAMS
            .into_iter()
            .find(|program| Command::new(program).arg("-v").output().is_ok())
            .ok_or_else(|| Error::unavailable("not installed; apt-get install nginx"))?;
        let configuration = CONFIGURATION
            .replace("@LISTEN@", &site.free_port.to_string())
            .replace("@ROOT@", &site.directory.to_string_lossy());
        let path = site.scratch.join("nginx.conf");
        fs::write(&path, configuration)
            .map_err(|error| Error::system("writing nginx's configuration", error))?;
        let mut command = Command::new(program);
        command
            .arg("-p")
            .arg(site.scratch)
            .arg("-c")
            .arg(&path)
            .args(["-e", "stderr"]);
        Ok(Launch {
            command,
            address: Address::Fixed(site.free_port),
        })
    }
}
