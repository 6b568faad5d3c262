//! What a pod's sandbox is, asked of its guest: what the cluster made of the pod is not told outside.

use thresher_core::record::SandboxIdentity;
use thresher_core::run_spec::Network;

use crate::{Sandbox, SandboxError, SandboxSpec};

/// Largest file of the kernel's that is read, in bytes.
const SMALL: u64 = 64 << 10;

/// Names of the capabilities by their bits.
const CAPABILITIES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What the kernel says inside. Everything is text, as it was read; absent files are empty.
#[derive(Debug, Default)]
struct Found {
    status: String,
    kernel: String,
    /// Whether the control groups are of version 2, 1, or not to be seen.
    cgroup_version: Option<u8>,
    memory: String,
    pids: String,
    cpu_weight: String,
    oom_group: String,
}

/// Asks the guest what it is in.
pub(super) async fn identify(
    sandbox: &mut Sandbox,
    spec: &SandboxSpec,
    network_enforced: bool,
) -> Result<SandboxIdentity, SandboxError> {
    let mut found = Found {
        status: read(sandbox, "/proc/self/status").await?,
        kernel: read(sandbox, "/proc/sys/kernel/osrelease").await?,
        ..Found::default()
    };
    let two = !read(sandbox, "/sys/fs/cgroup/cgroup.controllers").await?.is_empty();
    let [memory, pids, weight] = match two {
        true => ["memory.max", "pids.max", "cpu.weight"],
        false => ["memory/memory.limit_in_bytes", "pids/pids.max", "cpu/cpu.shares"],
    };
    for (name, place) in [
        (memory, &mut found.memory),
        (pids, &mut found.pids),
        (weight, &mut found.cpu_weight),
        ("memory.oom.group", &mut found.oom_group),
    ] {
        *place = read(sandbox, &format!("/sys/fs/cgroup/{name}")).await?;
    }
    found.cgroup_version = if two { Some(2) } else { (!found.memory.is_empty()).then_some(1) };
    Ok(identity(&found, spec, network_enforced))
}

/// A file of the kernel's without its line end; empty where there is none.
async fn read(sandbox: &mut Sandbox, path: &str) -> Result<String, SandboxError> {
    match sandbox.read(path, SMALL).await {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned()),
        Err(SandboxError::File { .. }) => Ok(String::new()),
        Err(error) => Err(error),
    }
}

fn identity(found: &Found, spec: &SandboxSpec, network_enforced: bool) -> SandboxIdentity {
    let limits = &spec.limits;
    let pids = found.pids.parse().ok();
    SandboxIdentity {
        backend: "pods".into(),
        isolation: "container".into(),
        image_ref: spec.prepared.image.to_string(),
        image_digest: spec.prepared.digest.clone(),
        capabilities: capabilities(&found.status),
        cpu_shares: found.cpu_weight.parse().ok(),
        cpus: limits.cpus,
        memory_bytes: found.memory.parse().ok().filter(|bytes| *bytes < 1 << 60),
        pids,
        shm_bytes: (limits.shm_mb > 0).then(|| limits.shm_mb.saturating_mul(1 << 20)),
        cgroup_version: found.cgroup_version,
        agent_network: match spec.network {
            Network::None => "none".into(),
            Network::Full => "full".into(),
        },
        kernel: found.kernel.clone(),
        deviations: deviations(found, spec, network_enforced, pids),
        ..SandboxIdentity::default()
    }
}

fn deviations(found: &Found, spec: &SandboxSpec, network_enforced: bool, pids: Option<u32>) -> Vec<String> {
    let limits = &spec.limits;
    let none = spec.network == Network::None;
    [
        (
            none && !network_enforced,
            "the network is cut off only where the cluster enforces its network policies",
        ),
        (limits.pids > 0 && pids.is_none(), "processes are limited by the node's own settings alone"),
        (limits.disk_mb > 0, "whoever writes more than the disk's limit is evicted instead of refused"),
        (found.oom_group == "1", "a command that exceeds the memory limit ends the whole sandbox"),
        (field(&found.status, "Seccomp:") == Some("0"), "no seccomp filter is in force"),
        (field(&found.status, "NoNewPrivs:") == Some("0"), "set-user-id programs gain privileges"),
    ]
    .into_iter()
    .filter(|(holds, _)| *holds)
    .map(|(_, words)| words.to_owned())
    .collect()
}

/// What commands have: what the guest has and leaves to its children.
fn capabilities(status: &str) -> Vec<String> {
    let set = |name| field(status, name).and_then(|text| u64::from_str_radix(text, 16).ok()).unwrap_or(0);
    let bits = set("CapEff:") & set("CapBnd:");
    let mut names: Vec<String> = (0..u64::BITS)
        .filter(|bit| bits >> bit & 1 == 1)
        .map(|bit| CAPABILITIES.get(bit as usize).map_or_else(|| bit.to_string(), |name| (*name).to_owned()))
        .collect();
    names.sort_unstable();
    names
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use thresher_core::run_spec::LimitsSpec;
    use thresher_core::task::ImageRef;

    use super::*;
    use crate::Prepared;

    fn spec() -> SandboxSpec {
        let image = ImageRef::Registry("x".into());
        SandboxSpec {
            prepared: Prepared {
                image,
                digest: "sha256:d".into(),
                handle: "h".into(),
                env: BTreeMap::new(),
                pulled_bytes: 0,
                lease: Default::default(),
            },
            workdir: "/".into(),
            network: Network::None,
            limits: LimitsSpec::default(),
            labels: BTreeMap::new(),
        }
    }

    #[test]
    fn what_holds_inside_is_recorded_not_what_was_asked() {
        let found = Found {
            status:
                "Name:\tx\nCapEff:\t00000000080004fb\nCapBnd:\t00000000000004fb\nNoNewPrivs:\t1\nSeccomp:\t2"
                    .into(),
            kernel: "6.1".into(),
            cgroup_version: Some(2),
            memory: "536870912".into(),
            pids: "max".into(),
            cpu_weight: "100".into(),
            oom_group: "1".into(),
        };
        let identity = identity(&found, &spec(), true);
        let expected =
            ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"];
        assert_eq!(identity.capabilities, expected, "without MKNOD, which children do not get");
        assert_eq!(
            (identity.memory_bytes, identity.pids, identity.cpu_shares),
            (Some(512 << 20), None, Some(100))
        );
        assert_eq!(identity.deviations.len(), 3, "{:?}", identity.deviations);
    }

    #[test]
    fn what_could_not_be_read_is_not_made_up() {
        let identity =
            identity(&Found { memory: "9223372036854771712".into(), ..Found::default() }, &spec(), false);
        assert_eq!((identity.memory_bytes, identity.cgroup_version, identity.cpu_shares), (None, None, None));
        assert!(identity.deviations.iter().any(|words| words.contains("network policies")));
    }
}
