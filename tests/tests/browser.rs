//! Directory listings in a real browser: no name runs as a script, links lead to their files, and
//! the page fits a phone and a desktop in light and in dark.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc;

use axum::Router;
use axum::routing::post;
use lendfile::{Method, ServeDir};
use lendfile_tests::PATIENCE;
use lendfile_tests::browser::{Browser, Scheme};
use lendfile_tests::hostile;
use lendfile_tests::server::{Address, Network, Server, Stack};
use serde_json::Value;

/// A page of the tests that looks at listings in a frame and posts what it found to `/report`.
const VISITOR: &str = include_str!("browser/visitor.html");

/// A directory of hostile names, each file holding its name in hexadecimal, below `names/`.
fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let names = dir.path().join("names");
    fs::create_dir_all(names.join("<b> & 'sub'/deeper")).unwrap();
    for name in hostile::names() {
        fs::write(names.join(OsStr::from_bytes(&name)), hex(&name)).unwrap();
    }
    fs::write(dir.path().join("visitor.html"), VISITOR).unwrap();
    let control = "<!doctype html><title>x</title><img src=x onerror=\"document.title='pwned'\">\
                   <script>document.title='pwned'</script>";
    fs::write(dir.path().join("control.html"), control).unwrap();
    dir
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Serves it, also below `/nested`, and takes reports.
fn serve(root: &Path) -> (Server, std::net::SocketAddr, mpsc::Receiver<String>) {
    let (tell, told) = mpsc::channel();
    let service = ServeDir::new(root).unwrap().listing();
    let app = Router::new()
        .route(
            "/report",
            post(async move |report: String| _ = tell.send(report)),
        )
        .nest_service("/nested", service.clone())
        .fallback_service(service);
    let server = Server::start(Stack::Router, Network::Tcp, Method::Auto, app);
    let Address::Tcp(addr) = server.address else {
        unreachable!("asked for TCP")
    };
    (server, addr, told)
}

#[test]
fn no_name_runs_as_a_script_and_the_policy_refuses_nothing_of_the_page() {
    let Some(browser) = Browser::find() else {
        return;
    };
    let dir = tree();
    let (_server, addr, _) = serve(dir.path());
    // The browser does run scripts, and these names would be ones.
    let control = browser.visit(addr, "/control.html");
    assert!(control.dom.contains("<title>pwned</title>"), "{control:?}");

    let visit = browser.visit(addr, "/names/");
    assert!(visit.dom.contains("<title>names</title>"), "{}", visit.dom);
    for element in ["<script", "<img", "<svg", "<b>", "<!--"] {
        assert!(!visit.dom.contains(element), "{element} in {}", visit.dom);
    }
    assert!(visit.console.is_empty(), "{:?}", visit.console);
}

#[test]
fn links_lead_to_their_files_and_the_page_fits_every_screen() {
    let Some(browser) = Browser::find() else {
        return;
    };
    let dir = tree();
    let (_server, addr, reports) = serve(dir.path());
    let mut backgrounds = Vec::new();
    for (scheme, mount) in [(Scheme::Light, ""), (Scheme::Dark, "/nested")] {
        let path = format!("/visitor.html?{mount}/names/");
        let _running = browser.open(addr, &path, scheme);
        let report = reports
            .recv_timeout(PATIENCE * 4)
            .expect("a report in time");
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["error"], Value::Null, "{report:#}");
        assert_eq!(report["title"], "names");

        // Every file by its link, once.
        let mut found: Vec<&str> = report["contents"]
            .as_array()
            .unwrap()
            .iter()
            .map(|content| content.as_str().unwrap())
            .collect();
        found.sort_unstable();
        let mut expected: Vec<String> = hostile::names().iter().map(|name| hex(name)).collect();
        expected.sort_unstable();
        assert_eq!(found, expected);

        // Down into a directory and back up by the path, sorted as before.
        assert_eq!(report["sorted"], "descending");
        assert_eq!(
            report["below"],
            format!("{mount}/names/%3Cb%3E%20%26%20%27sub%27/")
        );
        assert_eq!(report["above"], format!("{mount}/names/"));
        assert_eq!(report["query"], "?sort=size&order=desc");
        assert_eq!(report["top"], format!("{mount}/"));

        // Nothing sticks out, and a finger finds each row.
        for (width, seen) in report["widths"].as_object().unwrap() {
            assert_eq!(&seen["content"].to_string(), width, "{report:#}");
            assert!(seen["row"].as_f64().unwrap() >= 40.0, "{report:#}");
        }
        assert_eq!(report["widths"].as_object().unwrap().len(), 3);
        backgrounds.push(report["background"].as_str().unwrap().to_owned());
    }
    assert_ne!(backgrounds[0], backgrounds[1], "dark is not light");
}
