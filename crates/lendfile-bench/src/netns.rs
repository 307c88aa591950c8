//! Two network namespaces joined by a veth pair: a network of its own with an ordinary MTU.
//!
//! Loopback's segments are 64 KiB and its settings are the machine's; both change which server is
//! fastest. A veth pair has MTU 1500 with segmentation offload, as a network card has, and each
//! namespace has its own congestion control.
//!
//! The namespaces have no names. Each is made by an `unshare` that waits for the end of its input,
//! is opened, and from then on lives as long as the open descriptors and the processes inside: no
//! way of dying, SIGKILL included, leaves one behind. It takes root, or an unprivileged user's own
//! user namespace ([`enter_user_namespace`]); [`pair`] says what is missing.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::place::Place;
use crate::{Error, Result};

/// The devices' MTU in bytes: Ethernet's.
pub const MTU_BYTES: u32 = 1500;

const CONGESTION_CONTROL: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
const ALLOWED_CONGESTION_CONTROL: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";

/// One end: a network namespace with a loopback device and one end of the veth pair.
#[derive(Debug)]
pub struct Namespace {
    file: File,
    address: Ipv4Addr,
}

/// Both ends.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pair {
    /// The client's end.
    pub client: Arc<Namespace>,
    /// The server's end.
    pub server: Arc<Namespace>,
}

impl Namespace {
    /// Moves the calling *thread* in, for good.
    ///
    /// # Errors
    ///
    /// [`crate::Kind::System`] if the kernel refuses, which takes CAP_SYS_ADMIN.
    pub fn enter(&self) -> Result<()> {
        move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|errno| Error::system("entering a network namespace", errno))
    }

    /// This end's address on the veth pair.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }
}

impl Pair {
    /// Sets the congestion control of both ends and reads it back. It holds for connections
    /// accepted or opened afterwards.
    ///
    /// A namespace may only choose from the machine's `net.ipv4.tcp_allowed_congestion_control`; a
    /// name that is missing there is added for the moment of choosing and taken out again.
    ///
    /// # Errors
    ///
    /// [`crate::Kind::Unavailable`] if the kernel does not have or does not allow it.
    pub fn set_congestion_control(&self, name: &str) -> Result<()> {
        let _allowed = Allowed::add(name);
        for namespace in [&self.client, &self.server] {
            let place = Place {
                core: None,
                namespace: Some(Arc::clone(namespace)),
            };
            place.run(|| set_congestion_control(name))??;
        }
        Ok(())
    }
}

/// Makes a pair: up, addressed, with MTU 1500.
///
/// # Errors
///
/// [`crate::Kind::Unavailable`] with what is missing: util-linux, iproute2, root, or kernel support.
pub fn pair() -> Result<Pair> {
    let addresses = [Ipv4Addr::new(10, 99, 0, 1), Ipv4Addr::new(10, 99, 0, 2)];
    let holders = [Holder::start()?, Holder::start()?];
    let [client, server] = &holders;
    let mtu = MTU_BYTES.to_string();
    // The devices are born inside the namespaces: no name is taken outside.
    client.ip(&[
        "link",
        "add",
        "veth0",
        "mtu",
        &mtu,
        "type",
        "veth",
        "peer",
        "name",
        "veth0",
        "mtu",
        &mtu,
        "netns",
        &server.child.id().to_string(),
    ])?;
    for (holder, address) in holders.iter().zip(addresses) {
        let network = format!("{address}/24");
        holder.ip(&["address", "add", &network, "dev", "veth0"])?;
        holder.ip(&["link", "set", "lo", "up"])?;
        holder.ip(&["link", "set", "veth0", "up"])?;
    }
    let [client, server] =
        [(client, addresses[0]), (server, addresses[1])].map(|(holder, address)| {
            File::open(holder.path())
                .map(|file| Arc::new(Namespace { file, address }))
                .map_err(|error| Error::system("opening a network namespace", error))
        });
    Ok(Pair {
        client: client?,
        server: server?,
    })
}

/// Runs this program anew inside a user namespace in which its user counts as root, if it is not
/// root already and the machine allows that. Returns if there is nothing to be done, or with the
/// reason why it cannot be.
///
/// Call it first in `main`: the program begins from the start. `marker` is a variable that tells
/// the second run from the first.
pub fn enter_user_namespace(marker: &str) -> Option<String> {
    if rustix::process::geteuid().is_root() || std::env::var_os(marker).is_some() {
        return None;
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--"]);
        command
    };
    // Tried first: after exec there is no way back.
    let tried = unshare().args(["unshare", "--net", "true"]).output();
    match tried {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let reason = String::from_utf8_lossy(&output.stderr);
            return Some(format!(
                "not root, and no user namespace: {}",
                reason.trim()
            ));
        }
        Err(error) => return Some(format!("unshare: {error}; it is in the package util-linux")),
    }
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return Some(format!("this program's own path: {error}")),
    };
    let error = unshare()
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(marker, "1")
        .exec();
    Some(format!("unshare: {error}"))
}

/// A process that holds a namespace until it is opened. Its input is a pipe of ours, so it ends when
/// we do, however that is.
struct Holder {
    child: Child,
}

impl Holder {
    fn start() -> Result<Self> {
        let mut child = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", "echo && exec cat >/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                Error::unavailable(format!("unshare: {error}; it is in the package util-linux"))
            })?;
        // It speaks once it is inside.
        let mut line = [0];
        let spoke = child
            .stdout
            .take()
            .is_some_and(|mut stdout| stdout.read(&mut line).is_ok_and(|count| count > 0));
        if spoke {
            return Ok(Self { child });
        }
        let reason = child
            .wait_with_output()
            .map(|output| String::from_utf8_lossy(&output.stderr).trim().to_owned())
            .unwrap_or_default();
        Err(Error::unavailable(format!(
            "making a network namespace: {reason}; run as root, or allow user namespaces"
        )))
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.child.id())
    }

    fn ip(&self, arguments: &[&str]) -> Result<()> {
        let what = || format!("ip {}", arguments.join(" "));
        let output = Command::new("nsenter")
            .arg(format!("--net={}", self.path()))
            .args(["--", "ip"])
            .args(arguments)
            .output()
            .map_err(|error| Error::unavailable(format!("nsenter: {error}")))?;
        if output.status.success() {
            return Ok(());
        }
        let reason = String::from_utf8_lossy(&output.stderr);
        Err(Error::unavailable(format!(
            "{}: {}; ip is in the package iproute2",
            what(),
            reason.trim()
        )))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The congestion control that new connections of the calling thread's namespace get.
///
/// # Errors
///
/// [`crate::Kind::System`] if it cannot be read.
pub fn congestion_control() -> Result<String> {
    // /proc/sys/net shows the namespace of the thread that looks.
    fs::read_to_string(CONGESTION_CONTROL)
        .map(|name| name.trim().to_owned())
        .map_err(|error| Error::system("reading the congestion control", error))
}

fn set_congestion_control(name: &str) -> Result<()> {
    let written = File::options()
        .write(true)
        .open(CONGESTION_CONTROL)
        .and_then(|mut file| file.write_all(name.as_bytes()));
    let now = congestion_control()?;
    if now == name {
        return Ok(());
    }
    Err(Error::unavailable(match written {
        Err(error) => format!("congestion control {name}: {error}; try `modprobe tcp_{name}`"),
        Ok(()) => format!("congestion control {name} was set but {now} is in force"),
    }))
}

/// The machine's list of allowed congestion controls, put back on drop.
struct Allowed {
    before: String,
}

impl Allowed {
    /// Adds `name` if it is missing. If that is refused, choosing it will be, with a reason.
    fn add(name: &str) -> Option<Self> {
        let before = fs::read_to_string(ALLOWED_CONGESTION_CONTROL).ok()?;
        if before.split_whitespace().any(|allowed| allowed == name) {
            return None;
        }
        fs::write(
            ALLOWED_CONGESTION_CONTROL,
            format!("{} {name}", before.trim()),
        )
        .ok()?;
        Some(Self { before })
    }
}

impl Drop for Allowed {
    fn drop(&mut self) {
        // What was in force is always accepted.
        let _ = fs::write(ALLOWED_CONGESTION_CONTROL, &self.before);
    }
}
