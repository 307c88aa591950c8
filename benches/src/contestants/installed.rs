//! Servers that Debian packages, each with a configuration in `peers/`: one worker, sendfile on, no
//! access log, connections kept.

use std::fs;
use std::process::Command;

use lendfile_bench::contest::{Contestant, Launch, Site};
use lendfile_bench::server::Address;
use lendfile_bench::{Error, Result};

/// A server with a configuration file.
pub(super) struct Installed {
    name: &'static str,
    /// Where it may be: Debian puts some where only root's PATH looks.
    programs: &'static [&'static str],
    /// The argument that makes it print its version.
    version: &'static str,
    package: &'static str,
    configuration: &'static str,
    /// Its arguments; `@CONFIGURATION@` and `@SCRATCH@` are filled in.
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

const ALL: [Installed; 4] = [
    Installed {
        name: "nginx",
        programs: &["nginx", "/usr/sbin/nginx"],
        version: "-v",
        package: "nginx-light",
        configuration: include_str!("../../peers/nginx.conf"),
        arguments: &["-p", "@SCRATCH@", "-c", "@CONFIGURATION@", "-e", "stderr"],
        environment: &[],
    },
    Installed {
        name: "H2O",
        programs: &["h2o", "/usr/bin/h2o"],
        version: "-v",
        package: "h2o",
        configuration: include_str!("../../peers/h2o.conf"),
        arguments: &["-c", "@CONFIGURATION@"],
        environment: &[],
    },
    Installed {
        name: "lighttpd",
        programs: &["lighttpd", "/usr/sbin/lighttpd"],
        version: "-v",
        package: "lighttpd",
        configuration: include_str!("../../peers/lighttpd.conf"),
        arguments: &["-D", "-f", "@CONFIGURATION@"],
        environment: &[],
    },
    Installed {
        name: "Caddy",
        programs: &["caddy", "/usr/bin/caddy"],
        version: "version",
        package: "caddy",
        configuration: include_str!("../../peers/Caddyfile"),
        arguments: &[
            "run",
            "--adapter",
            "caddyfile",
            "--config",
            "@CONFIGURATION@",
        ],
        // One worker, as the others; it keeps its state where it is told.
        environment: &[
            ("GOMAXPROCS", "1"),
            ("HOME", "@SCRATCH@"),
            ("XDG_CONFIG_HOME", "@SCRATCH@"),
            ("XDG_DATA_HOME", "@SCRATCH@"),
        ],
    },
];

impl Installed {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        ALL.into_iter()
    }
}

impl Contestant for Installed {
    fn name(&self) -> &str {
        self.name
    }

    fn launch(&self, site: &Site<'_>) -> Result<Launch> {
        let exists = |program: &&&str| Command::new(program).arg(self.version).output().is_ok();
        let program = self.programs.iter().find(exists).ok_or_else(|| {
            Error::unavailable(format!("not installed; apt-get install {}", self.package))
        })?;
        let listen = site.free_port;
        let path = site.scratch.join("configuration");
        let fill = |text: &str| {
            text.replace("@LISTEN@", &listen.to_string())
                .replace("@ADDRESS@", &listen.ip().to_string())
                .replace("@PORT@", &listen.port().to_string())
                .replace("@ROOT@", &site.directory.to_string_lossy())
                .replace("@SCRATCH@", &site.scratch.to_string_lossy())
                .replace("@CONFIGURATION@", &path.to_string_lossy())
        };
        fs::write(&path, fill(self.configuration)).map_err(|error| {
            Error::system(format!("writing the configuration of {}", self.name), error)
        })?;
        let mut command = Command::new(program);
        command.args(self.arguments.iter().copied().map(fill)).envs(
            self.environment
                .iter()
                .map(|(name, value)| (name, fill(value))),
        );
        Ok(Launch {
            command,
            address: Address::Fixed(listen),
        })
    }
}
