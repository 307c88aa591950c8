//! The network between client and server: a veth pair where it can be had, loopback where not.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use crate::netns::{self, MTU_BYTES, Pair};
use crate::pin::{self, Cores};
use crate::place::Place;
use crate::{Error, Result};

/// The network, and both sides' places on it.
#[derive(Clone, Debug)]
pub struct Network {
    cores: Option<Cores>,
    link: Link,
}

#[derive(Clone, Debug)]
enum Link {
    Loopback { reason: String },
    Veth(Pair),
}

impl Network {
    /// A veth pair, or loopback with the reason why there is none.
    ///
    /// # Errors
    ///
    /// [`crate::Kind::System`] if the cores cannot be read.
    pub fn prepare() -> Result<Self> {
        let link = match netns::pair() {
            Ok(pair) => Link::Veth(pair),
            Err(error) => Link::Loopback {
                reason: error.to_string(),
            },
        };
        Ok(Self {
            cores: pin::choose()?,
            link,
        })
    }

    /// Loopback, because `reason` says so.
    ///
    /// # Errors
    ///
    /// [`crate::Kind::System`] if the cores cannot be read.
    pub fn loopback(reason: impl Into<String>) -> Result<Self> {
        Ok(Self {
            cores: pin::choose()?,
            link: Link::Loopback {
                reason: reason.into(),
            },
        })
    }

    /// Whether client and server share the machine's own network.
    pub fn is_loopback(&self) -> bool {
        matches!(self.link, Link::Loopback { .. })
    }

    /// Puts a congestion control in force. On loopback nothing is changed, since the setting is the
    /// whole machine's: it must be the one in force already.
    ///
    /// # Errors
    ///
    /// [`crate::Kind::Unavailable`] if it is not to be had.
    pub fn set_congestion_control(&self, name: &str) -> Result<()> {
        match &self.link {
            Link::Veth(pair) => pair.set_congestion_control(name),
            Link::Loopback { .. } => {
                let now = netns::congestion_control()?;
                if now == name {
                    return Ok(());
                }
                Err(Error::unavailable(format!(
                    "congestion control {name}: loopback uses the machine's, which is {now}"
                )))
            }
        }
    }

    /// Where the client runs.
    pub fn client_place(&self) -> Place {
        Place {
            core: self.cores.map(|cores| cores.client),
            namespace: match &self.link {
                Link::Loopback { .. } => None,
                Link::Veth(pair) => Some(pair.client.clone()),
            },
        }
    }

    /// Where servers run.
    pub fn server_place(&self) -> Place {
        Place {
            core: self.cores.map(|cores| cores.server),
            namespace: match &self.link {
                Link::Loopback { .. } => None,
                Link::Veth(pair) => Some(pair.server.clone()),
            },
        }
    }

    /// The address servers listen on.
    pub fn server_ip(&self) -> IpAddr {
        match &self.link {
            Link::Loopback { .. } => Ipv4Addr::LOCALHOST.into(),
            Link::Veth(pair) => pair.server.address().into(),
        }
    }

    /// An address with a port that was free a moment ago, for servers that cannot choose one.
    ///
    /// # Errors
    ///
    /// [`crate::Kind::System`] if there is none.
    pub fn free_address(&self) -> Result<SocketAddr> {
        let any = SocketAddr::new(self.server_ip(), 0);
        self.server_place()
            .run(|| TcpListener::bind(any).and_then(|listener| listener.local_addr()))?
            .map_err(|error| {
                Error::system(
                    format!(
                        "no free port on {}: end what uses them, or widen \
                         net.ipv4.ip_local_port_range",
                        self.server_ip()
                    ),
                    error,
                )
            })
    }

    /// What a report says about this network.
    pub fn describe(&self) -> String {
        let link = match &self.link {
            Link::Loopback { reason } => format!("loopback ({reason})"),
            Link::Veth(_) => format!("two network namespaces, veth, MTU {MTU_BYTES}"),
        };
        let cores = match self.cores {
            Some(Cores { client, server }) => {
                format!("client on core {client}, server on core {server}")
            }
            None => "**client and server share the only core: the figures mean little**".to_owned(),
        };
        format!("{link}; {cores}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    #[test]
    fn a_byte_crosses_the_network_under_the_congestion_control_that_was_set() {
        let network = Network::prepare().unwrap();
        if let Link::Loopback { reason } = &network.link {
            crate::skip("netns", reason);
        } else {
            // Every kernel has reno, and it is nobody's default.
            network.set_congestion_control("reno").unwrap();
            let machine = netns::congestion_control().unwrap();
            assert_ne!(machine, "reno", "the setting must stay in the namespaces");
        }
        let any = SocketAddr::new(network.server_ip(), 0);
        let listener = network
            .server_place()
            .run(|| TcpListener::bind(any).unwrap())
            .unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = network
            .client_place()
            .run(|| TcpStream::connect(address).unwrap())
            .unwrap();
        let (mut server, _) = listener.accept().unwrap();
        if let Link::Veth(_) = network.link {
            assert_eq!(
                rustix::net::sockopt::tcp_congestion(&server).unwrap(),
                "reno"
            );
        }
        server.write_all(b"x").unwrap();
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn an_unknown_congestion_control_is_unavailable() {
        let network = Network::prepare().unwrap();
        let error = network.set_congestion_control("nonesuch").unwrap_err();
        assert!(error.is_unavailable(), "{error}");
    }

    #[test]
    fn no_free_port_is_one_line_with_the_cure() {
        let network = Network::prepare().unwrap();
        if let Link::Loopback { reason } = &network.link {
            return crate::skip("netns", reason);
        }
        // The namespace's own range, one port wide, and that port taken.
        let range = "/proc/sys/net/ipv4/ip_local_port_range";
        let any = SocketAddr::new(network.server_ip(), 0);
        let _taken = network
            .server_place()
            .run(|| {
                std::fs::write(range, "40000 40000").unwrap();
                TcpListener::bind(any).unwrap()
            })
            .unwrap();
        let line = network.free_address().unwrap_err().to_string();
        for part in ["no free port on 10.99.0.2", "ip_local_port_range", "in use"] {
            assert!(line.contains(part), "{line}");
        }
        assert!(!line.contains('\n'), "{line}");
    }
}
