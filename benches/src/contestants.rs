//! The table of contestants. A new one is a struct with a name and a command line, and a line in
//! [`all`].

mod golang;
mod installed;
mod observed;
mod own;

use std::path::{Path, PathBuf};
use std::process::Command;

use lendfile_bench::contest::{Contestant, Lendfile, Role};

use crate::bare::Method;
use golang::GoFileServer;
use installed::Installed;
use observed::Observed;
use own::{Bare, Rival};

/// The programs that contestants are started from.
#[derive(Clone, Debug)]
pub struct Programs {
    /// This program, whose subcommands are the contestants that are built with it.
    pub race: PathBuf,
    /// The `lendfile` command.
    pub lendfile: PathBuf,
}

/// lendfile's methods, each with its backend, as the command at `lendfile` lists them: none if it
/// cannot be run, which the race says when it is to be started.
pub fn ways(lendfile: &Path) -> Vec<Way> {
    let listed = Command::new(lendfile).args(["bench", "--list"]).output();
    let listed = listed.map(|output| output.stdout).unwrap_or_default();
    let ways: Vec<Way> = String::from_utf8_lossy(&listed)
        .lines()
        .filter_map(
            |line| match line.split_whitespace().collect::<Vec<_>>()[..] {
                [method] => Some((method.to_owned(), None)),
                [backend, method] => Some((method.to_owned(), Some(backend.to_owned()))),
                _ => None,
            },
        )
        .collect();
    if ways.is_empty() {
        return vec![("auto".to_owned(), None)];
    }
    ways
}

/// A method, and the backend if there is a choice.
pub type Way = (String, Option<String>);

/// How many copies by CPU the founding article says a contestant's way makes, the DMA's not counted.
pub fn article(name: &str) -> Option<&'static str> {
    let way = name.rsplit(' ').next()?;
    Some(match way {
        "copy" => "2 (read + write)",
        "mmap" => "1 (mmap + write)",
        "sendfile" | "sendfile+cork" => "0–1 (sendfile; 0 with DMA gather)",
        "splice" => "0 (splice)",
        _ => return None,
    })
}

/// What the names begin with of lendfile with a log or metrics on. They race only when asked for.
pub const OBSERVED: &str = "with ";

/// Every contestant, in the order of the tables: the limits first. `ways` are lendfile's methods,
/// each with its backend.
pub fn all(programs: &Programs, ways: &[Way]) -> Vec<Box<dyn Contestant>> {
    let bare = |name, method, role| -> Box<dyn Contestant> {
        Box::new(Bare {
            name,
            program: programs.race.clone(),
            method,
            role,
        })
    };
    let rival = |name, subcommand| -> Box<dyn Contestant> {
        Box::new(Rival {
            name,
            program: programs.race.clone(),
            subcommand,
        })
    };
    let mut all = vec![
        bare("bare sendfile", Method::Sendfile, Role::Limit),
        bare("bare sendfile+cork", Method::SendfileCork, Role::Limit),
        bare("bare splice", Method::Splice, Role::Rival),
        bare("bare mmap", Method::Mmap, Role::Rival),
        bare("bare copy", Method::Copy, Role::Rival),
        bare("bare memory", Method::Memory, Role::Rival),
    ];
    all.push(rival(
        "lendfile send_file sendfile",
        &["plain", "--method", "sendfile"],
    ));
    all.push(rival(
        "lendfile send_file splice",
        &["plain", "--method", "splice"],
    ));
    for (method, backend) in ways {
        let backend = backend.as_deref();
        all.push(Box::new(Lendfile::new(&programs.lendfile, method, backend)));
    }
    all.extend(Observed::all(&programs.lendfile).map(|one| Box::new(one) as Box<dyn Contestant>));
    all.extend(Installed::all().map(|peer| Box::new(peer) as Box<dyn Contestant>));
    all.push(Box::new(GoFileServer {
        beside: programs.race.clone(),
    }));
    all.push(rival("hyper memory", &["memory"]));
    all.push(rival("tower-http ServeDir", &["serve-dir"]));
    all.push(rival("actix-files", &["actix"]));
    all.push(rival("hyper-staticfile", &["staticfile"]));
    all
}
