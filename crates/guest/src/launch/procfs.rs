//! `/proc` and `/sys`, without what would let root inside change or read the machine.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::mounts;
use super::plan::Namespaces;
use super::report::{At, Failure, Step};

/// Files by which root changes the whole machine (`core_pattern` for one starts a program outside): read-only.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What tells of the machine's memory, keys or hardware: an empty file or folder instead.
const HIDDEN_FILES: [&str; 6] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/timer_list",
    "/proc/timer_stats",
];
const HIDDEN_FOLDERS: [&str; 3] = ["/proc/acpi", "/proc/asound", "/proc/scsi"];

/// Shows `/proc` and covers what is not for the sandbox.
pub(super) fn mount_proc(proc: &OwnedFd) -> Result<(), Failure> {
    mounts::attach(proc, "/proc").at(Step::Proc, || "/proc")?;
    for path in READ_ONLY.into_iter().filter(|path| Path::new(path).exists()) {
        let copy = mounts::read_only_copy(Path::new(path))?;
        mounts::attach(copy, path).at(Step::Proc, || path)?;
    }
    HIDDEN_FILES.into_iter().try_for_each(hide_file)?;
    HIDDEN_FOLDERS.into_iter().try_for_each(hide_folder)
}

fn hide_file(path: &str) -> Result<(), Failure> {
    if !Path::new(path).exists() {
        return Ok(());
    }
    let empty = mounts::copy(Path::new("/dev/null"))?;
    mounts::attach(empty, path).at(Step::Proc, || path)
}

fn hide_folder(path: &str) -> Result<(), Failure> {
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    match mounts::virtual_fs("tmpfs", path, flags, "size=0,nr_inodes=2") {
        Err(Errno::NOENT) => Ok(()),
        other => other.at(Step::Proc, || path),
    }
}

/// Mounts `/sys` read-only where asked for and possible: a convenience that few programs use.
pub(super) fn mount_sys(spec: &Namespaces) {
    if spec.sysfs {
        let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        if mounts::virtual_fs("sysfs", "/sys", flags, "").is_ok() {
            hide_folder("/sys/firmware").ok();
        }
    }
}
