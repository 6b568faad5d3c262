//! `/dev`: a handful of harmless devices, terminals and shared memory of the sandbox's own.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, chmod, makedev, mknodat};
use rustix::mount::MountFlags;

use super::mounts;
use super::plan::{Namespaces, Users};
use super::report::{At, Failure, Step};

/// Name and number of each device.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// Copies the machine's device nodes where they cannot be made: in a user namespace.
pub(super) fn copy(spec: &Namespaces) -> Result<Vec<OwnedFd>, Failure> {
    match spec.users {
        Users::Host if may_make_nodes() => Ok(Vec::new()),
        _ => DEVICES.iter().map(|(name, _, _)| mounts::copy(&Path::new("/dev").join(name))).collect(),
    }
}

/// Whether the capability is there; a device cgroup may still refuse, which [`make`] reports.
fn may_make_nodes() -> bool {
    let sets = rustix::thread::capabilities(None);
    sets.is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::MKNOD))
}

/// Makes `/dev`.
pub(super) fn make(spec: &Namespaces, copies: &[OwnedFd]) -> Result<(), Failure> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mounts::virtual_fs("tmpfs", "/dev", flags, "size=64k,mode=0755").at(Step::Devices, || "/dev")?;
    if copies.is_empty() {
        DEVICES.iter().try_for_each(make_node)?;
    } else {
        DEVICES.iter().zip(copies).try_for_each(|((name, _, _), copy)| bind_node(name, copy))?;
    }
    for (path, target) in LINKS {
        symlink(target, path).at(Step::Devices, || path)?;
    }
    make_terminals();
    fs::create_dir("/dev/shm").at(Step::Devices, || "/dev/shm")?;
    let options = format!("size={},mode=1777", spec.shm_bytes);
    let flags = flags | MountFlags::NODEV;
    mounts::virtual_fs("tmpfs", "/dev/shm", flags, &options).at(Step::Devices, || "/dev/shm")
}

fn make_node((name, major, minor): &(&str, u32, u32)) -> Result<(), Failure> {
    let path = format!("/dev/{name}");
    let mode = Mode::from_raw_mode(0o666);
    mknodat(CWD, &*path, FileType::CharacterDevice, mode, makedev(*major, *minor))
        .at(Step::Devices, || path.clone())?;
    chmod(&*path, mode).at(Step::Devices, || path)
}

fn bind_node(name: &str, copy: &OwnedFd) -> Result<(), Failure> {
    let path = format!("/dev/{name}");
    File::create(&path).at(Step::Devices, || path.clone())?;
    mounts::attach(copy, &path).at(Step::Devices, || path)
}

/// Pseudo-terminals are for the few programs that open one; some kernels refuse them, and nothing else depends on it.
fn make_terminals() {
    if fs::create_dir("/dev/pts").is_ok() {
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
        mounts::virtual_fs("devpts", "/dev/pts", flags, "newinstance,ptmxmode=0666,mode=0620").ok();
    }
}
