//! The ways of sending that can be compared here.

use std::fmt;

use lendfile::Method;
use lendfile_core::MethodSet;
use lendfile_epoll::EpollTransport;
use tokio::net::TcpStream;

/// A method of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// `None` while there is nothing to choose from.
    pub(super) backend: Option<String>,
    pub(super) method: String,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.backend {
            Some(backend) => write!(f, "{backend} {}", self.method),
            None => f.write_str(&self.method),
        }
    }
}

/// A backend of this command.
struct Backend {
    name: &'static str,
    methods: MethodSet,
}

fn backends() -> Vec<Backend> {
    vec![Backend {
        name: "epoll",
        methods: EpollTransport::<TcpStream>::backend_capabilities().methods,
    }]
}

/// The ways that were asked for by name, or all, and a line for each that is not to be had here.
pub(super) fn chosen(methods: &[String], backend: Option<&str>) -> (Vec<Way>, Vec<String>) {
    let (mut ways, mut missing) = (Vec::new(), Vec::new());
    let known = backends();
    let only_one = known.len() == 1;
    let wanted: Vec<&str> = match backend {
        None => known.iter().map(|backend| backend.name).collect(),
        Some(names) => names.split(',').collect(),
    };
    let all = methods.is_empty() || methods.iter().any(|name| name == "all");
    for name in wanted {
        let Some(backend) = known.iter().find(|backend| backend.name == name) else {
            missing.push(format!("left out: backend {name} is not available here"));
            continue;
        };
        let way = |method: &str| Way {
            backend: (!only_one).then(|| name.to_owned()),
            method: method.to_owned(),
        };
        let has = |method: &str| {
            method == Method::Auto.name() || backend.methods.iter().any(|one| one.name() == method)
        };
        if all {
            ways.extend(
                Method::ALL
                    .iter()
                    .filter(|it| has(it.name()))
                    .map(|it| way(it.name())),
            );
        } else {
            ways.extend(methods.iter().filter(|it| has(it)).map(|it| way(it)));
        }
    }
    if !all {
        for method in methods {
            if !ways.iter().any(|way| way.method == *method) {
                let names = Method::ALL.map(Method::name).join(", ");
                missing.push(format!(
                    "left out: method {method} is not available here; there are {names}"
                ));
            }
        }
    }
    (ways, missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn methods(wanted: &[&str]) -> (Vec<String>, usize) {
        let wanted: Vec<_> = wanted.iter().map(|&name| name.to_owned()).collect();
        let (ways, missing) = chosen(&wanted, Some("epoll"));
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
        let (some, missing) = methods(&["copy", "teleport"]);
        assert_eq!((&some[..], missing), (&["copy".to_owned()][..], 1));
        assert_eq!(chosen(&[], Some("carrier-pigeon")).1.len(), 1);
    }
}
