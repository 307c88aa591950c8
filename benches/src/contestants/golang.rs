//! Go's `http.FileServer`, built from `peers/go` by the Go toolchain when the race begins.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use lendfile_bench::contest::{Contestant, Launch, Site};
use lendfile_bench::server::Address;
use lendfile_bench::{Error, Result};

const SOURCE: &str = include_str!("../../peers/go/main.go");

pub(super) struct GoFileServer {
    /// The race's own program, beside which the built one is put.
    pub(super) beside: PathBuf,
}

impl GoFileServer {
    /// Builds the program where it is not yet, or anew from another source.
    fn build(&self, site: &Site<'_>) -> Result<PathBuf> {
        let program = self.beside.with_file_name("race-go-fileserver");
        let built_from = program.with_extension("go");
        if fs::read_to_string(&built_from).is_ok_and(|source| source == SOURCE) && program.is_file()
        {
            return Ok(program);
        }
        let source = site.scratch.join("main.go");
        fs::write(&source, SOURCE)
            .map_err(|error| Error::system("writing the Go file server's source", error))?;
        let built = Command::new("go")
            .args(["build", "-o"])
            .arg(&program)
            .arg(&source)
            .env("GOFLAGS", "-mod=mod")
            .output()
            .map_err(|_| Error::unavailable("not installed; apt-get install golang-go"))?;
        if !built.status.success() {
            return Err(Error::unavailable(format!(
                "go build: {}",
                String::from_utf8_lossy(&built.stderr).trim()
            )));
        }
        fs::write(built_from, SOURCE).map_err(|error| {
            Error::system("noting what the Go file server is built from", error)
        })?;
        Ok(program)
    }
}

impl Contestant for GoFileServer {
    fn name(&self) -> &'static str {
        "Go FileServer"
    }

    fn launch(&self, site: &Site<'_>) -> Result<Launch> {
        let mut command = Command::new(self.build(site)?);
        command
            .arg(site.any_port.to_string())
            .arg(site.directory)
            .env("GOMAXPROCS", "1");
        Ok(Launch {
            command,
            address: Address::Announced,
        })
    }
}
