//! Two network namespaces joined by a veth pair: a network of its own with an ordinary MTU.
//!
//! Loopback's segments are 64 KiB and its settings are the machine's; both change which server is
//! fastest. A veth pair has MTU 1500 with segmentation offload, as a network card has, and each
//! namespace has its own congestion control.
//!
//! The namespaces are made through iproute2, opened, and *unnamed at once*: from then on only the
//! open descriptors and the processes inside keep them alive, so that no way of dying leaves one
//! behind. It takes root; [`pair`] says what is missing.

use std::fs::{self, File};
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::{self, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

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
/// [`crate::Kind::Unavailable`] with what is missing: iproute2, root, or kernel support.
pub fn pair() -> Result<Pair> {
    // The names live only inside this function, but two processes, or two threads, may be in it.
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let names =
        ["client", "server"].map(|side| format!("lendfile-{side}-{}-{count}", process::id()));
    let unname = Unname(&names);
    let [client, server] = &names;

    // The devices are born inside the namespaces: no name is taken outside.
    let mtu = MTU_BYTES.to_string();
    let addresses = [Ipv4Addr::new(10, 99, 0, 1), Ipv4Addr::new(10, 99, 0, 2)];
    ip(&["netns", "add", client])?;
    ip(&["netns", "add", server])?;
    ip(&[
        "-n", client, "link", "add", "veth0", "mtu", &mtu, "type", "veth", "peer", "name", "veth0",
        "mtu", &mtu, "netns", server,
    ])?;
    for (name, address) in names.iter().zip(addresses) {
        let network = format!("{address}/24");
        ip(&["-n", name, "address", "add", &network, "dev", "veth0"])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        ip(&["-n", name, "link", "set", "veth0", "up"])?;
    }
    let [client, server] =
        [(client, addresses[0]), (server, addresses[1])].map(|(name, address)| {
            File::open(format!("/run/netns/{name}"))
                .map(|file| Arc::new(Namespace { file, address }))
                .map_err(|error| Error::system("opening a network namespace", error))
        });
    drop(unname);
    Ok(Pair {
        client: client?,
        server: server?,
    })
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

/// Takes the names away. The namespaces stay as long as something holds them.
struct Unname<'a>(&'a [String; 2]);

impl Drop for Unname<'_> {
    fn drop(&mut self) {
        for name in self.0 {
            // One that was never made, or is gone, is what is wanted.
            let _ = ip(&["netns", "delete", name]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let what = || format!("ip {}", arguments.join(" "));
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .map_err(|error| {
            Error::unavailable(format!(
                "{}: {error}; it is in the package iproute2",
                what()
            ))
        })?;
    if output.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&output.stderr);
    Err(Error::unavailable(format!("{}: {}", what(), reason.trim())))
}
