//! HTTPS, as curl meets it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};

use lendfile_tests::process::{eventually, skip};
use lendfile_tests::{PATIENCE, content};
use rustix::process::Signal;

use crate::command::{Running, lendfile, run};
use crate::failures::assert_line;

/// A directory to serve, and beside it a certificate for `localhost`.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("www")).unwrap();
        content::write(&dir.path().join("www/file"), 1, 3_000_001).unwrap();
        let site = Self { dir };
        site.renew();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes another certificate, of the same names.
    fn renew(&self) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(self.path("key.pem"), made.signing_key.serialize_pem()).unwrap();
        fs::write(self.path("cert.pem"), made.cert.pem()).unwrap();
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = lendfile(["serve", "--listen", "127.0.0.1:0"]);
        command.arg("--tls-cert").arg(self.path("cert.pem"));
        command.arg("--tls-key").arg(self.path("key.pem"));
        command.args(options).arg(self.path("www"));
        command
    }

    fn serve(&self, options: &[&str]) -> (Running, SocketAddr) {
        let mut server = Running::start(self.command(options));
        let line = server.next_line();
        let addr = line.strip_prefix("listening on https://");
        let addr = addr.unwrap_or_else(|| panic!("{line}")).parse().unwrap();
        (server, addr)
    }

    /// What curl says of the file, asking the server for it as `host`.
    fn curl(&self, addr: SocketAddr, host: &str, options: &[&str]) -> Option<Output> {
        let url = format!("https://{host}:{}/file", addr.port());
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--max-time", "30", "--cacert"])
            .arg(self.path("cert.pem"))
            .args(["--resolve", &format!("{host}:{}:127.0.0.1", addr.port())])
            .args(["--write-out", "%{stderr}%{http_version} %{http_code}"])
            .args(options)
            .arg(url);
        match command.output() {
            Ok(output) => Some(output),
            Err(error) => {
                skip("curl", &error.to_string());
                None
            }
        }
    }

    fn assert_served(&self, output: &Output, version: &str) {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(stderr, format!("{version} 200"));
        assert!(output.stdout == fs::read(self.path("www/file")).unwrap());
    }
}

#[test]
fn both_protocols_and_both_versions_of_tls_are_spoken() {
    let site = Site::new();
    let (_server, addr) = site.serve(&[]);
    for (options, version) in [
        (["--http1.1", "--tlsv1.3"].as_slice(), "1.1"),
        (&["--http2", "--tlsv1.3"], "2"),
        (&["--http1.1", "--tls-max", "1.2"], "1.1"),
        (&["--http2", "--tls-max", "1.2"], "2"),
    ] {
        let Some(output) = site.curl(addr, "localhost", options) else {
            return;
        };
        site.assert_served(&output, version);
    }
}

#[test]
fn another_name_is_not_certified() {
    let site = Site::new();
    let (_server, addr) = site.serve(&[]);
    if let Some(output) = site.curl(addr, "elsewhere.test", &[]) {
        // 60: the peer's certificate cannot be authenticated.
        assert_eq!(output.status.code(), Some(60), "{output:?}");
    }
}

#[test]
fn who_does_not_speak_tls_disturbs_nobody() {
    let site = Site::new();
    let (mut server, addr) = site.serve(&["--threads", "1"]);
    let mut plain = TcpStream::connect(addr).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain
        .write_all(b"GET /file HTTP/1.1\r\nhost: test\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    // An alert, or nothing: the connection ends, with or without an error.
    _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    // One that says nothing at all, and one that goes away in the middle.
    let _silent = TcpStream::connect(addr).unwrap();
    TcpStream::connect(addr)
        .unwrap()
        .write_all(b"\x16\x03\x01")
        .unwrap();
    if let Some(output) = site.curl(addr, "localhost", &[]) {
        assert!(output.status.success(), "{output:?}");
    }
    assert!(server.is_running());
}

#[test]
fn a_handshake_that_takes_too_long_is_cut() {
    let site = Site::new();
    let (_server, addr) = site.serve(&["--header-timeout", "100ms"]);
    let mut silent = TcpStream::connect(addr).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    // Ends without a timeout of ours.
    let mut answer = Vec::new();
    let end = silent
        .read_to_end(&mut answer)
        .map_err(|error| error.kind());
    assert!(
        !matches!(end, Err(std::io::ErrorKind::WouldBlock)),
        "{end:?}"
    );
}

#[test]
fn a_new_certificate_is_used_after_sighup_and_a_bad_one_is_not() {
    let site = Site::new();
    let (server, addr) = site.serve(&["--threads", "2"]);
    site.renew();
    // The certificate that curl trusts is the new one.
    let is_served = || {
        let output = site.curl(addr, "localhost", &[]);
        output.is_none_or(|output| output.status.success())
    };
    server.signal(Signal::HUP);
    eventually("the new certificate is used", is_served);
    let good = fs::read(site.path("cert.pem")).unwrap();
    fs::write(site.path("cert.pem"), "no certificate").unwrap();
    server.signal(Signal::HUP);
    fs::write(site.path("trusted.pem"), &good).unwrap();
    let trusted = site.path("trusted.pem");
    for _ in 0..3 {
        let Some(output) = site.curl(addr, "localhost", &["--cacert", trusted.to_str().unwrap()])
        else {
            return;
        };
        assert!(output.status.success(), "{output:?}");
    }
    server.signal(Signal::TERM);
    let finished = server.finish();
    let complaint = "the old certificate stays in use";
    assert!(finished.stderr.contains(complaint), "{finished:?}");
}

#[test]
fn what_is_wrong_with_the_files_is_said_in_one_line() {
    let site = Site::new();
    let other = Site::new();
    let refused = |parts: &[&str]| {
        let finished = run(site.command(&[]));
        assert_line(1, &finished, parts);
        // rustls' own words.
        let stderr = &finished.stderr;
        assert!(!stderr.contains("KeyMismatch") && !stderr.contains("parse private key"));
    };
    fs::copy(other.path("key.pem"), site.path("key.pem")).unwrap();
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| site.path(name));
    let [cert, key] = [&cert, &key].map(|path| path.to_str().unwrap());
    refused(&["do not belong together", cert, key, "--tls-key"]);
    let nonsense = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    fs::write(site.path("key.pem"), nonsense).unwrap();
    refused(&[key, "RSA, ECDSA, Ed25519"]);
    fs::write(site.path("key.pem"), "").unwrap();
    refused(&["no private key in PEM form"]);
    fs::remove_file(site.path("key.pem")).unwrap();
    refused(&["cannot read"]);
    fs::copy(other.path("key.pem"), site.path("key.pem")).unwrap();
    let nonsense = nonsense.replace("PRIVATE KEY", "CERTIFICATE");
    fs::write(site.path("cert.pem"), nonsense).unwrap();
    refused(&[cert, "certificate cannot be read"]);
}
