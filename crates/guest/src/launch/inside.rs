//! The first process on its way from the clone to the guest.

use std::convert::Infallible;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::UnshareFlags;

use super::plan::{Folder, Limit, Link, Namespaces, NetworkNamespace, ProcMount, SmallFile};
use super::report::{At, Failure, Step};
use super::{cgroup, devices, loopback, mounts, privilege, procfs, root, supervise};

/// Makes everything inside and turns into the guest.
pub(super) fn become_first_process(
    spec: &Namespaces,
    limits: &[Limit],
    link: OwnedFd,
) -> Result<Infallible, Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).at(Step::Namespaces, || "parent death signal")?;
    supervise::wait_for_go(&link)?;
    cgroup::join(&spec.cgroups)?;
    own_cgroup_view();
    if spec.proc == ProcMount::Outer {
        first_to_be_killed();
    }
    // By its path: the link of /proc leads to the mount outside, which cannot be copied from here.
    let own_path = std::env::current_exe().at(Step::Exec, || "own path")?;
    let guest = mounts::read_only_copy(&own_path)?;
    let outside = root::Outside::copy(spec)?;
    let written = root::mount(spec)?;
    supervise::hand_over(&link, &written)?;
    drop((written, link));
    root::enter()?;
    make_inside(spec)?;
    outside.show(spec)?;
    if spec.network == NetworkNamespace::Own {
        loopback::up().at(Step::Network, || "lo")?;
    }
    rustix::system::sethostname(spec.hostname.as_bytes()).at(Step::Privileges, || "host name")?;
    std::env::set_current_dir(&spec.workdir).at(Step::Files, || spec.workdir.clone())?;
    privilege::set_limits(limits)?;
    privilege::keep_only(spec.capabilities)?;
    exec(&guest)
}

/// Hides where the cgroup lies. Only looks: without it nothing else changes.
fn own_cgroup_view() {
    #[expect(
        unsafe_code,
        reason = "unsharing is unsafe for descriptor tables only, and this process has one thread"
    )]
    // SAFETY: CLONE_FILES is not among the flags.
    let result = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWCGROUP) };
    result.ok();
}

/// Makes everything inside the OOM killer's first choice, before the runner. The guest, who does so for its children
/// alone, cannot where `/proc` is read-only.
fn first_to_be_killed() {
    // Raising needs no privilege; where there is no such file, the kernel chooses by itself.
    fs::write("/proc/self/oom_score_adj", "1000").ok();
}

fn make_inside(spec: &Namespaces) -> Result<(), Failure> {
    spec.folders.iter().try_for_each(make_folder)?;
    spec.links.iter().try_for_each(make_link)?;
    spec.files.iter().try_for_each(write_file)?;
    fs::create_dir_all(&spec.workdir).at(Step::Files, || spec.workdir.clone())
}

/// Makes a folder where nothing is; what an image has there in place of one is replaced.
fn make_folder(folder: &Folder) -> Result<(), Failure> {
    let path = Path::new(&folder.path);
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => fs::remove_file(path).at(Step::Files, || folder.path.clone())?,
        Err(_) => {}
    }
    fs::DirBuilder::new().mode(folder.mode).create(path).at(Step::Files, || folder.path.clone())?;
    let exact = rustix::fs::Mode::from_raw_mode(folder.mode);
    rustix::fs::chmod(path, exact).at(Step::Files, || folder.path.clone())
}

fn make_link(link: &Link) -> Result<(), Failure> {
    match symlink(&link.target, &link.path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other.at(Step::Files, || link.path.clone()),
    }
}

fn write_file(file: &SmallFile) -> Result<(), Failure> {
    // Removed first, so that a link of the image is not written through.
    match fs::remove_file(&file.path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).at(Step::Files, || file.path.clone());
        }
        _ => {}
    }
    let created = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&file.path);
    created.and_then(|mut open| open.write_all(&file.content)).at(Step::Files, || file.path.clone())
}

/// Starts the guest from a read-only mount of its own that nobody inside can reach.
fn exec(guest: &OwnedFd) -> Result<Infallible, Failure> {
    let path = format!("/proc/self/fd/{}", guest.as_raw_fd());
    let error = Command::new(&path).arg0("thresher-guest").env_clear().exec();
    Err(Failure::io(Step::Exec, path, &error))
}

impl root::Outside {
    /// Mounts what was copied from outside at its places inside, with `/dev` and `/proc`.
    fn show(self, spec: &Namespaces) -> Result<(), Failure> {
        for (mount, bind) in self.binds.iter().zip(&spec.binds) {
            if !mount.is_folder {
                File::create(&bind.target).at(Step::Bind, || bind.target.clone())?;
            }
            mounts::attach(&mount.fd, &bind.target).at(Step::Bind, || bind.target.clone())?;
        }
        devices::make(spec, &self.devices)?;
        procfs::mount_proc(&self.proc)?;
        procfs::mount_sys(spec);
        Ok(())
    }
}
