//! The guard and the limits of mapping, against the real kernel. What changes the whole process
//! (a signal's handler, thousands of mappings) runs in a child of its own.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::ptr;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

use crate::lent::CannotLend;
use crate::{FileRegion, OpenFile};

/// The exit code by which a child tells that the handler installed before was reached.
const REACHED: i32 = 42;

fn file(len: u64) -> (std::fs::File, Arc<OpenFile>) {
    let file = tempfile::tempfile().unwrap();
    file.set_len(len).unwrap();
    let open = OpenFile::new(file.try_clone().unwrap()).unwrap();
    (file, open)
}

/// Runs one test of this binary in a process of its own.
fn in_child(test: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args([&format!("lent::sys::tests::{test}"), "--exact"])
        .env("LENDFILE_CHILD", test)
        .output()
        .unwrap()
}

fn is_child(test: &str) -> bool {
    std::env::var("LENDFILE_CHILD").is_ok_and(|role| role == test)
}

/// A page outside the arena whose file has been cut: touching it is a SIGBUS of somebody else's.
fn foreign_missing_page() -> *const u8 {
    let (file, _) = file(4096);
    // SAFETY: a new mapping at an address of the kernel's choice.
    let page = unsafe {
        rustix::mm::mmap(
            ptr::null_mut(),
            4096,
            ProtFlags::READ,
            MapFlags::SHARED,
            &file,
            0,
        )
    };
    file.set_len(0).unwrap();
    page.unwrap().cast()
}

/// Lends, and has the guard replace a page: it is installed and works.
fn use_the_guard() {
    let (file, open) = file(3 * 4096);
    let region = FileRegion::whole(open);
    let mapping = region.map().unwrap();
    let lent = mapping.lend(&region, ());
    file.set_len(4096).unwrap();
    assert_eq!(lent[4095], 0);
    assert!(!mapping.is_poisoned());
    assert_eq!(lent[4096..], [0; 8192]);
    assert!(mapping.is_poisoned());
}

fn touch(page: *const u8) {
    // SAFETY: the page is mapped; that it faults is the test.
    unsafe { page.read_volatile() };
}

extern "C" fn tell_by_exit(_: libc::c_int) {
    // SAFETY: async-signal-safe, and does not return.
    unsafe { libc::_exit(REACHED) };
}

extern "C" fn tell_by_exit_with_info(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _: *mut libc::c_void,
) {
    // SAFETY: the guard passes on what the kernel gave it.
    let code = unsafe { (*info).si_code };
    // SAFETY: async-signal-safe, and does not return.
    unsafe {
        libc::_exit(if signal == libc::SIGBUS && code > 0 {
            REACHED
        } else {
            1
        })
    };
}

fn install(handler: usize, flags: libc::c_int) {
    // SAFETY: all zeros is a value of sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    // SAFETY: the callers pass handlers of the signature that goes with the flags.
    let set = unsafe { libc::sigaction(libc::SIGBUS, &action, ptr::null_mut()) };
    assert_eq!(set, 0);
}

#[test]
fn a_missing_lent_page_reads_as_zeros_and_poisons_its_mapping() {
    use_the_guard();
}

#[test]
fn a_fault_outside_the_arena_reaches_the_handler_installed_before() {
    const NAME: &str = "a_fault_outside_the_arena_reaches_the_handler_installed_before";
    if is_child(NAME) {
        install(tell_by_exit as *const () as usize, 0);
        use_the_guard();
        touch(foreign_missing_page());
        return;
    }
    assert_eq!(in_child(NAME).status.code(), Some(REACHED));
}

#[test]
fn a_handler_with_siginfo_gets_the_kernels_siginfo() {
    const NAME: &str = "a_handler_with_siginfo_gets_the_kernels_siginfo";
    if is_child(NAME) {
        install(
            tell_by_exit_with_info as *const () as usize,
            libc::SA_SIGINFO,
        );
        use_the_guard();
        touch(foreign_missing_page());
        return;
    }
    assert_eq!(in_child(NAME).status.code(), Some(REACHED));
}

#[test]
fn without_an_earlier_handler_a_foreign_fault_kills_as_ever() {
    const NAME: &str = "without_an_earlier_handler_a_foreign_fault_kills_as_ever";
    if is_child(NAME) {
        install(libc::SIG_DFL, 0);
        use_the_guard();
        touch(foreign_missing_page());
        return;
    }
    assert_eq!(in_child(NAME).status.signal(), Some(libc::SIGBUS));
}

#[test]
fn a_signal_sent_by_a_process_is_ignored_if_it_was_ignored_before() {
    const NAME: &str = "a_signal_sent_by_a_process_is_ignored_if_it_was_ignored_before";
    if is_child(NAME) {
        install(libc::SIG_IGN, 0);
        use_the_guard();
        // SAFETY: raises a signal that is ignored.
        unsafe { libc::raise(libc::SIGBUS) };
        return;
    }
    assert!(in_child(NAME).status.success());
}

#[test]
fn when_the_kernel_has_no_more_areas_the_refusal_is_reported_and_the_slot_given_back() {
    const NAME: &str =
        "when_the_kernel_has_no_more_areas_the_refusal_is_reported_and_the_slot_given_back";
    if is_child(NAME) {
        // The arena first: it needs an area itself.
        use_the_guard();
        let arena = crate::lent::arena::existing().unwrap();
        let mut areas = exhaust_areas();
        let (_, open) = file(4096);
        let region = FileRegion::whole(open);
        let next_slot = || {
            let (slot, address) = arena.take(4096).unwrap();
            arena.give_back(slot);
            address
        };
        let slot = next_slot();
        // Near the limit, mapping succeeds and moving the mapping does not.
        let mut refused = 0;
        loop {
            match region.map() {
                Ok(mapping) => {
                    assert_eq!(mapping.lend(&region, ())[..], [0; 4096]);
                    break;
                }
                Err(error) => assert_eq!(error, CannotLend::MapRefused(Errno::NOMEM)),
            }
            refused += 1;
            assert_eq!(next_slot(), slot, "after {refused} refusals");
            let area = areas.pop().unwrap();
            // SAFETY: mapped by `exhaust_areas`, and nobody knows of it.
            unsafe { rustix::mm::munmap(area, 4096) }.unwrap();
        }
        // That many areas are asked for by moving alone.
        assert!(refused >= 3, "{refused}");
        return;
    }
    let output = in_child(NAME);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

#[test]
fn a_filesystem_that_refuses_the_mapping_leaves_no_hole_in_the_arena() {
    const NAME: &str = "a_filesystem_that_refuses_the_mapping_leaves_no_hole_in_the_arena";
    if is_child(NAME) {
        use_the_guard();
        let Ok(file) = OpenFile::open("/proc/config.gz") else {
            let required = std::env::var("LENDFILE_REQUIRE").unwrap_or_default();
            assert!(!required.contains("procfs"), "no /proc/config.gz");
            return;
        };
        let arena = crate::lent::arena::existing().unwrap();
        let (slot, address) = arena.take(file.len()).unwrap();
        arena.give_back(slot);
        let refused = FileRegion::whole(file).map().unwrap_err();
        assert!(matches!(refused, CannotLend::MapRefused(_)), "{refused}");
        assert!(is_reserved(address), "anybody's memory may appear there");
        return;
    }
    let output = in_child(NAME);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

/// Whether an area without any permission covers the address.
fn is_reserved(address: usize) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().any(|line| {
        let (range, rest) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|n| usize::from_str_radix(n, 16).unwrap());
        (start..end).contains(&address) && rest.starts_with("---p")
    })
}

/// Maps pages of alternating protection, which cannot share an area, until there are no more.
fn exhaust_areas() -> Vec<*mut std::ffi::c_void> {
    let mut areas = Vec::new();
    for i in 0_u32.. {
        let protection = if i % 2 == 0 {
            ProtFlags::READ
        } else {
            ProtFlags::READ | ProtFlags::WRITE
        };
        // SAFETY: a new mapping at an address of the kernel's choice; never unmapped.
        let page = unsafe {
            rustix::mm::mmap_anonymous(ptr::null_mut(), 4096, protection, MapFlags::PRIVATE)
        };
        match page {
            Ok(page) => areas.push(page),
            Err(_) => break,
        }
    }
    areas
}
