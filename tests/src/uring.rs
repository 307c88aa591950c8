//! A ring runtime, or a skip that says why; and a thread that is denied rings.

use std::thread;

use lendfile_core::Method;
use lendfile_uring::{Options, Runtime};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use crate::process;

/// A runtime with a ring on this thread; `None`, with the reason printed, where io_uring is denied.
///
/// # Panics
///
/// If it is not denied and does not work, or if `LENDFILE_REQUIRE` contains `uring`.
pub fn runtime_or_skip(options: Options) -> Option<Runtime> {
    match Runtime::with_options(options) {
        Ok(runtime) => Some(runtime),
        Err(error) if error.is_unsupported() => {
            process::skip("uring", &error.to_string());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// The methods that need a ring.
pub const BY_RING: [Method; 3] = [Method::RingFixed, Method::RingHybrid, Method::RingSplice];

/// Runs `f` on a thread to which a seccomp profile denies io_uring with EPERM, as containers do.
/// Processes that it starts are denied it, too.
///
/// # Panics
///
/// If the profile cannot be installed, or `f` panics.
pub fn denied_rings<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    let arch = TargetArch::try_from(std::env::consts::ARCH).expect("a known architecture");
    let calls = [
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
    ];
    let eperm = u32::try_from(libc::EPERM).expect("positive");
    let filter = SeccompFilter::new(
        calls.into_iter().map(|call| (call, Vec::new())).collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(eperm),
        arch,
    );
    let program: BpfProgram = filter.and_then(TryInto::try_into).expect("a filter");
    thread::scope(|scope| {
        let denied = scope.spawn(move || {
            seccompiler::apply_filter(&program).expect("a seccomp profile");
            f()
        });
        denied
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
