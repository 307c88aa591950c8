//! The conformance suite for the ring's methods, and what only rings can get wrong.

use lendfile_core::{Backend, Method};
use lendfile_tests::conformance::{self, Peer, Subject, pair};
use lendfile_tests::server::Network;
use lendfile_tests::uring::runtime_or_skip;
use lendfile_uring::{Options, Uring, UringTransport};
use tokio::net::{TcpStream, UnixStream};

/// What goes by a ring, and what may.
const METHODS: [Method; 4] = [
    Method::Auto,
    Method::RingFixed,
    Method::RingHybrid,
    Method::RingSplice,
];

fn over_tcp(method: Method) -> (UringTransport<TcpStream>, Peer) {
    let (Peer::Tcp(ours), peer) = pair(Network::Tcp).unwrap() else {
        unreachable!("a pair of the network asked for")
    };
    let socket = TcpStream::from_std(ours).unwrap();
    let transport = Uring::new().unwrap().transport(socket, method);
    (transport.unwrap(), peer)
}

fn over_unix(method: Method) -> (UringTransport<UnixStream>, Peer) {
    let (Peer::Unix(ours), peer) = pair(Network::Unix).unwrap() else {
        unreachable!("a pair of the network asked for")
    };
    let socket = UnixStream::from_std(ours).unwrap();
    let transport = Uring::new().unwrap().transport(socket, method);
    (transport.unwrap(), peer)
}

#[test]
fn the_ring_over_tcp_conforms_with_every_method() {
    let Some(runtime) = runtime_or_skip(Options::default()) else {
        return;
    };
    for method in METHODS {
        runtime.block_on(conformance::check_all(Subject {
            name: &format!("uring, TCP, {method}"),
            method,
            connect: &|| over_tcp(method),
        }));
    }
}

#[test]
fn the_ring_over_unix_sockets_conforms_with_every_method() {
    let Some(runtime) = runtime_or_skip(Options::default()) else {
        return;
    };
    for method in METHODS {
        runtime.block_on(conformance::check_all(Subject {
            name: &format!("uring, Unix, {method}"),
            method,
            connect: &|| over_unix(method),
        }));
    }
}
