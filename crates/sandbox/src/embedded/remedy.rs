//! What a person can do about a step of the launch that failed.

use std::io;

use rustix::io::Errno;
use thresher_guest::launch::{Failure, Step};

use super::place::{Confinement, Place};
use crate::SandboxError;

/// The failure as an error with cause and remedy.
pub(crate) fn error(failure: &Failure) -> SandboxError {
    let cause = cause(failure);
    if failure.errno == Errno::NOSPC.raw_os_error() && failure.step != Step::Namespaces {
        return SandboxError::DiskFull(cause);
    }
    match remedy(failure, Place::look(), &Confinement::look()) {
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
fn remedy(failure: &Failure, place: Place, confinement: &Confinement) -> Option<String> {
    let is = |errnos: &[Errno]| errnos.iter().any(|errno| errno.raw_os_error() == failure.errno);
    let refused = is(&[Errno::PERM, Errno::ACCESS]);
    let missing = is(&[Errno::NOSYS, Errno::INVAL, Errno::NODEV]);
    let full = is(&[Errno::NOSPC, Errno::USERS]);
    let allow = || confinement.remedy(place).unwrap_or_else(|| allow_anything(place).to_owned());
    match failure.step {
        Step::Namespaces if full || (missing && !is(&[Errno::NOSYS])) => {
            let node = if place == Place::Pod { " on the node" } else { "" };
            Some(format!("raise `sysctl user.max_user_namespaces`{node} (and its siblings for the other kinds)"))
        }
        Step::Namespaces if is(&[Errno::NOSYS]) => {
            Some(format!("the seccomp profile or the kernel has no clone3: {}, on Linux 5.12 or newer", allow()))
        }
        Step::Namespaces if refused => Some(format!("namespaces are refused here: {}", allow())),
        Step::Users => Some(format!("user ids cannot be mapped: {}", allow())),
        Step::Root if is(&[Errno::OPNOTSUPP]) => Some(
            "images in user namespaces need Linux 6.6 or newer, whose tmpfs has attributes; on older ones run with \
             CAP_SYS_ADMIN"
                .into(),
        ),
        Step::Root | Step::Bind | Step::Pivot if missing => {
            Some("the kernel lacks a mount feature: Linux 5.12 or newer with overlayfs and tmpfs is needed".into())
        }
        Step::Proc if refused && confinement.remedy(place).is_none() => Some(match place {
            Place::Pod => "a /proc of the sandbox's own needs `securityContext.procMount: Unmasked`, which needs \
                `hostUsers: false` in the pod"
                .into(),
            Place::Machine => "a /proc of the sandbox's own needs `--security-opt systempaths=unconfined`".into(),
        }),
        Step::Root | Step::Bind | Step::Pivot | Step::Devices | Step::Proc if refused => {
            Some(format!("mounts are refused here: {}", allow()))
        }
        Step::Network if refused => Some(match place {
            Place::Pod => "the loopback interface needs `securityContext.capabilities.add: [NET_ADMIN]`".into(),
            Place::Machine => {
                "the loopback interface needs CAP_NET_ADMIN to come up: a container needs `--cap-add NET_ADMIN`".into()
            }
        }),
        Step::Exec => Some(match place {
            Place::Pod => "the cache's volume must be mounted without `noexec`, as an emptyDir is".into(),
            Place::Machine => "the data folder must be on a file system that is mounted without `noexec`".into(),
        }),
        _ => None,
    }
}

/// For refusals without a cause that can be seen.
fn allow_anything(place: Place) -> &'static str {
    match place {
        Place::Pod => {
            "set `securityContext: {runAsUser: 0, seccompProfile: {type: Unconfined}, appArmorProfile: {type: \
             Unconfined}}` for the worker's container, and `user.max_user_namespaces` above 0 on the node"
        }
        Place::Machine => {
            "run as root, or in a container with `--cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt \
             apparmor=unconfined`, or on Ubuntu set `sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_the_setting() {
        let filtered = Confinement { seccomp: true, ..Confinement::default() };
        let free = Confinement::default();
        for (step, errno, confinement, pod, machine) in [
            (Step::Namespaces, Errno::PERM, &filtered, "seccompProfile", "seccomp=unconfined"),
            (Step::Namespaces, Errno::PERM, &free, "runAsUser: 0", "run as root"),
            (
                Step::Namespaces,
                Errno::NOSPC,
                &free,
                "user.max_user_namespaces` on the node",
                "user.max_user_name",
            ),
            (Step::Proc, Errno::PERM, &free, "procMount: Unmasked", "systempaths=unconfined"),
            (Step::Proc, Errno::PERM, &filtered, "seccompProfile", "seccomp=unconfined"),
            (Step::Root, Errno::OPNOTSUPP, &free, "Linux 6.6", "Linux 6.6"),
            (Step::Exec, Errno::ACCESS, &free, "emptyDir", "noexec"),
        ] {
            let failure = Failure { step, errno: errno.raw_os_error(), detail: String::new() };
            for (place, expected) in [(Place::Pod, pod), (Place::Machine, machine)] {
                let remedy = remedy(&failure, place, confinement).unwrap();
                assert!(remedy.contains(expected), "{step} {errno:?} {place:?}: {remedy}");
            }
        }
        let passing = Failure { step: Step::Wait, errno: Errno::IO.raw_os_error(), detail: String::new() };
        assert_eq!(remedy(&passing, Place::Pod, &free), None);
    }
}
