//! From what a caller asks for to what the launcher does, and to what the record says about it.

use std::path::PathBuf;

use thresher_core::record::SandboxIdentity;
use thresher_core::run_spec::{LimitsSpec, Network};
use thresher_core::task::ImageRef;
use thresher_guest::launch::{
    Cgroup, Folder, Isolation, Limit, Namespaces, NetworkNamespace, Plan, ProcMount, Root, SmallFile, Users,
};

use super::cgroup::Cgroups;
use super::host_view::HostView;
use crate::SandboxSpec;

const HOSTNAME: &str = "sandbox";

/// Open files per process: what container engines give.
const OPEN_FILES: u64 = 1 << 20;

/// Capabilities kept, by name and number: the same as in containers of the Docker backend. Without `SYS_PTRACE` and
/// `MKNOD` nobody inside can reach into the guest or make a device.
pub(super) const CAPABILITIES: [(&str, u32); 11] = [
    ("CHOWN", 0),
    ("DAC_OVERRIDE", 1),
    ("FOWNER", 3),
    ("FSETID", 4),
    ("KILL", 5),
    ("NET_BIND_SERVICE", 10),
    ("SETFCAP", 31),
    ("SETGID", 6),
    ("SETPCAP", 8),
    ("SETUID", 7),
    ("SYS_CHROOT", 18),
];

/// [`CAPABILITIES`] as a bit mask.
pub(crate) fn capability_mask() -> u64 {
    CAPABILITIES.iter().fold(0, |mask, (_, number)| mask | 1 << number)
}

/// How sandboxes are made on this machine, as the probe found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Variant {
    pub(super) users: Users,
    pub(super) proc: ProcMount,
}

/// What all plans of one process share.
pub(super) struct Common {
    pub(super) variant: Variant,
    /// In user namespaces: what root inside is outside; 0 is the runner's own user.
    pub(super) first_id: u32,
    pub(super) mount_point: PathBuf,
    pub(super) host: HostView,
    /// The folder of the layers, and the names of those under an image, topmost first.
    pub(super) layers: PathBuf,
    /// Memory of the machine in bytes.
    pub(super) memory: u64,
    pub(super) kernel: String,
    /// Why there are no cgroups, where there are none.
    pub(super) no_cgroups: Option<String>,
}

/// Bytes that a sandbox may write. They are kept in memory, so at most half of the sandbox's memory and of the
/// machine's: a full disk inside is then an ordinary "no space left", before anything is killed for want of memory.
pub(super) fn disk_bytes(limits: &LimitsSpec, machine: u64) -> u64 {
    let asked = if limits.disk_mb == 0 { u64::MAX } else { limits.disk_mb.saturating_mul(1 << 20) };
    let memory =
        if limits.memory_mb == 0 { machine } else { limits.memory_mb.saturating_mul(1 << 20).min(machine) };
    asked.min(memory / 2)
}

impl Common {
    /// The plan for one sandbox over `layers` (topmost first; none for the plain host view).
    pub(super) fn plan(&self, spec: &SandboxSpec, layers: Vec<String>, cgroups: Vec<Cgroup>) -> Plan {
        let limits = self.limits(&spec.limits, cgroups.is_empty());
        let root = match layers.is_empty() {
            true => Root::Empty,
            false => Root::Layers { folder: self.layers.clone(), names: layers },
        };
        let host =
            matches!(spec.prepared.image, ImageRef::Host).then(|| self.host.clone()).unwrap_or_default();
        let network = match spec.network {
            Network::None => NetworkNamespace::Own,
            Network::Full => NetworkNamespace::Host,
        };
        let is_image = !matches!(spec.prepared.image, ImageRef::Host);
        let sysfs = is_image && self.variant.users == Users::Host && network == NetworkNamespace::Own;
        let namespaces = Namespaces {
            users: self.variant.users,
            first_id: self.first_id,
            network,
            hostname: HOSTNAME.into(),
            mount_point: self.mount_point.clone(),
            root,
            disk_bytes: disk_bytes(&spec.limits, self.memory),
            shm_bytes: spec.limits.shm_mb << 20,
            proc: self.variant.proc,
            sysfs,
            binds: host.binds,
            folders: [base_folders(sysfs), host.folders].concat(),
            links: host.links,
            files: [host.files, network_files(spec.network)].concat(),
            workdir: if spec.workdir.is_empty() { "/".into() } else { spec.workdir.clone() },
            capabilities: capability_mask(),
            cgroups,
        };
        Plan { isolation: Isolation::Namespaces(namespaces), limits }
    }

    fn limits(&self, limits: &LimitsSpec, without_cgroup: bool) -> Vec<Limit> {
        let mut list = vec![Limit::Core(0), Limit::OpenFiles(OPEN_FILES)];
        // Per user of the namespace; the kernel never applies it to the machine's own root.
        if self.variant.users == Users::Namespace && limits.pids > 0 {
            list.push(Limit::Processes(u64::from(limits.pids)));
        }
        if without_cgroup && limits.memory_mb > 0 {
            list.push(Limit::Data(limits.memory_mb << 20));
        }
        list
    }

    /// What the record says of a sandbox made by [`Common::plan`].
    pub(super) fn identity(&self, spec: &SandboxSpec, cgroups: Option<&Cgroups>) -> SandboxIdentity {
        let limits = &spec.limits;
        let limited = |value: u64| cgroups.is_some().then_some(value).filter(|value| *value > 0);
        SandboxIdentity {
            backend: "embedded".into(),
            isolation: isolation(self.variant.users).into(),
            image_ref: spec.prepared.image.to_string(),
            image_digest: spec.prepared.digest.clone(),
            capabilities: CAPABILITIES.iter().map(|(name, _)| (*name).to_owned()).collect(),
            cpu_shares: cgroups.map(Cgroups::default_shares),
            cpus: limits.cpus.filter(|_| cgroups.is_some()),
            memory_bytes: limited(limits.memory_mb << 20),
            pids: (cgroups.is_some() || self.bounds_processes())
                .then_some(limits.pids)
                .filter(|pids| *pids > 0),
            shm_bytes: Some(limits.shm_mb << 20),
            cgroup_version: cgroups.map(Cgroups::version),
            agent_network: network_word(spec.network).into(),
            kernel: self.kernel.clone(),
            deviations: self.deviations(spec),
            ..SandboxIdentity::default()
        }
    }

    /// Whether the limit of processes per user holds, which the kernel never applies to the machine's own root.
    fn bounds_processes(&self) -> bool {
        self.variant.users == Users::Namespace && (self.first_id > 0 || !is_machines_root())
    }

    fn deviations(&self, spec: &SandboxSpec) -> Vec<String> {
        let mut list = Vec::new();
        let (disk, asked) = (disk_bytes(&spec.limits, self.memory) >> 20, spec.limits.disk_mb);
        if disk != asked {
            list.push(format!(
                "disk: {disk} MiB instead of {asked}, since what is written is kept in memory"
            ));
        }
        if let Some(why) = &self.no_cgroups {
            list.push(format!("no cgroup: {why}; memory is limited per process, processors are not limited"));
            list.push(match self.bounds_processes() {
                true => "processes are limited per user".into(),
                false => "the number of processes is not limited: RLIMIT_NPROC does not bind root".into(),
            });
        }
        if self.variant.users == Users::Namespace {
            list.push("user namespace: files of users that are not mapped show owner 65534".into());
        }
        if self.variant.proc == ProcMount::Outer {
            list.push(
                "/proc is the outer container's, read-only, with other numbers: the command lines of its processes, \
                 other sandboxes' among them, can be read"
                    .into(),
            );
        }
        if spec.network == Network::Full {
            list.push("the machine's network is shared, with the services on its loopback interface".into());
        }
        list
    }
}

/// Whether this process's user is the root of the machine, rather than of a user namespace.
fn is_machines_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let is_moved = map.split_whitespace().nth(1).is_some_and(|outside| outside != "0");
    rustix::process::geteuid().is_root() && !is_moved
}

/// The word that records hold.
pub(super) fn isolation(users: Users) -> &'static str {
    match users {
        Users::Host => "namespaces",
        Users::Namespace => "user_namespaces",
    }
}

/// The word that records hold.
pub(crate) fn network_word(network: Network) -> &'static str {
    match network {
        Network::None => "none",
        Network::Full => "full",
    }
}

/// What every root file system has.
fn base_folders(sysfs: bool) -> Vec<Folder> {
    let mut folders = vec![("/dev", 0o755), ("/proc", 0o555), ("/tmp", 0o1777), ("/etc", 0o755)];
    if sysfs {
        folders.push(("/sys", 0o555));
    }
    folders.into_iter().map(|(path, mode)| Folder { path: path.into(), mode }).collect()
}

/// The files that engines write into every container. Without a network there is no name server; with the machine's
/// network its own name servers and names count.
fn network_files(network: Network) -> Vec<SmallFile> {
    let own_hosts = || format!("127.0.0.1 localhost {HOSTNAME}\n::1 localhost ip6-localhost\n").into_bytes();
    let (resolv, hosts) = match network {
        Network::None => (Vec::new(), own_hosts()),
        Network::Full => (
            std::fs::read("/etc/resolv.conf").unwrap_or_default(),
            std::fs::read("/etc/hosts")
                .map(|hosts| [own_hosts(), hosts].concat())
                .unwrap_or_else(|_| own_hosts()),
        ),
    };
    let file = |path: &str, content| SmallFile { path: path.into(), content };
    vec![
        file("/etc/resolv.conf", resolv),
        file("/etc/hosts", hosts),
        file("/etc/hostname", format!("{HOSTNAME}\n").into_bytes()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_full_before_memory_is() {
        const GIB: u64 = 1 << 30;
        let limits = |memory_mb, disk_mb| LimitsSpec { memory_mb, disk_mb, ..LimitsSpec::default() };
        let cases = [
            (limits(8192, 1024), 64 * GIB, GIB),
            (limits(8192, 10_240), 64 * GIB, 4 * GIB),
            (limits(8192, 10_240), 4 * GIB, 2 * GIB),
            (limits(0, 0), 4 * GIB, 2 * GIB),
        ];
        for (limits, machine, expected) in cases {
            assert_eq!(disk_bytes(&limits, machine), expected, "{limits:?}");
        }
    }

    #[test]
    fn the_dangerous_capabilities_are_not_kept() {
        // SYS_MODULE, SYS_RAWIO, SYS_PTRACE, SYS_ADMIN, SYS_RESOURCE, MKNOD.
        for dangerous in [16, 17, 19, 21, 24, 27] {
            assert!(CAPABILITIES.iter().all(|(_, number)| *number != dangerous));
        }
        assert!(CAPABILITIES.is_sorted_by_key(|(name, _)| *name));
    }
}
