//! What the guest does to itself before it answers: everything that its children are to inherit is set here once, so
//! that starting one costs little more than fork and exec.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::CapabilitySet;

use crate::sys;

/// What later parts need from the set-up.
pub(crate) struct Prepared {
    /// Raises and restores the guest's standing with the OOM killer around a fork.
    pub(crate) oom: OomScore,
    /// Standard input of every command: `/dev/null`, opened before anybody could have replaced it.
    pub(crate) null: OwnedFd,
}

/// Prepares this process. Only what the guest cannot work without is an error.
pub(crate) fn prepare() -> std::io::Result<Prepared> {
    // Opened first: once the process is not dumpable its /proc files belong to root alone.
    let oom = OomScore::open();
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    sys::take_over_signals();
    sys::close_inherited_on_exec();
    drop_dangerous_capabilities();
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let no_core = Rlimit { current: Some(0), maximum: Some(0) };
    // Refused only where the limit is lower already.
    rustix::process::setrlimit(Resource::Core, no_core).ok();
    if rustix::process::getpid().as_raw_nonzero().get() != 1 {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    }
    Ok(Prepared { oom, null: null_input()? })
}

/// Opens what commands read as their standard input: always at its end.
fn null_input() -> std::io::Result<OwnedFd> {
    match rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty()) {
        Ok(fd) => Ok(fd),
        // An image without /dev: a pipe nobody writes to is at its end as well.
        Err(_) => Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?.0),
    }
}

/// Takes from all later children what would let them into this process (ptrace) or onto the machine's disks (mknod).
/// The guest keeps its own sets; the bounding set and the inheritable set count at the next exec.
fn drop_dangerous_capabilities() {
    let dangerous = CapabilitySet::SYS_PTRACE | CapabilitySet::MKNOD;
    for capability in [CapabilitySet::SYS_PTRACE, CapabilitySet::MKNOD] {
        // Without CAP_SETPCAP the sandbox was started without them, or its starter wanted it so.
        rustix::thread::remove_capability_from_bounding_set(capability).ok();
        rustix::thread::configure_capability_in_ambient_set(capability, false).ok();
    }
    if let Ok(mut sets) = rustix::thread::capabilities(None) {
        sets.inheritable.remove(dangerous);
        rustix::thread::set_capabilities(None, sets).ok();
    }
}

/// The guest's own `oom_score_adj`, kept open for writing.
///
/// A child inherits the value at the fork. Raising the guest's own value around it works without any privilege, also
/// where the guest may not open a child's file; lowering it to what it was is always allowed.
pub(crate) struct OomScore {
    file: Option<File>,
    usual: Vec<u8>,
}

impl OomScore {
    fn open() -> Self {
        let path = "/proc/self/oom_score_adj";
        let usual = std::fs::read(path).unwrap_or_default();
        let file = File::options().write(true).open(path).ok().filter(|_| !usual.is_empty());
        Self { file, usual }
    }

    /// Runs `fork` while children are born as the OOM killer's first choice.
    pub(crate) fn raised<T>(&mut self, fork: impl FnOnce() -> T) -> T {
        self.set(b"1000");
        let result = fork();
        let usual = std::mem::take(&mut self.usual);
        self.set(&usual);
        self.usual = usual;
        result
    }

    /// Sets the value where that is possible: a preference, not a promise.
    fn set(&mut self, value: &[u8]) {
        if let Some(file) = &mut self.file {
            file.write_all(value).ok();
        }
    }
}
