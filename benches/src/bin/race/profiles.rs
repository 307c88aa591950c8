//! The races behind the project's claims: each is a list of the race's own command lines, so that
//! any of them can be run, changed and understood alone.

use clap::{Parser, ValueEnum};

use crate::arguments::Arguments;

/// Without mmap: what a server has mapped and touched, the page cache cannot let go of, so nobody
/// would find the file cold.
const COLD: &str = "bare sendfile,bare copy,lendfile epoll auto,lendfile epoll sendfile,\
    lendfile epoll splice,lendfile epoll copy,lendfile uring auto,lendfile uring ring,nginx";

/// What a record is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Profile {
    /// The founding article's table: what each way does
    Article,
    /// Files that are not in the page cache, epoll and io_uring
    Cold,
    /// HTTP/2 in cleartext
    H2,
    /// Everybody: 4k, 64k, 1m and 1g
    Peers,
    /// README's picture: everybody, 1m under cubic
    Picture,
    /// 1k to 64k over 32 connections against nginx and the limit; 1m against the peers
    Small,
    /// The ring's methods against epoll's, warm
    Uring,
    /// Every epoll method against the limit, warm
    Warm,
}

impl Profile {
    pub(crate) fn name(self) -> String {
        // Every variant has a name: none is skipped.
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    /// Where its picture goes, if it has one.
    pub(crate) fn picture(self) -> Option<&'static str> {
        (self == Self::Picture).then_some("benches/record/race.svg")
    }

    fn lines(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Article => &[&[
                "--dissect",
                "--sizes",
                "1m",
                "--cc",
                "cubic",
                "--only",
                "bare,lendfile",
            ]],
            Self::Cold => &[
                &[
                    "--cold",
                    "--sizes",
                    "1g",
                    "--conns",
                    "1",
                    "--cc",
                    "cubic",
                    "--only",
                    COLD,
                    "--against",
                    "bare sendfile",
                ],
                &[
                    "--cold",
                    "--sizes",
                    "16x64m",
                    "--conns",
                    "16",
                    "--cc",
                    "cubic",
                    "--only",
                    COLD,
                    "--against",
                    "bare sendfile",
                ],
            ],
            Self::H2 => &[&[
                "--h2",
                "--sizes",
                "64k,1m",
                "--conns",
                "8",
                "--cc",
                "cubic",
                "--only",
                "lendfile,H2O,Caddy",
                "--against",
                "H2O",
            ]],
            Self::Peers => &[&["--sizes", "4k,64k,1m,1g", "--cc", "cubic,bbr"]],
            Self::Picture => &[&["--sizes", "1m", "--cc", "cubic", "--rounds", "9"]],
            Self::Small => &[
                &[
                    "--sizes",
                    "1k,4k,16k,64k",
                    "--conns",
                    "32",
                    "--cc",
                    "cubic",
                    "--rounds",
                    "11",
                    "--only",
                    "lendfile epoll auto,lendfile uring auto,bare sendfile,hyper memory,Go",
                    "--against",
                    "nginx,bare memory",
                ],
                &[
                    "--sizes",
                    "1m",
                    "--conns",
                    "32",
                    "--cc",
                    "cubic,bbr",
                    "--rounds",
                    "11",
                    "--only",
                    "lendfile epoll auto,lendfile uring auto,bare sendfile,bare sendfile+cork",
                    "--against",
                    "nginx,Go FileServer,tower-http ServeDir",
                ],
            ],
            Self::Uring => &[&[
                "--sizes",
                "64k,1m,16m,1g",
                "--cc",
                "cubic",
                "--only",
                "lendfile",
                "--against",
                "lendfile epoll auto,lendfile epoll sendfile",
            ]],
            Self::Warm => &[&[
                "--sizes",
                "64k,1m,16m",
                "--cc",
                "cubic,bbr",
                "--rounds",
                "15",
                "--only",
                "bare,lendfile send_file,hyper memory,lendfile epoll,nginx",
            ]],
        }
    }

    /// The command lines, with what the caller has said of rounds, seconds and places.
    pub(crate) fn runs(self, given: &Arguments) -> Vec<Arguments> {
        let run = |line: &&[&str]| {
            let mut run = Arguments::parse_from(["race"].iter().chain(*line));
            run.rounds = given.rounds.or(run.rounds);
            run.seconds = given.seconds.or(run.seconds);
            run.lendfile.clone_from(&given.lendfile);
            run.dir.clone_from(&given.dir);
            run.lenient = true;
            run
        };
        self.lines().iter().map(run).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_a_valid_command_line() {
        let given = Arguments::parse_from(["race", "--rounds", "2"]);
        for profile in Profile::value_variants() {
            let runs = profile.runs(&given);
            assert!(runs.iter().all(|run| run.rounds == Some(2)), "{profile:?}");
        }
    }
}
