//! A running example. Cargo builds them together with the tests of their package.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use lendfile_tests::PATIENCE;
use lendfile_tests::client::Client;
use lendfile_tests::server::Address;

/// An example under way; killed when dropped.
pub(crate) struct Example {
    child: Child,
    stderr: Receiver<String>,
    address: Address,
}

/// The command for an example, not yet started.
pub(crate) fn command(name: &str) -> Command {
    // target/debug/deps/end_to_end-… → target/debug/examples/NAME
    let tests = env::current_exe().expect("the test's own path");
    let profile = tests.ancestors().nth(2).expect("target/debug");
    let path: PathBuf = [
        profile.as_os_str(),
        OsStr::new("examples"),
        OsStr::new(name),
    ]
    .iter()
    .collect();
    assert!(
        path.exists(),
        "not built: cargo build -p lendfile-examples --examples"
    );
    Command::new(path)
}

impl Example {
    /// Starts it, and waits until it listens.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starting the example");
        let stdout = lines(child.stdout.take().expect("piped"));
        let stderr = lines(child.stderr.take().expect("piped"));
        let first = stdout.recv_timeout(PATIENCE);
        let address = first
            .as_deref()
            .ok()
            .and_then(|line| line.strip_prefix("listening on "))
            .and_then(|addr| addr.trim_start_matches("http://").parse().ok());
        let Some(addr) = address else {
            _ = child.kill();
            _ = child.wait();
            panic!(
                "first line: {first:?}; said {:?}",
                stderr.iter().collect::<Vec<_>>()
            );
        };
        Self {
            child,
            stderr,
            address: Address::Tcp(addr),
        }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(&self.address)
    }

    /// The next line of its log that contains `part`.
    pub(crate) fn logged(&self, part: &str) -> String {
        loop {
            match self.stderr.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(part) => return line,
                Ok(_) => {}
                Err(error) => panic!("{part:?} was not logged: {error}"),
            }
        }
    }
}

/// Reads to the end in a thread, so that the writer never waits and each line can be waited for.
fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            _ = tell.send(line.expect("UTF-8"));
        }
    });
    told
}

impl Drop for Example {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Where it listens.
pub(crate) fn address_of(example: &Example) -> SocketAddr {
    match example.address() {
        Address::Tcp(address) => *address,
        other => panic!("not TCP: {other:?}"),
    }
}
