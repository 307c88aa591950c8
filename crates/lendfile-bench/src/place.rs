//! A place: the core and the network namespace that a client or a server runs in.
//!
//! Both belong to a *thread* and are inherited by its children. So everything here happens on a
//! short-lived thread of its own, and the calling thread stays where it is.

use std::process::{Child, Command};
use std::sync::Arc;
use std::thread;

use crate::netns::Namespace;
use crate::pin::pin_thread;
use crate::{Error, Result};

/// Where to run: nothing set means wherever the calling thread is.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Place {
    /// The core to pin to.
    pub core: Option<usize>,
    /// The network namespace to enter.
    pub namespace: Option<Arc<Namespace>>,
}

impl Place {
    /// Runs `work` on a thread in this place and waits for it.
    ///
    /// # Errors
    ///
    /// [`crate::Kind::System`] if the place cannot be entered.
    ///
    /// # Panics
    ///
    /// If `work` panics.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                if let Some(namespace) = &self.namespace {
                    namespace.enter()?;
                }
                if let Some(core) = self.core {
                    pin_thread(core)?;
                }
                Ok(work())
            });
            match worker.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Starts a child in this place.
    ///
    /// # Errors
    ///
    /// [`crate::Kind::Unavailable`] if the program does not exist; [`crate::Kind::System`] if the
    /// place cannot be entered or the child cannot be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        let program = command.get_program().to_string_lossy().into_owned();
        self.run(|| command.spawn())?.map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                Error::unavailable(format!("{program}: no such program"))
            } else {
                Error::system(format!("starting {program}"), error)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::{CpuSet, sched_getaffinity};

    #[test]
    fn the_work_and_its_children_are_pinned_and_the_caller_is_not() {
        let before = sched_getaffinity(None).unwrap();
        let core = (0..CpuSet::MAX_CPU)
            .rfind(|core| before.is_set(*core))
            .unwrap();
        let place = Place {
            core: Some(core),
            namespace: None,
        };
        let inside = place.run(|| sched_getaffinity(None).unwrap()).unwrap();
        assert!(inside.count() == 1 && inside.is_set(core));
        assert!(sched_getaffinity(None).unwrap() == before);

        let mut command = Command::new("grep");
        command
            .args(["^Cpus_allowed_list:", "/proc/self/status"])
            .stdout(std::process::Stdio::piped());
        let output = place
            .spawn(&mut command)
            .unwrap()
            .wait_with_output()
            .unwrap();
        let line = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            line.split_whitespace().last(),
            Some(core.to_string().as_str())
        );
    }

    #[test]
    fn a_missing_program_is_unavailable() {
        let error = Place::default()
            .spawn(&mut Command::new("lendfile-no-such-program"))
            .unwrap_err();
        assert!(error.is_unavailable(), "{error}");
    }
}
