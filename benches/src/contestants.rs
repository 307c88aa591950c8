//! The table of contestants. A new one is a struct with a name and a command line, and a line in
//! [`all`].

mod lendfile;
mod nginx;
mod own;

use std::path::PathBuf;

use lendfile_bench::contest::Contestant;

use crate::bare::Method;
use lendfile::Lendfile;
use nginx::Nginx;
use own::{Bare, ServeDir};

/// The programs that contestants are started from.
#[derive(Clone, Debug)]
pub struct Programs {
    /// This program, whose subcommands are the contestants that are built with it.
    pub race: PathBuf,
    /// The `lendfile` command.
    pub lendfile: PathBuf,
}

/// Every contestant, in the order of the tables: the limits first.
pub fn all(programs: &Programs) -> Vec<Box<dyn Contestant>> {
    let bare = |name, method, limit| -> Box<dyn Contestant> {
        Box::new(Bare {
            name,
            program: programs.race.clone(),
            method,
            limit,
        })
    };
    let lendfile = |name, method| -> Box<dyn Contestant> {
        Box::new(Lendfile {
            name,
            program: programs.lendfile.clone(),
            method,
        })
    };
    vec![
        bare("bare sendfile", Method::Sendfile, true),
        bare("bare sendfile+cork", Method::SendfileCork, true),
        bare("bare copy", Method::Copy, false),
        lendfile("lendfile auto", "auto"),
        lendfile("lendfile sendfile", "sendfile"),
        lendfile("lendfile copy", "copy"),
        Box::new(Nginx),
        Box::new(ServeDir {
            program: programs.race.clone(),
        }),
    ]
}
