//! Servers, and what they hold.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use lendfile_bench::server::{Address, Server};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::{Result, Setting};

/// `lendfile serve` on one thread, as nobody, without a limit for readers that take nothing.
pub(crate) struct Lendfile {
    pub(crate) server: Server,
    metrics: SocketAddr,
}

/// What a server holds at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holdings {
    /// Pipes by its descriptors, beside those that it was started with.
    pub(crate) pipes: usize,
    /// Pipes that it says are in use, and kept for the next.
    pub(crate) used: usize,
    pub(crate) pooled: usize,
    /// Kernel threads that work for its ring.
    pub(crate) workers: usize,
}

impl Lendfile {
    pub(crate) fn start(
        setting: &Setting,
        dir: &Path,
        backend: &str,
        method: &str,
    ) -> Result<Self> {
        let network = &setting.network;
        let metrics = network.free_address()?;
        let mut command = Command::new(&setting.lendfile);
        command
            .arg("serve")
            .arg(dir)
            .args([
                "--listen",
                &SocketAddr::new(network.server_ip(), 0).to_string(),
            ])
            .args(["--metrics", &metrics.to_string()])
            .args(["--threads", "1", "--backend", backend, "--method", method])
            .args(["--progress-timeout", "off", "--user", "nobody"]);
        let (server, client) = (network.server_place(), network.client_place());
        Ok(Self {
            server: Server::start(&server, &client, &mut command, Address::Announced)?,
            metrics,
        })
    }

    pub(crate) fn holdings(&self, setting: &Setting) -> Result<Holdings> {
        let process = Path::new("/proc").join(self.server.pid().to_string());
        let links = fs::read_dir(process.join("fd"))?;
        let mut pipes: Vec<_> = links
            .filter_map(|link| fs::read_link(link.ok()?.path()).ok())
            .filter(|target| target.as_os_str().as_encoded_bytes().starts_with(b"pipe:"))
            .collect();
        pipes.sort();
        let tasks = fs::read_dir(process.join("task"))?;
        let workers = tasks
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .filter(|name| name.starts_with("iou-wrk"))
            .count();
        let page = setting.network.client_place().run(|| {
            let mut page = String::new();
            let mut socket = TcpStream::connect(self.metrics)?;
            socket.write_all(b"GET /metrics HTTP/1.0\r\nhost: x\r\n\r\n")?;
            socket.read_to_string(&mut page)?;
            std::io::Result::Ok(page)
        })??;
        let gauge = |state: &str| -> Result<usize> {
            let name = format!("pipes{{state=\"{state}\"}} ");
            let value = page.lines().find_map(|line| line.split_once(&name));
            let (_, value) = value.ok_or_else(|| format!("no {name}in the metrics"))?;
            Ok(value.trim().parse()?)
        };
        Ok(Holdings {
            // Both ends of a pipe of its own are here; of its standard output and error, one.
            pipes: pipes.windows(2).filter(|pair| pair[0] == pair[1]).count(),
            used: gauge("used")?,
            pooled: gauge("pooled")?,
            workers,
        })
    }
}

/// A directory that nobody may read, too.
pub(crate) fn directory() -> Result<tempfile::TempDir> {
    let dir = tempfile::tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    Ok(dir)
}

/// As many descriptors as this process may have, and its children.
pub(crate) fn allow_descriptors() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    Ok(())
}
