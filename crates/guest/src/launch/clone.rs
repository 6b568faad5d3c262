//! System calls that no safe wrapper has.

#![expect(unsafe_code, reason = "clone, clone3 and mount_setattr have no safe wrapper in rustix")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The constant of `libc` overflows its type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of a clone the caller is on.
pub(super) enum Side {
    /// The parent, with a descriptor of the child.
    Parent(Born),
    /// The child.
    Child,
}

/// A child.
pub(super) struct Born {
    /// Its process id as the parent sees it.
    pub(super) pid: i32,
    /// A pidfd.
    pub(super) pidfd: OwnedFd,
}

/// Forks into new namespaces (`flags`: `CLONE_NEW*`) and, if given, into a version 2 cgroup.
pub(super) fn clone(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Side> {
    match clone3(flags, cgroup) {
        // Seccomp profiles of container engines claim so, since they cannot see this call's flags.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) && cgroup.is_none() => clone1(flags),
        other => other,
    }
}

/// The older call, which cannot place the child in a cgroup.
fn clone1(flags: u64) -> io::Result<Side> {
    let mut pidfd: libc::c_int = -1;
    let flags = flags | libc::CLONE_PIDFD as u64 | libc::SIGCHLD as u64;
    let none: *const libc::c_void = std::ptr::null();
    // SAFETY: as below. A null stack means a copy of the caller's, and the third argument is where the kernel writes
    // the pidfd, on all architectures.
    let result = unsafe { libc::syscall(libc::SYS_clone, flags, none, &raw mut pidfd, none, none) };
    side(result, pidfd)
}

fn side(result: libc::c_long, pidfd: libc::c_int) -> io::Result<Side> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        // SAFETY: the kernel has just made this descriptor for us.
        pid => Ok(Side::Parent(Born { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })),
    }
}

fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Side> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is plain integers, for which all-zero bytes are valid and mean "nothing asked".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child gets a copy of the address space, and the launcher has one thread, so no
    // lock can be held by a thread that the child lacks. The arguments outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    side(result, pidfd)
}

/// Sets attributes (`MOUNT_ATTR_*`) on a mount and everything mounted below it.
pub(super) fn set_attributes(mount: impl AsFd, attributes: u64) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path is a NUL-terminated constant, the structure outlives the call and has the size named.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
