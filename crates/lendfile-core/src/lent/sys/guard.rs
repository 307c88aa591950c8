//! The guard: a `SIGBUS` handler that answers for the arena's addresses and passes every other
//! fault to the handler that was there before.
//!
//! It runs on the thread that touched the missing page, so it uses nothing but atomics and one
//! raw `mmap` (rustix's linux_raw backend does not go through libc or errno).

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::Ordering;
use std::sync::{Once, OnceLock};

use libc::{c_int, c_void, siginfo_t};
use rustix::mm::{MapFlags, ProtFlags};

use crate::lent::arena;

static PREVIOUS: OnceLock<Previous> = OnceLock::new();

/// The disposition that the guard replaced.
struct Previous {
    action: libc::sigaction,
    page_bytes: usize,
}

/// Installs the handler, once per process; only ever called after the arena exists.
pub(in crate::lent) fn install_guard() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let mut previous = zeroed_action();
        // SAFETY: asks only; `previous` is a live structure.
        let asked = unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), &mut previous) };
        assert_eq!(asked, 0, "SIGBUS is a valid signal");
        // Published before the handler can run, which needs it to pass foreign faults on.
        PREVIOUS.get_or_init(|| Previous {
            action: previous,
            page_bytes: rustix::param::page_size(),
        });
        let mut action = zeroed_action();
        action.sa_sigaction = on_sigbus as *const () as usize;
        // ONSTACK: std gives its threads an alternate stack; a fault may come with little left.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: the handler has the signature SA_SIGINFO asks for and lives as long as the
        // program.
        let set = unsafe { libc::sigaction(libc::SIGBUS, &action, ptr::null_mut()) };
        assert_eq!(set, 0, "SIGBUS can be handled");
    });
}

fn zeroed_action() -> libc::sigaction {
    // SAFETY: sigaction is a C structure of integers, for which all zeros is a value: no flags,
    // an empty mask, SIG_DFL.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

extern "C" fn on_sigbus(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    if !replace_missing_page(info) {
        chain(signal, info, context);
    }
}

/// Puts zeros where a lent page is missing; false if the fault is not ours.
fn replace_missing_page(info: *mut siginfo_t) -> bool {
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo for the handler's duration.
    let info = unsafe { &*info };
    // Only a reader's own fault: not `kill`, which has no address, and not the report of a broken
    // page that nobody has touched (BUS_MCEERR_AO).
    if !(libc::BUS_ADRERR..=libc::BUS_MCEERR_AR).contains(&info.si_code) {
        return false;
    }
    // SAFETY: the kernel fills in the address for every SIGBUS it raises for a fault.
    let address = unsafe { info.si_addr() }.addr();
    let (Some(arena), Some(previous)) = (arena::existing(), PREVIOUS.get()) else {
        return false;
    };
    let Some(slot) = arena.slot_at(address) else {
        return false;
    };
    let published = arena.mapping(slot).load(Ordering::Acquire);
    // SAFETY: a fault in the slot means that somebody is reading lent bytes right now, on this
    // thread: so the mapping, if there is one, lives until this handler has returned.
    let Some(mapping) = (unsafe { published.as_ref() }) else {
        return false;
    };
    arena.poison(slot);
    // All from the page on: the file has most likely ended there, and a fault per page of a
    // truncated 1 GiB file would be 260,000 of them.
    let page = address & !(previous.page_bytes - 1);
    let len = mapping.address() + mapping.len() - page;
    let page = ptr::with_exposed_provenance_mut(page);
    let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
    // SAFETY: the range is the mapping's own, from a page of it to its end. Slices into it are
    // read-only and stay readable; what they held was gone.
    unsafe { rustix::mm::mmap_anonymous(page, len, ProtFlags::READ, flags) }.is_ok()
}

/// Does what would have happened without the guard.
fn chain(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let previous = PREVIOUS.get().map(|previous| &previous.action);
    let handler = previous.map_or(libc::SIG_DFL, |action| action.sa_sigaction);
    let takes_info = previous.is_some_and(|action| action.sa_flags & libc::SA_SIGINFO != 0);
    // SAFETY: as in `replace_missing_page`.
    let from_kernel = unsafe { (*info).si_code } > 0;
    if handler == libc::SIG_IGN && !from_kernel {
        return;
    }
    if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
        // The kernel does not let a fault be ignored. Back to the default: the faulting
        // instruction runs again, or the signal raised here arrives when this handler returns.
        // SAFETY: sets a disposition; async-signal-safe.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        // SAFETY: async-signal-safe.
        unsafe { libc::raise(signal) };
    } else if takes_info {
        type WithInfo = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);
        // SAFETY: SA_SIGINFO says that the address is a function of this signature.
        let handler = unsafe { std::mem::transmute::<usize, WithInfo>(handler) };
        handler(signal, info, context);
    } else {
        // SAFETY: without SA_SIGINFO, and neither default nor ignore, it is a function of one
        // argument.
        let handler = unsafe { std::mem::transmute::<usize, extern "C" fn(c_int)>(handler) };
        handler(signal);
    }
}
