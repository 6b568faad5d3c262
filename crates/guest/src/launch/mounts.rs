//! Mounting, in terms that the rest of the launcher uses.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount, open_tree,
};

use super::clone::set_attributes;
use super::report::{At, Failure, Step};

/// Longest option string that `mount(2)` takes is a page; some is kept for the terminator and the rest.
const LONGEST_OPTIONS: usize = 4000;

/// A detached, read-only copy of the mount tree at `source`, which [`attach`] shows somewhere.
pub(super) fn read_only_copy(source: &Path) -> Result<OwnedFd, Failure> {
    let copy = copy(source)?;
    set_attributes(&copy, libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID)
        .at(Step::Bind, || format!("{} read-only", source.display()))?;
    Ok(copy)
}

/// A detached copy of the mount tree at `source`, with the attributes that it has.
pub(super) fn copy(source: &Path) -> Result<OwnedFd, Failure> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, source, flags).at(Step::Bind, || source.display().to_string())
}

/// Shows a detached mount at `target`.
pub(super) fn attach(mount: impl AsFd, target: impl AsRef<Path>) -> rustix::io::Result<()> {
    move_mount(mount, "", CWD, target.as_ref(), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// A detached `/proc` that shows the processes of this PID namespace.
pub(super) fn fresh_proc() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Mounts a file system of a kind that has no source.
pub(super) fn virtual_fs(
    kind: &str,
    target: impl AsRef<Path>,
    flags: MountFlags,
    options: &str,
) -> rustix::io::Result<()> {
    let options = CString::new(options).map_err(|_| rustix::io::Errno::INVAL)?;
    mount(kind, target.as_ref(), kind, flags, &*options)
}

/// Mounts an overlay over `layers` (topmost first, relative to the working directory) at `target`.
pub(super) fn overlay(
    layers: &[String],
    upper: &str,
    work: &str,
    target: &str,
    user: bool,
) -> Result<(), Failure> {
    let detail = || format!("overlay of {} layers", layers.len());
    let mut flags = vec!["volatile"];
    let mut pairs = vec![("upperdir", upper), ("workdir", work)];
    if user {
        // Implies that nothing is redirected, and refuses to be told so.
        flags.push("userxattr");
    } else {
        // An image's layers must not lead the overlay elsewhere.
        pairs.extend([("redirect_dir", "nofollow"), ("metacopy", "off")]);
    }
    let options = option_string(layers, &pairs, &flags);
    if options.len() <= LONGEST_OPTIONS {
        return virtual_fs("overlay", target, MountFlags::NODEV, &options).at(Step::Root, detail);
    }
    overlay_by_parts(layers, &pairs, &flags, target).at(Step::Root, detail)
}

fn option_string(layers: &[String], pairs: &[(&str, &str)], flags: &[&str]) -> String {
    let mut options = format!("lowerdir={}", layers.join(":"));
    for (key, value) in pairs {
        options.push_str(&format!(",{key}={value}"));
    }
    for flag in flags {
        options.push_str(&format!(",{flag}"));
    }
    options
}

/// Without a limit on the number of layers but the kernel's own of 500; Linux 6.8 or newer.
fn overlay_by_parts(
    layers: &[String],
    pairs: &[(&str, &str)],
    flags: &[&str],
    target: &str,
) -> rustix::io::Result<()> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in layers {
        fsconfig_set_string(context.as_fd(), "lowerdir+", layer.as_str())?;
    }
    for (key, value) in pairs {
        fsconfig_set_string(context.as_fd(), *key, *value)?;
    }
    for flag in flags {
        fsconfig_set_flag(context.as_fd(), *flag)?;
    }
    fsconfig_create(context.as_fd())?;
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NODEV)?;
    attach(mount, target)
}
