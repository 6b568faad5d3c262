//! Where this process runs and what confines it there, so that advice names what a person can change.

use std::fs;
use std::path::Path;

use rustix::thread::{CapabilitySet, capabilities};

/// What a person would have to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The specification of a Kubernetes pod.
    Pod,
    /// The arguments of a container engine, or the machine's settings.
    Machine,
}

impl Place {
    /// Looks for what the kubelet puts into every container.
    pub(super) fn look() -> Self {
        const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
        let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
        let is_pod = hosts.starts_with("# Kubernetes-managed hosts file") || Path::new(ACCOUNT).exists();
        if is_pod { Self::Pod } else { Self::Machine }
    }
}

/// What the kernel is told to refuse this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Confinement {
    /// A filter of system calls is in force.
    pub(super) seccomp: bool,
    /// Name of the AppArmor profile that is enforced.
    pub(super) apparmor: Option<String>,
    /// Settings of the machine that forbid user namespaces, as `name=value that would allow them`.
    pub(super) settings: Vec<&'static str>,
}

/// Name, value that forbids, and what to set instead.
const SETTINGS: [(&str, &str, &str); 3] = [
    ("user/max_user_namespaces", "0", "user.max_user_namespaces=65536"),
    ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"),
];

impl Confinement {
    /// Looks at this process.
    pub(super) fn look() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let profile = fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
        let has = |name: &str, value: &str| {
            fs::read_to_string(format!("/proc/sys/{name}")).is_ok_and(|text| text.trim() == value)
        };
        Self {
            seccomp: filters(&status),
            apparmor: enforced(&profile),
            settings: SETTINGS.iter().filter(|row| has(row.0, row.1)).map(|row| row.2).collect(),
        }
    }

    /// What to change at `place` so that namespaces and mounts are allowed; `None` where nothing forbids them that can
    /// be seen.
    pub(super) fn remedy(&self, place: Place) -> Option<String> {
        let mut list = Vec::new();
        if self.seccomp {
            list.push(match place {
                Place::Pod => "set `securityContext.seccompProfile: {type: Unconfined}` for the worker's container, or a \
                    Localhost profile that allows clone, unshare, mount, umount2, pivot_root, fsopen, open_tree, \
                    move_mount and mount_setattr"
                    .to_owned(),
                Place::Machine => "run the container with `--security-opt seccomp=unconfined`".to_owned(),
            });
        }
        if let Some(profile) = &self.apparmor {
            list.push(match place {
                Place::Pod => format!(
                    "set `securityContext.appArmorProfile: {{type: Unconfined}}` instead of the profile {profile}"
                ),
                Place::Machine => {
                    format!("run with `--security-opt apparmor=unconfined` instead of the profile {profile}")
                }
            });
        }
        let node = if place == Place::Pod { " on the node" } else { "" };
        list.extend(self.settings.iter().map(|setting| format!("set `sysctl {setting}`{node}")));
        (!list.is_empty()).then(|| list.join("; "))
    }
}

/// Whether `/proc/<pid>/status` tells of a filter.
fn filters(status: &str) -> bool {
    status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"]))
}

/// The profile that is enforced, from `/proc/<pid>/attr/current`.
fn enforced(profile: &str) -> Option<String> {
    profile.trim_end_matches(['\n', '\0']).strip_suffix(" (enforce)").map(str::to_owned)
}

/// What unpacking an image's files takes: files of any owner are made, changed and removed.
const NEEDED: [(CapabilitySet, &str); 7] = [
    (CapabilitySet::CHOWN, "CHOWN"),
    (CapabilitySet::DAC_OVERRIDE, "DAC_OVERRIDE"),
    (CapabilitySet::FOWNER, "FOWNER"),
    // Without it the kernel silently drops set-group-id bits.
    (CapabilitySet::FSETID, "FSETID"),
    (CapabilitySet::SETFCAP, "SETFCAP"),
    (CapabilitySet::SETGID, "SETGID"),
    (CapabilitySet::SETUID, "SETUID"),
];

/// Why this process cannot handle files of many users, with what to do at `place`.
pub(super) fn single_user(place: Place) -> Option<String> {
    let uid = rustix::process::geteuid();
    if !uid.is_root() {
        let remedy = match place {
            Place::Pod => {
                "set `securityContext.runAsUser: 0` and `runAsNonRoot: false` for the worker's container"
            }
            Place::Machine => "run as root, or use the docker backend",
        };
        return Some(format!(
            "an image's files belong to several users, and this process runs as user {}; {remedy}",
            uid.as_raw()
        ));
    }
    let own = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    let missing: Vec<&str> = NEEDED.iter().filter(|row| !own.contains(row.0)).map(|row| row.1).collect();
    if missing.is_empty() {
        return None;
    }
    let remedy = match place {
        Place::Pod => format!("set `securityContext.capabilities.add: [{}]`", missing.join(", ")),
        Place::Machine => format!("run the container with `--cap-add {}`", missing.join(" --cap-add ")),
    };
    let missing = missing.join(", ");
    Some(format!("an image's files belong to several users, and this process lacks {missing}; {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_force_is_named() {
        let free = Confinement::default();
        assert_eq!(free.remedy(Place::Pod), None);
        let filtered = Confinement { seccomp: true, ..Confinement::default() };
        assert!(filtered.remedy(Place::Pod).unwrap().contains("seccompProfile: {type: Unconfined}"));
        assert!(filtered.remedy(Place::Machine).unwrap().contains("seccomp=unconfined"));
        let profiled = Confinement { apparmor: Some("x.d".into()), ..Confinement::default() };
        assert!(profiled.remedy(Place::Pod).unwrap().contains("appArmorProfile: {type: Unconfined}"));
        let settings = Confinement { settings: vec!["a.b=1"], ..Confinement::default() };
        assert_eq!(settings.remedy(Place::Pod).unwrap(), "set `sysctl a.b=1` on the node");
    }

    #[test]
    fn status_and_profile_are_read() {
        assert!(filters("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"));
        assert!(!filters("Name:\tx\nSeccomp:\t0\n"));
        assert_eq!(
            enforced("cri-containerd.apparmor.d (enforce)\n"),
            Some("cri-containerd.apparmor.d".into())
        );
        assert_eq!(enforced("unconfined\n"), None);
    }
}
