//! The ways of sending that can be compared here.

use std::fmt;
use std::thread;

use lendfile::Method;
use lendfile_core::MethodSet;
use lendfile_epoll::EpollTransport;
use tokio::net::TcpStream;

/// A method of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) backend: String,
    pub(super) method: String,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.backend, self.method)
    }
}

/// What stands for every method.
pub(super) const ALL: &str = "all";

/// The backends' names.
pub(super) const BACKENDS: [&str; 2] = ["epoll", "uring"];

/// A backend of this command.
struct Backend {
    name: &'static str,
    /// Its methods, or why it cannot be had here.
    methods: Result<MethodSet, String>,
}

fn backends() -> [Backend; 2] {
    let [epoll, uring_name] = BACKENDS;
    [
        Backend {
            name: epoll,
            methods: Ok(EpollTransport::<TcpStream>::backend_capabilities().methods),
        },
        Backend {
            name: uring_name,
            methods: uring().map_err(|error| error.to_string()),
        },
    ]
}

/// The ring's methods, found by making one: on a thread that ends, since a ring belongs to its.
fn uring() -> Result<MethodSet, lendfile::Error> {
    let tried = thread::spawn(|| {
        let runtime = lendfile_uring::Runtime::new()?;
        runtime.block_on(async {
            let uring = lendfile_uring::Uring::new()?;
            Ok(lendfile_core::Backend::<TcpStream>::capabilities(&uring).methods)
        })
    });
    tried
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The ways that were asked for by name, or all, and a line for each that is not to be had here.
pub(super) fn chosen(methods: &[String], asked: &[String]) -> (Vec<Way>, Vec<String>) {
    let (mut ways, mut missing) = (Vec::new(), Vec::new());
    let known = backends();
    let is_asked = |backend: &&Backend| asked.iter().any(|name| name == backend.name);
    let all = methods.is_empty() || methods.iter().any(|name| name == ALL);
    for backend in known.iter().filter(|it| asked.is_empty() || is_asked(it)) {
        let name = backend.name;
        let found = match &backend.methods {
            Ok(found) => found,
            Err(reason) => {
                // Only what was asked for is missed.
                if !asked.is_empty() {
                    missing.push(format!("left out: no backend {name} here: {reason}"));
                }
                continue;
            }
        };
        let has = |method: &&Method| **method == Method::Auto || found.contains(**method);
        let asked = |method: &&Method| all || methods.iter().any(|name| name == method.name());
        ways.extend(
            Method::ALL
                .iter()
                .filter(has)
                .filter(asked)
                .map(|method| Way {
                    backend: name.to_owned(),
                    method: method.name().to_owned(),
                }),
        );
    }
    for method in methods.iter().filter(|_| !all) {
        if !ways.iter().any(|way| way.method == *method) {
            missing.push(format!(
                "left out: method {method} is not to be had; `lendfile probe` says what is"
            ));
        }
    }
    (ways, missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn methods(wanted: &[&str]) -> (Vec<String>, usize) {
        let wanted: Vec<_> = wanted.iter().map(|&name| name.to_owned()).collect();
        let (ways, missing) = chosen(&wanted, &["epoll".to_owned()]);
        (
            ways.into_iter().map(|way| way.method).collect(),
            missing.len(),
        )
    }

    #[test]
    fn all_are_those_that_the_backend_has_and_a_missing_one_is_named() {
        let (all, missing) = methods(&["all"]);
        assert!(
            all.starts_with(&["auto".to_owned(), "copy".to_owned()]),
            "{all:?}"
        );
        assert!(
            all.contains(&"sendfile".to_owned()) && missing == 0,
            "{all:?}"
        );
        assert!(
            !all.iter().any(|method| method.starts_with("ring")),
            "{all:?}"
        );
        let (some, missing) = methods(&["copy", "ring-hybrid"]);
        assert_eq!((&some[..], missing), (&["copy".to_owned()][..], 1));
    }
}
