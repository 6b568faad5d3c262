//! What a person can do about a step of the launch that failed.

use std::io;

use rustix::io::Errno;
use thresher_guest::launch::{Failure, Step};

use crate::SandboxError;

/// The failure as an error with cause and remedy.
pub(crate) fn error(failure: &Failure) -> SandboxError {
    let cause = cause(failure);
    if failure.errno == Errno::NOSPC.raw_os_error() {
        return SandboxError::DiskFull(cause);
    }
    match remedy(failure) {
        Some(remedy) => SandboxError::Unsupported(format!("{cause}; {remedy}")),
        None => SandboxError::Os {
            action: format!("{} ({})", failure.step, failure.detail),
            source: io::Error::from_raw_os_error(failure.errno),
        },
    }
}

fn cause(failure: &Failure) -> String {
    let Failure { step, errno, detail } = failure;
    match errno {
        0 => format!("failed to {step}: {detail}"),
        errno => format!("failed to {step} ({detail}): {}", io::Error::from_raw_os_error(*errno)),
    }
}

/// `None` where only this attempt failed and nothing about the machine has to change.
fn remedy(failure: &Failure) -> Option<&'static str> {
    let refused = [Errno::PERM, Errno::ACCESS].map(|errno| errno.raw_os_error()).contains(&failure.errno);
    let missing =
        [Errno::NOSYS, Errno::INVAL, Errno::NODEV].map(|errno| errno.raw_os_error()).contains(&failure.errno);
    let full = Errno::NOSPC.raw_os_error() == failure.errno || Errno::USERS.raw_os_error() == failure.errno;
    match failure.step {
        Step::Namespaces if refused => Some(
            "namespaces are refused here: run as root, or in a container with `--cap-add SYS_ADMIN --security-opt \
             seccomp=unconfined --security-opt apparmor=unconfined`, or on Ubuntu set \
             `sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
        ),
        Step::Namespaces if failure.errno == Errno::NOSYS.raw_os_error() => Some(
            "the seccomp profile or the kernel has no clone3: run the container with `--security-opt \
             seccomp=unconfined`, on Linux 5.12 or newer",
        ),
        Step::Namespaces if full || missing => {
            Some("raise `sysctl user.max_user_namespaces` (and its siblings for the other kinds)")
        }
        Step::Users => Some(
            "user ids cannot be mapped: on Ubuntu set `sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
        ),
        Step::Root | Step::Bind | Step::Pivot if missing => {
            Some("the kernel lacks a mount feature: Linux 5.12 or newer with overlayfs and tmpfs is needed")
        }
        Step::Root | Step::Bind | Step::Pivot | Step::Devices | Step::Proc if refused => Some(
            "mounts are refused here: a container needs `--cap-add SYS_ADMIN --security-opt seccomp=unconfined \
             --security-opt apparmor=unconfined`",
        ),
        Step::Network if refused => Some(
            "the loopback interface needs CAP_NET_ADMIN to come up: a container needs `--cap-add NET_ADMIN`",
        ),
        Step::Exec => Some("the data folder must be on a file system that is mounted without `noexec`"),
        _ => None,
    }
}
