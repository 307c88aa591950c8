//! A headless Chromium, if there is one. It has a profile of its own and is gone with its test.

use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::{env, thread};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::PATIENCE;
use crate::process::skip;

/// Names under which it is installed.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// A browser that has not been started yet.
#[derive(Debug)]
pub struct Browser {
    path: PathBuf,
}

/// The colours that a page is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Dark.
    Dark,
    /// Light.
    Light,
}

/// What a browser made of a page.
#[derive(Debug)]
pub struct Visit {
    /// The page as it is after its scripts have run.
    pub dom: String,
    /// What was written to the console: errors, and refusals by a policy.
    pub console: Vec<String>,
}

impl Browser {
    /// The one that is installed; otherwise says so, and fails if `LENDFILE_REQUIRE` has `browser`.
    ///
    /// # Panics
    ///
    /// If it is required and not there.
    pub fn find() -> Option<Self> {
        let paths = env::var_os("PATH").unwrap_or_default();
        let found = env::split_paths(&paths)
            .flat_map(|dir| NAMES.map(|name| dir.join(name)))
            .find(|path| path.is_file());
        if found.is_none() {
            skip("browser", "there is no Chromium on the PATH");
        }
        found.map(|path| Self { path })
    }

    /// Visits a page of the server, and takes its document when it has loaded.
    ///
    /// # Panics
    ///
    /// If the browser does not answer in time.
    pub fn visit(&self, server: SocketAddr, path: &str) -> Visit {
        let running = Running::start(self, &["--dump-dom"], server, path, Scheme::Light);
        let (dom, log) = running.output();
        let console = log.lines().filter(|line| line.contains("CONSOLE"));
        Visit {
            dom,
            console: console.map(str::to_owned).collect(),
        }
    }

    /// Opens a page and lets it run until the guard is dropped.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn open(&self, server: SocketAddr, path: &str, scheme: Scheme) -> Running {
        // Without a debugger to wait for it would end when the page has loaded.
        let flags = ["--remote-debugging-port=0"];
        Running::start(self, &flags, server, path, scheme)
    }
}

/// A browser; killed with all its processes when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    _profile: TempDir,
}

impl Running {
    fn start(
        browser: &Browser,
        flags: &[&str],
        server: SocketAddr,
        path: &str,
        scheme: Scheme,
    ) -> Self {
        let profile = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(&browser.path);
        command
            .args([
                "--headless",
                // CI runs as root, where the sandbox cannot be set up.
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--hide-scrollbars",
                "--enable-logging=stderr",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()));
        if scheme == Scheme::Dark {
            command.arg("--blink-settings=preferredColorScheme=0");
        }
        let child = command
            .args(flags)
            .arg(format!("http://{server}{path}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("starting the browser");
        Self {
            child,
            _profile: profile,
        }
    }

    /// Its standard output and error, when it has ended by itself.
    fn output(mut self) -> (String, String) {
        let stdout = reader(self.child.stdout.take());
        let stderr = reader(self.child.stderr.take());
        let [stdout, stderr] = [stdout, stderr].map(|output| {
            output
                .recv_timeout(PATIENCE * 4)
                .expect("the browser ends in time")
        });
        (stdout, stderr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            // It may have ended by itself.
            _ = kill_process_group(group, Signal::KILL);
        }
        _ = self.child.wait();
    }
}

/// Reads in a thread of its own, so that neither pipe fills up.
fn reader(from: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut all = Vec::new();
        if let Some(mut from) = from {
            _ = from.read_to_end(&mut all);
        }
        _ = tell.send(String::from_utf8_lossy(&all).into_owned());
    });
    told
}
