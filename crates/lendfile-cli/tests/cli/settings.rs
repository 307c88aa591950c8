//! Settings from files, the environment and the command line; what is printed of them.

use crate::command::{Running, connect, lendfile, run};

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
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let place = format!("{}:3:1: ", file.display());
    assert!(finished.stderr.contains(&place), "{finished:?}");
    assert!(
        finished.stderr.contains("did you mean \"threads\"?"),
        "{finished:?}"
    );
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
fn the_conveniences_are_what_they_say() {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in [("start.html", "start"), ("a.css", "css"), (".dot", "dot")] {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    let (_server, addr) = crate::command::serve(
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
    let (_server, addr) = crate::command::serve(dir.path(), &["--listing"]);
    assert_eq!(connect(addr).get("/", accept).body, b"index");
    let (_server, addr) = crate::command::serve(dir.path(), &["--listing", "--index", ""]);
    let listing = connect(addr).get("/", accept);
    let listing = String::from_utf8(listing.body).unwrap();
    assert!(listing.contains("index.html"), "{listing}");
}
