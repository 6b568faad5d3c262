//! The root file system, and the way into it.

use std::ffi::CStr;
use std::fs::DirBuilder;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, XattrFlags, openat, removexattr, setxattr};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::process::{fchdir, pivot_root};

use super::plan::{Namespaces, ProcMount, Root, Users};
use super::report::{At, Failure, Step};
use super::{devices, mounts, users};

/// Copies of mounts that can only be reached before the root changes.
pub(super) struct Outside {
    /// One per bind of the plan.
    pub(super) binds: Vec<BindSource>,
    /// Device nodes, where they cannot be made.
    pub(super) devices: Vec<OwnedFd>,
    /// `/proc`: a fresh one is made here, too, since a user namespace gets one only while it sees another.
    pub(super) proc: OwnedFd,
}

/// A detached copy of a folder or file of the machine.
pub(super) struct BindSource {
    pub(super) fd: OwnedFd,
    pub(super) is_folder: bool,
}

impl Outside {
    /// Takes the copies. First cuts this mount namespace off from the machine's, so that nothing shows up there.
    pub(super) fn copy(spec: &Namespaces) -> Result<Self, Failure> {
        let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", flags).at(Step::Root, || "private mounts")?;
        let binds = spec.binds.iter().map(|bind| {
            let fd = mounts::read_only_copy(&bind.source)?;
            Ok(BindSource { fd, is_folder: bind.source.is_dir() })
        });
        let proc = match spec.proc {
            ProcMount::Fresh => mounts::fresh_proc().at(Step::Proc, || "a fresh /proc")?,
            ProcMount::Outer => mounts::read_only_copy(Path::new("/proc"))?,
        };
        Ok(Self { binds: binds.collect::<Result<_, _>>()?, devices: devices::copy(spec)?, proc })
    }
}

/// Mounts the root file system and makes it the working directory. Returns the tree that takes what is written.
///
/// On the way this process becomes the sandbox's root: before, it reaches the runner's folders; after, the layers' files
/// are its own.
pub(super) fn mount(spec: &Namespaces) -> Result<OwnedFd, Failure> {
    let base = mount_memory(spec)?;
    if let Root::Layers { folder, .. } = &spec.root {
        std::env::set_current_dir(folder).at(Step::Root, || folder.display().to_string())?;
    }
    if spec.first_id > 0 {
        users::become_root()?;
    }
    let written = match &spec.root {
        Root::Empty => {
            fchdir(&base).at(Step::Root, || spec.mount_point.display().to_string())?;
            c"."
        }
        Root::Layers { names, .. } => {
            mount_layers(spec, &base, names)?;
            c"upper"
        }
    };
    openat(&base, written, FOLDER, Mode::empty()).at(Step::Root, || "what is written")
}

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Mounts what takes everything written, and opens it.
fn mount_memory(spec: &Namespaces) -> Result<OwnedFd, Failure> {
    let base = &spec.mount_point;
    let options = format!("size={},mode=0755,uid=0,gid=0", spec.disk_bytes);
    mounts::virtual_fs("tmpfs", base, MountFlags::NODEV, &options)
        .at(Step::Root, || format!("{} with {options}", base.display()))?;
    openat(CWD, base, FOLDER, Mode::empty()).at(Step::Root, || base.display().to_string())
}

/// Mounts the overlay from within the layers' folder, which keeps the option string short, and goes into it.
fn mount_layers(spec: &Namespaces, base: &OwnedFd, names: &[String]) -> Result<(), Failure> {
    // By the descriptor: the path to it may lead through folders of the runner's alone.
    let inside_base = |name: &str| format!("/proc/self/fd/{}/{name}", base.as_raw_fd());
    for name in ["upper", "work", "root"] {
        let path = inside_base(name);
        DirBuilder::new().mode(0o755).create(&path).at(Step::Root, || path)?;
    }
    let (upper, work, root) = (inside_base("upper"), inside_base("work"), inside_base("root"));
    if spec.users == Users::Namespace {
        has_user_attributes(Path::new(&upper))?;
    }
    mounts::overlay(names, &upper, &work, &root, spec.users == Users::Namespace)?;
    std::env::set_current_dir(&root).at(Step::Root, || root)
}

/// Tries the attributes by which an overlay in a user namespace marks emptied folders. Without them, which tmpfs has
/// since Linux 6.6, it mounts all the same, but making a folder in a removed one's place fails.
fn has_user_attributes(folder: &Path) -> Result<(), Failure> {
    const NAME: &str = "user.thresher";
    setxattr(folder, NAME, b"y", XattrFlags::empty())
        .and_then(|()| removexattr(folder, NAME))
        .at(Step::Root, || "user attributes on tmpfs")
}

/// Makes the working directory the root and forgets everything else.
pub(super) fn enter() -> Result<(), Failure> {
    const HERE: &CStr = c".";
    let old = openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .at(Step::Pivot, || "old root")?;
    pivot_root(HERE, HERE).at(Step::Pivot, || "pivot_root")?;
    fchdir(&old).at(Step::Pivot, || "old root")?;
    unmount(HERE, UnmountFlags::DETACH).at(Step::Pivot, || "unmount of the old root")?;
    std::env::set_current_dir("/").at(Step::Pivot, || "new root")
}
