//! lendfile, as its users run it: the `lendfile serve` command, on one thread.

use std::io;
use std::path::PathBuf;
use std::process::Command;

use lendfile_bench::contest::{Contestant, Launch, Site};
use lendfile_bench::server::Address;
use lendfile_bench::{Error, Result};

/// One way of sending.
pub(super) struct Lendfile {
    pub(super) name: &'static str,
    pub(super) program: PathBuf,
    pub(super) method: &'static str,
}

impl Contestant for Lendfile {
    fn name(&self) -> &str {
        self.name
    }

    fn launch(&self, site: &Site<'_>) -> Result<Launch> {
        if !self.program.is_file() {
            // Not "unavailable": a race without lendfile has no point.
            return Err(Error::system(
                "the lendfile command (build it with `cargo build --release`, or name it with \
                 --lendfile)",
                io::Error::from(io::ErrorKind::NotFound),
            ));
        }
        let mut command = Command::new(&self.program);
        command
            .arg("serve")
            .arg(site.directory)
            .args(["--listen", &site.any_port.to_string()])
            .args(["--threads", "1", "--method", self.method]);
        Ok(Launch {
            command,
            address: Address::Announced,
        })
    }
}
