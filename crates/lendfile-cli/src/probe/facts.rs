//! What is read, not tried: the system that was probed, and the limits that bound a server.

use std::fs;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, StatxFlags, statx};
use rustix::pipe::{PipeFlags, fcntl_getpipe_size, pipe_with};
use rustix::process::{Resource, geteuid, getrlimit};

use super::report::{Fact, Value};
use super::subject::Subject;

/// What was probed.
pub(super) fn system(subject: &Subject) -> Vec<Fact> {
    let uname = rustix::system::uname();
    let kernel = [uname.sysname(), uname.release(), uname.machine()]
        .map(|part| part.to_string_lossy())
        .join(" ");
    let user = match geteuid().as_raw() {
        0 => "0 (root: limits on users are not seen)".to_owned(),
        uid => uid.to_string(),
    };
    vec![
        fact("kernel", Ok(Value::Text(kernel))),
        fact(
            "page size",
            Ok(Value::Bytes(rustix::param::page_size() as u64)),
        ),
        fact("user", Ok(Value::Text(user))),
        fact(
            "directory",
            Ok(Value::Text(subject.path.display().to_string())),
        ),
        fact("filesystem", filesystem(&subject.directory)),
        fact("file", Ok(Value::Text(subject.origin.clone()))),
    ]
}

/// What bounds a server.
pub(super) fn limits() -> Vec<Fact> {
    let nofile = getrlimit(Resource::Nofile);
    let memlock = getrlimit(Resource::Memlock);
    vec![
        fact("open files, soft", Ok(limit(nofile.current, Value::Count))),
        fact("open files, hard", Ok(limit(nofile.maximum, Value::Count))),
        fact(
            "locked memory, soft",
            Ok(limit(memlock.current, Value::Bytes)),
        ),
        fact(
            "locked memory, hard",
            Ok(limit(memlock.maximum, Value::Bytes)),
        ),
        fact("new pipe", new_pipe()),
        sysctl("fs.pipe-max-size", Value::Bytes),
        sysctl("fs.pipe-user-pages-soft", Value::Count),
        sysctl("fs.pipe-user-pages-hard", Value::Count),
        sysctl("vm.max_map_count", Value::Count),
        sysctl_text("net.ipv4.tcp_congestion_control"),
        sysctl("kernel.io_uring_disabled", Value::Count),
    ]
}

fn fact(name: &'static str, value: io::Result<Value>) -> Fact {
    Fact {
        name,
        value: value.unwrap_or_else(|error| Value::Unknown(error.to_string())),
    }
}

fn limit(limit: Option<u64>, unit: fn(u64) -> Value) -> Value {
    limit.map_or(Value::Unlimited, unit)
}

/// The capacity the kernel gives a new pipe: less than 16 pages if the user has many.
fn new_pipe() -> io::Result<Value> {
    let (_reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok(Value::Bytes(fcntl_getpipe_size(&writer)? as u64))
}

fn sysctl(name: &'static str, unit: fn(u64) -> Value) -> Fact {
    let number = read_sysctl(name).and_then(|text| {
        text.parse()
            .map(unit)
            .map_err(|_| io::Error::other(format!("not a number: {text}")))
    });
    fact(name, number)
}

fn sysctl_text(name: &'static str) -> Fact {
    fact(name, read_sysctl(name).map(Value::Text))
}

fn read_sysctl(name: &str) -> io::Result<String> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    Ok(fs::read_to_string(path)?.trim().to_owned())
}

/// The type of the filesystem, from the mount table: its name there is exact (`fuse.sshfs`), while
/// statfs's magic numbers are shared (ext2 to ext4, all of FUSE).
fn filesystem(directory: impl AsFd) -> io::Result<Value> {
    let status = statx(directory, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    if !StatxFlags::from_bits_retain(status.stx_mask).contains(StatxFlags::MNT_ID) {
        return Err(io::Error::other("statx tells no mount before kernel 5.8"));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    mount_type(&mounts, status.stx_mnt_id)
        .map(|name| Value::Text(name.to_owned()))
        .ok_or_else(|| io::Error::other("not in this process's mount table"))
}

/// Finds a mount's filesystem type in the text of `/proc/self/mountinfo` (proc(5)): the first word
/// of a line is the mount's number, the first one after a lone hyphen is the type.
fn mount_type(mounts: &str, id: u64) -> Option<&str> {
    let id = id.to_string();
    let line = mounts
        .lines()
        .find(|line| line.split(' ').next() == Some(&id))?;
    let (_, rest) = line.split_once(" - ")?;
    rest.split(' ').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
36 35 98:0 / / rw,noatime shared:1 - ext4 /dev/root rw
360 36 0:41 /sub /srv/a\\040-\\040b rw master:1 propagate_from:2 - fuse.sshfs host: rw
41 36 0:5 / /proc rw - proc proc rw
";

    #[test]
    fn a_mount_is_found_by_its_whole_number_whatever_optional_fields_it_has() {
        assert_eq!(mount_type(MOUNTS, 36), Some("ext4"));
        assert_eq!(mount_type(MOUNTS, 360), Some("fuse.sshfs"));
        assert_eq!(mount_type(MOUNTS, 41), Some("proc"));
        assert_eq!(mount_type(MOUNTS, 3), None);
    }

    #[test]
    fn a_sysctl_that_is_not_there_is_unknown_and_not_zero() {
        let fact = sysctl("kernel.lendfile_no_such_thing", Value::Count);
        assert!(matches!(fact.value, Value::Unknown(_)), "{fact:?}");
    }

    #[test]
    fn a_sysctl_that_is_no_number_is_unknown() {
        let fact = sysctl("kernel.ostype", Value::Count);
        assert_eq!(fact.value, Value::Unknown("not a number: Linux".to_owned()));
    }
}
