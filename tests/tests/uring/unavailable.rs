//! No ring, a ring without memory, a ring of another thread.

use lendfile_core::{Backend, ErrorKind, Method};
use lendfile_tests::conformance::{Peer, pair};
use lendfile_tests::process::{assert_passed, child_role, in_child};
use lendfile_tests::server::Network;
use lendfile_tests::uring::{denied_rings, runtime_or_skip};
use lendfile_uring::{Options, Runtime, Uring};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use tokio::net::UnixStream;

use crate::support::{Files, alone, over_unix, send_and_compare};

#[test]
fn a_denied_ring_is_unavailable_and_the_error_says_why_and_what_to_do() {
    let _alone = alone();
    denied_rings(|| {
        let error = Runtime::new().unwrap_err();
        assert!(error.is_unsupported());
        let text = error.to_string();
        for part in [
            "io_uring_setup",
            "not permitted",
            "seccomp",
            "epoll backend",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!lendfile_uring::probe().ring.works());
    });
}

#[test]
fn outside_of_a_ring_runtime_the_backend_is_a_misuse() {
    let _alone = alone();
    assert_eq!(Uring::new().unwrap_err().kind(), ErrorKind::Misuse);
    let Some(runtime) = runtime_or_skip(Options::default()) else {
        return;
    };
    assert_eq!(Uring::new().unwrap_err().kind(), ErrorKind::Misuse);
    assert_eq!(Runtime::new().unwrap_err().kind(), ErrorKind::Misuse);
    assert!(runtime.block_on(async { Uring::new() }).is_ok());
    drop(runtime);
    assert!(
        Runtime::new().is_ok(),
        "the thread may have another one then"
    );
}

#[test]
fn a_transport_that_leaves_its_rings_thread_goes_on_by_epoll() {
    let _alone = alone();
    let Some(runtime) = runtime_or_skip(Options::default()) else {
        return;
    };
    let files = Files::new(1, 3_000_001);
    let uring = runtime.block_on(async { Uring::new() }).unwrap();
    std::thread::scope(|scope| {
        let elsewhere = scope.spawn(|| {
            let other = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            other.block_on(async {
                let (Peer::Unix(ours), peer) = pair(Network::Unix).unwrap() else {
                    unreachable!("a pair of the network asked for")
                };
                let socket = UnixStream::from_std(ours).unwrap();
                let transport = uring.transport(socket, Method::RingHybrid).unwrap();
                send_and_compare((transport, peer), &files, 0).await;
            });
        });
        elsewhere.join().unwrap();
    });
    // And one that is dropped elsewhere.
    let connection = runtime.block_on(async { over_unix(Method::RingHybrid) });
    std::thread::spawn(move || drop(connection)).join().unwrap();
    runtime.block_on(async {
        send_and_compare(over_unix(Method::RingHybrid), &files, 0).await;
    });
}

#[test]
fn without_lockable_memory_there_is_no_ring_fixed_and_the_rest_works() {
    let name = "unavailable::without_lockable_memory_there_is_no_ring_fixed_and_the_rest_works";
    if child_role().is_none() {
        if runtime_or_skip(Options::default()).is_some() {
            assert_passed(&in_child(name, "no memory"));
        }
        return;
    }
    let _alone = alone();
    // Rings need some of it themselves.
    let little = Rlimit {
        current: Some(200 << 10),
        maximum: Some(200 << 10),
    };
    setrlimit(Resource::Memlock, little).unwrap();
    // With it the limit does not count.
    let mut sets = capabilities(None).unwrap();
    sets.effective -= CapabilitySet::IPC_LOCK;
    set_capabilities(None, sets).unwrap();
    let runtime = Runtime::new().unwrap();
    assert!(!runtime.capabilities().methods.contains(Method::RingFixed));
    let files = Files::new(1, 3_000_001);
    runtime.block_on(async {
        let (Peer::Unix(ours), _peer) = pair(Network::Unix).unwrap() else {
            unreachable!("a pair of the network asked for")
        };
        let socket = UnixStream::from_std(ours).unwrap();
        let error = Uring::new().unwrap().transport(socket, Method::RingFixed);
        assert!(error.unwrap_err().is_unsupported());
        send_and_compare(over_unix(Method::RingSplice), &files, 0).await;
    });
}
