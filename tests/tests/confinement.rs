//! Nothing outside the root is served: while names are exchanged under the server, and where
//! `openat2` is refused.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lendfile::{Method, ServeDir};
use lendfile_tests::client::Client;
use lendfile_tests::process::{assert_passed, child_role, deny, in_child};
use lendfile_tests::server::{Network, Server, Stack};
use rustix::fs::{CWD, RenameFlags, renameat_with};

/// Requests in all. By hand: `LENDFILE_RACE_REQUESTS=1000000 cargo test --release -p
/// lendfile-tests --test confinement`.
const REQUESTS: u32 = 100_000;

/// Sent without waiting for the answer.
const PIPELINED: u32 = 100;

fn requests() -> u32 {
    let given = env::var("LENDFILE_RACE_REQUESTS").ok();
    given.map_or(REQUESTS, |given| given.parse().expect("a number"))
}

/// A root in which a directory and a file each have a link beside them that leads out.
fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    for directory in ["outside", "root/sub"] {
        fs::create_dir_all(dir.path().join(directory)).unwrap();
    }
    fs::write(dir.path().join("outside/file"), "secret").unwrap();
    fs::write(root.join("sub/file"), "inside").unwrap();
    fs::write(root.join("plain"), "inside").unwrap();
    symlink(dir.path().join("outside"), root.join("sub-link")).unwrap();
    symlink("../outside/file", root.join("plain-link")).unwrap();
    dir
}

/// Exchanges each name with the link beside it until told to stop; how often.
fn exchange(root: &Path, stop: &AtomicBool) -> u64 {
    let mut exchanges = 0;
    while !stop.load(Ordering::Relaxed) {
        for name in ["sub", "plain"] {
            let (a, b) = (root.join(name), root.join(format!("{name}-link")));
            renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).unwrap();
            exchanges += 1;
        }
    }
    exchanges
}

/// Asks for names that are inside and outside in turn, and returns how often which answer came.
fn race(staleness: Duration, requests: u32) -> BTreeMap<u16, u32> {
    let dir = tree();
    let root = dir.path().join("root");
    let service = ServeDir::new(&root).unwrap().staleness(staleness);
    let server = Server::start(Stack::Serve, Network::Tcp, Method::Auto, service);
    let stop = AtomicBool::new(false);
    let (answers, exchanges) = thread::scope(|scope| {
        let exchanging = scope.spawn(|| exchange(&root, &stop));
        let mut client = Client::connect(&server.address);
        let mut answers = BTreeMap::new();
        for _ in 0..requests / PIPELINED {
            let paths = ["/sub/file", "/plain", "/sub-link/file", "/plain-link"];
            let paths = || paths.iter().cycle().take(PIPELINED as usize);
            let all: String = paths()
                .map(|path| format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"))
                .collect();
            client.send(all);
            for path in paths() {
                let answer = client.response("GET").unwrap();
                *answers.entry(answer.status).or_default() += 1;
                let served = answer.body;
                assert!(!served.windows(6).any(|w| w == b"secret"), "{path} escaped");
                if answer.status == 200 {
                    assert_eq!(served, b"inside", "{path}");
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        (answers, exchanging.join().unwrap())
    });
    assert!(
        exchanges > u64::from(requests) / 1000,
        "only {exchanges} exchanges"
    );
    answers
}

#[test]
fn no_request_escapes_while_names_are_exchanged_with_links_that_lead_out() {
    // Half of them each with the path looked at for every request, and with answers kept.
    for staleness in [Duration::ZERO, Duration::from_millis(20)] {
        let answers = race(staleness, requests() / 2);
        let both = answers.contains_key(&200) && answers.contains_key(&404);
        assert!(both, "{staleness:?}: the race did not happen: {answers:?}");
        assert_eq!(answers.len(), 2, "{staleness:?}: {answers:?}");
    }
}

/// In a child, since a filter cannot be taken off: the policy's answers and the race, walking.
#[test]
fn where_openat2_is_refused_components_are_walked_and_no_link_is_followed() {
    let errno = match child_role().as_deref() {
        None => {
            for role in ["EPERM", "ENOSYS"] {
                let name = "where_openat2_is_refused_components_are_walked_and_no_link_is_followed";
                assert_passed(&in_child(name, role));
            }
            return;
        }
        Some("EPERM") => rustix::io::Errno::PERM,
        Some(_) => rustix::io::Errno::NOSYS,
    };
    deny([libc::SYS_openat2], errno);
    let refused = rustix::fs::openat2(
        CWD,
        ".",
        rustix::fs::OFlags::PATH,
        rustix::fs::Mode::empty(),
        rustix::fs::ResolveFlags::empty(),
    );
    assert_eq!(refused.unwrap_err(), errno, "the filter works");
    let dir = tree();
    let root = dir.path().join("root");
    symlink("sub/file", root.join("inner-link")).unwrap();
    fs::write(root.join("index.html"), "home").unwrap();
    let service = ServeDir::new(&root).unwrap().listing();
    let server = Server::start(Stack::Serve, Network::Tcp, Method::Auto, service);
    let mut client = Client::connect(&server.address);
    for (path, status) in [
        ("/", 200),
        ("/sub/file", 200),
        ("/sub/", 200),
        ("/sub", 301),
        ("/plain", 200),
        ("/plain/", 404),
        ("/plain/below", 404),
        ("/missing", 404),
        ("/sub-link/file", 404),
        ("/plain-link", 404),
        ("/inner-link", 404),
        ("/../outside/file", 400),
    ] {
        assert_eq!(client.get(path, "").status, status, "{path}");
    }
    drop(server);
    let answers = race(Duration::ZERO, 5_000);
    assert!(
        answers.keys().all(|status| [200, 404].contains(status)),
        "{answers:?}"
    );
}

/// In children: the errno of opening is chosen by a filter, since root may open all and neither
/// descriptors nor memory are to run out for other tests.
#[test]
fn errors_of_opening_are_answered_as_the_policy_says() {
    use rustix::io::Errno;
    let answers = [
        ("EACCES", Errno::ACCESS, 403),
        ("ELOOP", Errno::LOOP, 404),
        ("ENAMETOOLONG", Errno::NAMETOOLONG, 404),
        ("ENXIO", Errno::NXIO, 404),
        ("EXDEV", Errno::XDEV, 404),
        ("EMFILE", Errno::MFILE, 503),
        ("ENFILE", Errno::NFILE, 503),
        ("ENOMEM", Errno::NOMEM, 503),
        ("EIO", Errno::IO, 500),
    ];
    let Some(role) = child_role() else {
        for (role, ..) in answers {
            let name = "errors_of_opening_are_answered_as_the_policy_says";
            assert_passed(&in_child(name, role));
        }
        return;
    };
    let dir = tree();
    let service = ServeDir::new(dir.path().join("root")).unwrap();
    let server = Server::start(Stack::Serve, Network::Tcp, Method::Auto, service);
    let mut client = Client::connect(&server.address);
    assert_eq!(client.get("/missing", "").status, 404);
    let answer = answers.into_iter().find(|(name, ..)| *name == role);
    let (_, errno, status) = answer.unwrap();
    deny([libc::SYS_openat2], errno);
    // Twice: such an answer is not kept as "nowhere" unless it is 404.
    for _ in 0..2 {
        assert_eq!(client.get("/plain", "").status, status, "{role}");
    }
}
