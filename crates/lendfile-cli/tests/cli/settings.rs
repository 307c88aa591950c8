//! Settings from files, the environment and the command line; what is printed of them.

use std::collections::BTreeMap;

use lendfile_tests::mounts::HungMount;
use rustix::process::Signal;

use crate::command::{Running, connect, lendfile, run, serve};
use crate::failures::assert_line;

#[test]
fn a_file_with_a_mistake_is_named_with_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lendfile.toml");
    std::fs::write(
        &file,
        "dir = \".\"\nlisten = [\"127.0.0.1:0\"]\nthread = 1\n",
    )
    .unwrap();
    let mut command = lendfile(["serve", "--config"]);
    command.arg(&file);
    let finished = run(command);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    let place = format!("{}:3:1: ", file.display());
    assert!(finished.stderr.contains(&place), "{finished:?}");
    assert!(
        finished.stderr.contains("did you mean \"threads\"?"),
        "{finished:?}"
    );
}

#[test]
fn a_variable_with_a_mistake_is_named() {
    let serve = |variable: &str, value: &str| {
        let mut command = lendfile(["serve", ".", "--print-config"]);
        command.env(variable, value);
        command
    };
    for (variable, value, part) in [
        ("LENDFILE_IDLE_TIMEOUT", "30", "30s"),
        ("LENDFILE_THREADS", "0", "from 1 on"),
        ("LENDFILE_CORS", "yes", "possible values: true, false"),
        ("LENDFILE_METHOD", "teleport", "sendfile"),
        ("LENDFILE_LISTEN", "127.0.0.1:0,here", "'here'"),
        ("LENDFILE_LOG", "lendfile=nope", "lendfile_core=debug"),
    ] {
        let parts = [&format!("{variable}: "), part];
        assert_line(2, &run(serve(variable, value)), &parts);
    }
    let mut both = serve("LENDFILE_NOT_FOUND", "404.html");
    both.arg("--spa");
    let parts = ["LENDFILE_NOT_FOUND: ", "--spa", "cannot be used with"];
    assert_line(2, &run(both), &parts);
    // What the command line says is the command line's, and replaces the variable's.
    let mut other = serve("LENDFILE_THREADS", "0");
    other.args(["--idle-timeout", "30"]);
    let finished = run(other);
    assert_eq!(finished.code, Some(2));
    assert!(finished.stderr.contains("--idle-timeout") && !finished.stderr.contains("LENDFILE"));
    let mut replaced = serve("LENDFILE_THREADS", "0");
    replaced.arg("--threads=1");
    assert_eq!(run(replaced).code, Some(0));
}

#[test]
fn the_command_line_goes_before_the_environment_and_that_before_the_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "content").unwrap();
    let file = dir.path().join("lendfile.toml");
    let text = format!(
        "dir = {:?}\nlisten = \"127.0.0.1:0\"\nthreads = 1\ngrace = \"1s\"\nheader = [\"x-a: file\", \"x-b: file\"]",
        dir.path(),
    );
    std::fs::write(&file, text).unwrap();
    let command = || {
        let mut command = lendfile(["serve", "--grace", "3s", "--config"]);
        command
            .arg(&file)
            .env("LENDFILE_GRACE", "2s")
            .env("LENDFILE_THREADS", "2");
        command
    };
    let mut printing = command();
    printing.arg("--print-config");
    let printed = run(printing).stdout;
    let line = |name: &str| {
        let line = printed.lines().find(|line| line.starts_with(name));
        line.unwrap_or_default()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(line("grace"), "grace = \"3s\" # command line", "{printed}");
    assert_eq!(line("threads"), "threads = 2 # environment");
    assert_eq!(line("listen"), "listen = [\"127.0.0.1:0\"] # file");
    assert_eq!(line("idle-timeout"), "idle-timeout = \"75s\" # default");
    let mut server = Running::start(command());
    let told = server.next_line();
    let addr = told
        .strip_prefix("listening on http://")
        .unwrap()
        .parse()
        .unwrap();
    let response = connect(addr).get("/file", "");
    assert_eq!(
        (&*response.headers["x-a"], &*response.headers["x-b"]),
        ("file", "file")
    );
}

#[test]
fn the_manual_page_and_the_completions_name_every_flag() {
    for what in ["man", "bash", "zsh", "fish", "elvish"] {
        let finished = run(lendfile(["generate", what]));
        assert_eq!(finished.code, Some(0), "{what}");
        let text = finished.stdout.replace("\\-", "-");
        for flag in ["idle-timeout", "listen", "rate-limit", "spa", "sandbox"] {
            assert!(text.contains(flag), "{what}: {flag}");
        }
    }
}

#[test]
fn the_manual_page_is_all_there_is_and_says_how_it_ends() {
    let text = run(lendfile(["generate", "man"]))
        .stdout
        .replace("\\-", "-");
    for command in ["bench", "generate", "probe", "serve"] {
        let heading = format!(".SH \"LENDFILE {}\"\n", command.to_uppercase());
        assert!(text.contains(&heading), "{text}");
        let page = format!("lendfile-{command}(1)");
        assert!(!text.contains(&page), "there is no such page: {page}");
    }
    let (_, status) = text
        .split_once(".SH \"EXIT STATUS\"\n")
        .expect("its section");
    assert!(status.contains("2\\fR\nWrong usage"), "{status}");
    let example = ".nf\nExamples:\n  lendfile serve .  ";
    assert!(text.contains(example), "lines of examples stay lines");
}

#[test]
fn a_page_for_what_is_not_found_that_is_missing_is_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("there.html"), "there").unwrap();
    for (option, reason) in [
        ("--spa", Some("--spa=index.html cannot be sent")),
        ("--not-found=404.html", Some("there is no such file")),
        (
            "--not-found=../404.html",
            Some("it is not below the directory"),
        ),
        ("--not-found=there.html", None),
        ("--spa=there.html", None),
    ] {
        let (mut server, addr) = serve(dir.path(), &[option]);
        let status = connect(addr).get("/missing", "").status;
        assert_eq!(status == 200, option == "--spa=there.html", "{option}");
        if let Some(reason) = reason {
            let warning = server.next_error();
            assert!(warning.contains("WARN"), "{option}: {warning}");
            assert!(warning.contains(reason), "{option}: {warning}");
        }
        server.signal(Signal::TERM);
        let finished = server.finish();
        assert_eq!(finished.code, Some(0), "{finished:?}");
        assert_eq!(finished.stderr, "", "{option}");
    }
}

#[test]
fn nothing_waits_for_a_page_for_what_is_not_found_on_a_hung_mount() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "content").unwrap();
    let hung = dir.path().join("hung");
    std::fs::create_dir(&hung).unwrap();
    let Some(_mount) = HungMount::on(&hung) else {
        return;
    };
    for option in ["--spa=hung/index.html", "--not-found=hung/404.html"] {
        let (server, addr) = serve(dir.path(), &[option]);
        assert_eq!(connect(addr).get("/file", "").body, b"content");
        server.signal(Signal::TERM);
        let finished = server.finish();
        assert_eq!((finished.code, &*finished.stderr), (Some(0), ""));
    }
}

/// The CORS headers of a response, without what they all begin with.
fn cors(headers: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
    let own = |(name, value)| {
        let name: &String = name;
        let value: &String = value;
        Some((name.strip_prefix("access-control-")?, value.as_str()))
    };
    headers.iter().filter_map(own).collect()
}

#[test]
fn scripts_of_other_origins_may_read_every_answer_and_ask_before() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "content").unwrap();
    std::fs::create_dir(dir.path().join("folder")).unwrap();
    let (_server, addr) = serve(dir.path(), &["--cors", "--listing", "--header", "X-Own: a"]);
    let mut client = connect(addr);
    let origin = "origin: https://app.example\r\n";
    for (method, target, header, status) in [
        ("GET", "/file", "", 200),
        ("HEAD", "/file", "", 200),
        ("GET", "/file", "range: bytes=1-2\r\n", 206),
        ("GET", "/file", "range: bytes=9-\r\n", 416),
        (
            "GET",
            "/file",
            "if-modified-since: Fri, 31 Dec 9999 23:59:59 GMT\r\n",
            304,
        ),
        ("GET", "/missing", "", 404),
        ("GET", "/folder", "", 301),
        ("GET", "/folder/", "", 200),
        ("POST", "/file", "", 405),
        ("OPTIONS", "/file", "", 204),
    ] {
        let response = client.request(method, target, &format!("{origin}{header}"));
        assert_eq!(response.status, status, "{method} {target}");
        let fields = cors(&response.headers);
        let [("allow-origin", "*"), ("expose-headers", exposed)] = fields[..] else {
            panic!("{method} {target}: {fields:?}");
        };
        let exposed: Vec<_> = exposed.split(", ").collect();
        for name in [
            "Content-Range",
            "ETag",
            "Content-Length",
            "Accept-Ranges",
            "x-own",
        ] {
            assert!(exposed.contains(&name), "{name}: {exposed:?}");
        }
        let allow = response.headers.get("allow").map(String::as_str);
        let says = matches!(status, 204 | 405).then_some("GET, HEAD, OPTIONS");
        assert_eq!(allow, says, "{method} {target}");
    }
    // Fetch: a preflight has both.
    for (header, preflight) in [
        ("", false),
        (origin, false),
        ("access-control-request-method: GET\r\n", false),
        (
            "origin: https://app.example\r\naccess-control-request-method: GET\r\n",
            true,
        ),
    ] {
        let answer = client.request("OPTIONS", "/file", header);
        assert_eq!((answer.status, answer.len), (204, 0), "{header}");
        assert_eq!(answer.headers["allow"], "GET, HEAD, OPTIONS", "{header}");
        let names: Vec<_> = cors(&answer.headers)
            .iter()
            .map(|(name, _)| *name)
            .collect();
        let only = ["allow-headers", "allow-methods", "max-age"];
        let always = ["allow-origin", "expose-headers"];
        assert!(always.iter().all(|name| names.contains(name)), "{names:?}");
        for name in only {
            assert_eq!(names.contains(&name), preflight, "{header}: {names:?}");
        }
    }
    let asked = format!(
        "{origin}access-control-request-method: GET\r\naccess-control-request-headers: range\r\n"
    );
    for target in ["/file", "/missing"] {
        let answer = client.request("OPTIONS", target, &asked);
        assert_eq!((answer.status, answer.len), (204, 0));
        assert_eq!(answer.headers["access-control-allow-methods"], "GET, HEAD");
        assert_eq!(answer.headers["access-control-max-age"], "86400");
        let allowed = &answer.headers["access-control-allow-headers"];
        for name in ["Range", "If-Range", "If-None-Match"] {
            assert!(allowed.split(", ").any(|one| one == name), "{allowed}");
        }
    }

    let own = [
        "Access-Control-Allow-Origin: https://app.example",
        "Access-Control-Allow-Credentials: true",
        "Access-Control-Max-Age: 60",
    ];
    let own = own.iter().flat_map(|header| ["--header", *header]);
    let options: Vec<_> = ["--cors"].into_iter().chain(own).collect();
    let (_server, addr) = serve(dir.path(), &options);
    let mut client = connect(addr);
    for (method, target, header, status) in [
        ("GET", "/file", origin, 200),
        ("GET", "/missing", origin, 404),
        ("POST", "/file", origin, 405),
        ("OPTIONS", "/file", origin, 204),
        ("OPTIONS", "/file", &asked, 204),
    ] {
        let answer = client.request(method, target, header);
        assert_eq!(answer.status, status);
        for (name, value) in [
            ("allow-origin", "https://app.example"),
            ("allow-credentials", "true"),
            ("max-age", "60"),
        ] {
            let fields = cors(&answer.headers);
            assert!(
                fields.contains(&(name, value)),
                "{method} {target}: {fields:?}"
            );
        }
    }
    client.send("GET /file HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    let raw = String::from_utf8(client.rest().unwrap()).unwrap();
    assert_eq!(raw.matches("allow-origin:").count(), 1, "{raw}");

    let (_server, addr) = serve(dir.path(), &[]);
    let answer = connect(addr).request("OPTIONS", "/file", &asked);
    assert_eq!(cors(&answer.headers), []);
}

#[test]
fn the_conveniences_are_what_they_say() {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in [("start.html", "start"), ("a.css", "css"), (".dot", "dot")] {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    let (_server, addr) = serve(
        dir.path(),
        &[
            "--spa=start.html",
            "--index",
            "start.html",
            "--cors",
            "--header",
            "X-A: b",
            "--cache-control",
            "*.css: max-age=60",
            "--cache-control",
            "no-cache",
            "--dotfiles",
        ],
    );
    let mut client = connect(addr);
    let start = client.get("/", "");
    assert_eq!((start.status, &*start.body), (200, &b"start"[..]));
    assert_eq!(start.headers["cache-control"], "no-cache");
    assert_eq!(start.headers["access-control-allow-origin"], "*");
    assert_eq!(start.headers["x-a"], "b");
    assert_eq!(
        client.get("/a.css", "").headers["cache-control"],
        "max-age=60"
    );
    assert_eq!(
        client.get("/some/route", "accept: text/html\r\n").body,
        b"start"
    );
    assert_eq!(client.get("/.dot", "").body, b"dot");
}

#[test]
fn a_directory_is_listed_if_no_file_stands_for_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("index.html"), "index").unwrap();
    let accept = "accept: application/json\r\n";
    let (_server, addr) = serve(dir.path(), &["--listing"]);
    assert_eq!(connect(addr).get("/", accept).body, b"index");
    let (_server, addr) = serve(dir.path(), &["--listing", "--index", ""]);
    let listing = connect(addr).get("/", accept);
    let listing = String::from_utf8(listing.body).unwrap();
    assert!(listing.contains("index.html"), "{listing}");
}
