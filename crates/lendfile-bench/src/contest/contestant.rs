//! Who takes part, and how they are started.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use crate::files::TestFile;
use crate::server::Address;
use crate::{Error, Result};

/// A server that can take part.
pub trait Contestant {
    /// Its name in tables and on the command line.
    fn name(&self) -> &str;

    /// Whether it sets the limit or is held against it.
    fn role(&self) -> Role {
        Role::Rival
    }

    /// How to start it.
    ///
    /// # Errors
    ///
    /// [`crate::Kind::Unavailable`] if it is not installed: it is then left out, not failed.
    fn launch(&self, site: &Site<'_>) -> Result<Launch>;
}

/// What a contestant is there for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The one of these with the best median is what the others are divided by.
    Limit,
    /// A server to compare.
    Rival,
}

/// What a contestant is to serve, and where.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Site<'a> {
    /// The directory to serve.
    pub directory: &'a Path,
    /// The files in it that will be asked for.
    pub targets: &'a [TestFile],
    /// A directory for configuration and the like, the contestant's own.
    pub scratch: &'a Path,
    /// The address to listen on with any port, for those that announce it.
    pub any_port: SocketAddr,
    /// The address to listen on with a free port, for those that do not.
    pub free_port: SocketAddr,
    /// Whether to watch a ticker ([`crate::ticker`]), for those that can.
    pub ticker: bool,
}

/// How a contestant is started.
#[derive(Debug)]
pub struct Launch {
    /// The command; its input and output are set by the contest.
    pub command: Command,
    /// How its address is learnt.
    pub address: Address,
}

/// lendfile, as its users run it: the `lendfile serve` command, on one thread.
#[derive(Clone, Debug)]
pub struct Lendfile {
    name: String,
    program: PathBuf,
    method: String,
    backend: Option<String>,
    role: Role,
}

impl Lendfile {
    /// One way of sending, by the `lendfile` command at `program`; `backend` as the command's own
    /// default if it is not given.
    pub fn new(program: &Path, method: &str, backend: Option<&str>) -> Self {
        let name = match backend {
            Some(backend) => format!("lendfile {backend} {method}"),
            None => format!("lendfile {method}"),
        };
        Self {
            name,
            program: program.to_owned(),
            method: method.to_owned(),
            backend: backend.map(str::to_owned),
            role: Role::Rival,
        }
    }

    /// The same with another role.
    #[must_use]
    pub fn with_role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }
}

impl Contestant for Lendfile {
    fn name(&self) -> &str {
        &self.name
    }

    fn role(&self) -> Role {
        self.role
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
            .args(["--threads", "1", "--method", &self.method]);
        if let Some(backend) = &self.backend {
            command.args(["--backend", backend]);
        }
        if site.ticker {
            command.arg(crate::ticker::FLAG);
        }
        Ok(Launch {
            command,
            address: Address::Announced,
        })
    }
}
