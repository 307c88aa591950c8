use clap::FromArgMatches;

use super::*;
use crate::args;

fn serve(file: &str, line: &[&str]) -> Result<(args::Serve, ArgMatches), String> {
    let command =
        with_file(command(), Path::new("x.toml"), file).map_err(|failure| failure.to_string())?;
    let line = ["lendfile", "serve"].iter().chain(line);
    let matches = command
        .try_get_matches_from(line)
        .map_err(|error| error.to_string())?;
    let args = Args::from_arg_matches(&matches).map_err(|error| error.to_string())?;
    let args::Command::Serve(serve) = args.command else {
        return Err("another command".into());
    };
    let matches = matches.subcommand_matches(SERVE).unwrap().clone();
    Ok((*serve, matches))
}

const FILE: &str = "\
# comment
dir = \"/srv\"
listen = [\"127.0.0.1:1\", \"unix:/run/x\"]
threads = 3
cors = true
idle-timeout = \"5s\"
header = [\"A: b\", \"C: d, e\"]
";

#[test]
fn a_file_sets_what_the_command_line_does_not() {
    let (args, _) = serve(FILE, &["--idle-timeout", "7s"]).unwrap();
    assert_eq!(args.dir, Path::new("/srv"));
    assert_eq!(args.listen.len(), 2);
    assert_eq!(args.threads.unwrap().get(), 3);
    assert!(args.responses.cors);
    assert_eq!(args.responses.header.len(), 2);
    let limits = args.limits.limits();
    assert_eq!(limits.idle_timeout, Some(std::time::Duration::from_secs(7)));
    let (args, _) = serve(FILE, &["--cors=false", "--listen", "[::1]:0", "/www"]).unwrap();
    assert!(!args.responses.cors);
    assert_eq!((args.listen.len(), &*args.dir), (1, Path::new("/www")));
}

#[test]
fn what_is_wrong_in_a_file_is_named_with_its_place() {
    for (file, message) in [
        (
            "dir = \"/srv\"\nlistn = \"x\"",
            "x.toml:2:1: no setting is named \"listn\"; did you mean \"listen\"?",
        ),
        (
            "\n  threads = 0",
            "x.toml:2:13: invalid value '0' for '--threads <N>'",
        ),
        (
            "listen = [\"127.0.0.1:1\", \"here\"]",
            "x.toml:1:26: invalid value 'here'",
        ),
        ("method = \"teleport\"", "[possible values: auto"),
        ("dir = ", "x.toml:1:7:"),
        (
            "config = \"y\"",
            "x.toml:1:1: no setting is named \"config\"",
        ),
        (
            "grace = 1.5",
            "x.toml:1:9: expected a string, number or boolean",
        ),
        ("cors = \"maybe\"", "x.toml:1:8: invalid value 'maybe'"),
    ] {
        let error = serve(file, &[]).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn a_list_that_the_file_empties_is_printed_empty() {
    let (_, matches) = serve("dir = \"/srv\"\nindex = []", &[]).unwrap();
    let printed = print(&matches);
    let index = printed.lines().find(|line| line.starts_with("index = []"));
    assert!(
        index.is_some_and(|line| line.ends_with("# file")),
        "{printed}"
    );
    let (_, again) = serve(&printed, &[]).unwrap();
    assert_eq!(again.get_raw("index").map_or(0, Iterator::count), 0);
}

#[test]
fn the_printed_settings_are_a_file_with_the_same_meaning() {
    let (_, matches) = serve(FILE, &["--idle-timeout=7s"]).unwrap();
    let printed = print(&matches);
    for line in [
        "dir = \"/srv\" # file",
        "listen = [\"127.0.0.1:1\", \"unix:/run/x\"] # file",
        "idle-timeout = \"7s\" # command line",
        "header-timeout = \"30s\" # default",
        "cors = true # file",
        "# user = # not set",
    ] {
        let squeezed = printed
            .split(' ')
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>();
        assert!(squeezed.join(" ").contains(line), "{line}\n{printed}");
    }
    let (_, again) = serve(&printed, &[]).unwrap();
    let settings = |printed: &str| {
        let lines = printed
            .lines()
            .map(|line| line.rsplit_once(" # ").unwrap().0.trim_end().to_owned());
        lines.collect::<Vec<_>>()
    };
    assert_eq!(settings(&print(&again)), settings(&printed));
}

#[test]
fn every_setting_has_a_variable() {
    let command = command();
    let serve = command.find_subcommand(SERVE).unwrap();
    let idle = serve
        .get_arguments()
        .find(|arg| arg.get_id() == "idle_timeout")
        .unwrap();
    assert_eq!(idle.get_env().unwrap(), "LENDFILE_IDLE_TIMEOUT");
}
