//! The launcher from its first to its last moment.

use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::clone::{Born, Side, clone};
use super::plan::{Isolation, Namespaces, NetworkNamespace, Plan, Users};
use super::report::{At, Failure, Step};
use super::{MAX_PLAN, cgroup, inside, plain, supervise, users};

/// Reads a plan from standard input, makes the sandbox, waits for its end. Failures go to standard error.
pub fn main() -> ExitCode {
    let result = read_plan().and_then(|plan| match &plan.isolation {
        Isolation::Namespaces(namespaces) => in_namespaces(namespaces, &plan),
        Isolation::Plain(spec) => plain::launch(spec, &plan.limits),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&format!("{failure}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Ends a child that could not become the guest, after saying why.
#[expect(clippy::exit, reason = "the child of a fork must not run what its parent has yet to do")]
pub(super) fn end_child(failure: &Failure) -> ! {
    say(&format!("{failure}\n"));
    std::process::exit(1)
}

/// Writes to the control socket. The runner may be gone, and then nobody is left to be told.
pub(super) fn say(text: &str) {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(rustix::stdio::stderr(), rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Reads exactly the plan: what follows on standard input belongs to the guest.
fn read_plan() -> Result<Plan, Failure> {
    let mut length = [0; 4];
    read_exactly(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_PLAN {
        return Err(Failure { step: Step::Plan, errno: 0, detail: format!("{length} bytes long") });
    }
    let mut bytes = vec![0; length];
    read_exactly(&mut bytes)?;
    postcard::from_bytes(&bytes).map_err(|error| Failure {
        step: Step::Plan,
        errno: 0,
        detail: error.to_string(),
    })
}

fn read_exactly(mut buffer: &mut [u8]) -> Result<(), Failure> {
    while !buffer.is_empty() {
        match rustix::io::read(rustix::stdio::stdin(), &mut *buffer) {
            Ok(0) => return Err(Failure { step: Step::Plan, errno: 0, detail: "it ended early".into() }),
            Ok(read) => buffer = &mut buffer[read..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).at(Step::Plan, || "standard input"),
        }
    }
    Ok(())
}

fn in_namespaces(spec: &Namespaces, plan: &Plan) -> Result<(), Failure> {
    let made = cgroup::make(&spec.cgroups).and_then(|()| born_into_namespaces(spec, plan));
    let ended = made.and_then(|(born, written)| supervise::until_the_end(&born, Some(&written)));
    cgroup::remove(&spec.cgroups);
    ended
}

/// Starts the first process and sees it through to the point where it has a root file system. Returns it and a
/// descriptor of the tree that it writes to.
fn born_into_namespaces(spec: &Namespaces, plan: &Plan) -> Result<(Born, OwnedFd), Failure> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .at(Step::Namespaces, || "socket pair")?;
    let birthplace = cgroup::birthplace(&spec.cgroups)?;
    let born = clone(flags(spec), birthplace.as_ref().map(|fd| fd.as_fd()))
        .at(Step::Namespaces, || format!("{:?} users", spec.users).to_lowercase())?;
    match born {
        Side::Child => {
            drop(ours);
            let Err(failure) = inside::become_first_process(spec, &plan.limits, theirs);
            end_child(&failure)
        }
        Side::Parent(born) => {
            drop(theirs);
            match see_off(spec, &born, &ours) {
                Ok(Some(written)) => Ok((born, written)),
                Ok(None) => Err(supervise::let_end(&born)),
                Err(failure) => supervise::end(&born).and(Err(failure)),
            }
        }
    }
}

fn see_off(spec: &Namespaces, born: &Born, link: &OwnedFd) -> Result<Option<OwnedFd>, Failure> {
    if spec.users == Users::Namespace {
        users::map(born.pid, spec.first_id)?;
    }
    supervise::see_off(link)
}

fn flags(spec: &Namespaces) -> u64 {
    let mut flags = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if spec.network == NetworkNamespace::Own {
        flags |= libc::CLONE_NEWNET;
    }
    if spec.users == Users::Namespace {
        flags |= libc::CLONE_NEWUSER;
    }
    flags as u64
}
