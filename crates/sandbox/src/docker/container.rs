//! What a container is asked to be, as plain values: the create call's body, and what is recorded of it.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, HealthConfig, HostConfig, HostConfigLogConfig, Mount,
    MountType, ResourcesUlimits,
};
use thresher_core::record::SandboxIdentity;
use thresher_core::run_spec::Network;

use super::engine::Facts;
use crate::SandboxSpec;

/// Where the guest is seen inside.
const GUEST_PATH: &str = "/.thresher-guest";

/// Host name inside. A fixed one, since a container's own id would differ between the two sandboxes of a rollout.
pub(super) const HOSTNAME: &str = "sandbox";

/// The label that says which process holds a container.
pub(super) const OWNER_LABEL: &str = "thresher.owner";
/// The label with the random identity of that process.
const INCARNATION_LABEL: &str = "thresher.incarnation";
/// The label with the run's name.
const RUN_LABEL: &str = "thresher.run";

/// Capabilities inside: Podman's default set, which ordinary packages' tests, `apt` and `pip` run under as root.
///
/// It is Docker's default without MKNOD (device nodes), NET_RAW (forged packets on the bridge) and AUDIT_WRITE
/// (records in the host's audit log). SYS_PTRACE is in neither: without it nobody inside can reach into the
/// guest's memory or descriptors. SETFCAP gives nothing under `no-new-privileges`, but package scripts call it.
pub(crate) const CAPABILITIES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// What all containers of this process have in common.
pub(super) struct Common {
    /// The guest on the daemon's machine.
    pub(super) guest: String,
    pub(super) owner: String,
    pub(super) incarnation: String,
    pub(super) run: String,
}

/// The body of the create call.
pub(super) fn create_body(spec: &SandboxSpec, common: &Common) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(spec.prepared.handle.clone()),
        hostname: Some(HOSTNAME.into()),
        user: Some("0:0".into()),
        // The daemon creates it where it is absent.
        working_dir: Some(if spec.workdir.is_empty() { "/".into() } else { spec.workdir.clone() }),
        entrypoint: Some(vec![GUEST_PATH.into()]),
        cmd: Some(Vec::new()),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        open_stdin: Some(true),
        // End of the one attached stream is the guest's end of input: a killed runner leaves nothing.
        stdin_once: Some(true),
        tty: Some(false),
        // An image's own health check would run commands beside the agent's.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".into()]), ..HealthConfig::default() }),
        // With network mode `none` alone the daemon sets up an empty network by running itself once more as a hook,
        // which is more than half of a container's start. Without it runc brings up the loopback interface alone.
        network_disabled: Some(spec.network == Network::None),
        labels: Some(labels(spec, common)),
        host_config: Some(host_config(spec, common)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(spec: &SandboxSpec, common: &Common) -> HostConfig {
    let memory = bytes_of_mib(spec.limits.memory_mb);
    HostConfig {
        auto_remove: Some(true),
        init: Some(false),
        network_mode: Some(network_mode(spec.network).into()),
        // The guest's frames must not be copied to the daemon's disk.
        log_config: Some(HostConfigLogConfig { typ: Some("none".into()), config: None }),
        cap_drop: Some(vec!["ALL".into()]),
        cap_add: Some(CAPABILITIES.iter().map(|name| (*name).to_owned()).collect()),
        security_opt: Some(vec!["no-new-privileges".into()]),
        ipc_mode: Some("private".into()),
        nano_cpus: spec.limits.cpus.map(|cpus| (cpus * 1e9) as i64),
        memory,
        // The same figure for memory and swap together: no swap.
        memory_swap: memory,
        pids_limit: (spec.limits.pids > 0).then_some(i64::from(spec.limits.pids)),
        shm_size: bytes_of_mib(spec.limits.shm_mb),
        ulimits: Some(ulimits()),
        mounts: Some(vec![Mount {
            target: Some(GUEST_PATH.into()),
            source: Some(common.guest.clone()),
            typ: Some(MountType::BIND),
            read_only: Some(true),
            ..Mount::default()
        }]),
        ..HostConfig::default()
    }
}

/// No core dumps in the work tree. The disk is not limited: an overlay has no quota of its own, and a limit on single
/// files would stop sparse ones, which some tests make.
fn ulimits() -> Vec<ResourcesUlimits> {
    vec![ResourcesUlimits { name: Some("core".into()), soft: Some(0), hard: Some(0) }]
}

/// The daemon's network that leads outside.
pub(super) const BRIDGE: &str = "bridge";

fn network_mode(network: Network) -> &'static str {
    match network {
        Network::None => "none",
        Network::Full => BRIDGE,
    }
}

/// `None` where there is no limit.
fn bytes_of_mib(mib: u64) -> Option<i64> {
    (mib > 0).then(|| i64::try_from(mib.saturating_mul(1 << 20)).unwrap_or(i64::MAX))
}

fn labels(spec: &SandboxSpec, common: &Common) -> HashMap<String, String> {
    let named =
        |name: &String| if name.starts_with("thresher.") { name.clone() } else { format!("thresher.{name}") };
    let mut labels: HashMap<_, _> =
        spec.labels.iter().map(|(name, value)| (named(name), value.clone())).collect();
    for (name, value) in
        [(RUN_LABEL, &common.run), (INCARNATION_LABEL, &common.incarnation), (OWNER_LABEL, &common.owner)]
    {
        labels.insert(name.to_owned(), value.clone());
    }
    labels
}

/// A name for people: the run's, and a random end.
pub(super) fn name(run: &str, random: u64) -> String {
    let word: String = run
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.'))
        .take(40)
        .collect();
    let separator = if word.is_empty() { "" } else { "-" };
    format!("thresher-{word}{separator}{random:016x}")
}

/// What the daemon really applied, as far as it can flip a verdict.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Applied {
    capabilities: Vec<String>,
    cpu_shares: Option<u64>,
    cpus: Option<f64>,
    memory_bytes: Option<u64>,
    pids: Option<u32>,
    shm_bytes: Option<u64>,
    network: String,
}

impl Applied {
    pub(super) fn of(container: &ContainerInspectResponse, facts: &Facts) -> Self {
        let network_disabled =
            container.config.as_ref().and_then(|config| config.network_disabled) == Some(true);
        let empty = HostConfig::default();
        let host = container.host_config.as_ref().unwrap_or(&empty);
        let positive =
            |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0);
        let mode = host.network_mode.clone().unwrap_or_default();
        Self {
            capabilities: capabilities(host.cap_add.as_deref().unwrap_or_default()),
            cpu_shares: positive(host.cpu_shares).or_else(|| default_cpu_shares(facts.cgroup_version)),
            cpus: positive(host.nano_cpus).map(|nano| nano as f64 / 1e9),
            memory_bytes: positive(host.memory),
            pids: positive(host.pids_limit).and_then(|pids| u32::try_from(pids).ok()),
            shm_bytes: positive(host.shm_size),
            network: if network_disabled || mode == "none" { "none".into() } else { "full".into() },
        }
    }

    /// The record's part that the backend knows.
    pub(super) fn identity(&self, spec: &SandboxSpec, facts: &Facts) -> SandboxIdentity {
        SandboxIdentity {
            backend: "docker".into(),
            isolation: "container".into(),
            image_ref: spec.prepared.image.to_string(),
            image_digest: spec.prepared.digest.clone(),
            capabilities: self.capabilities.clone(),
            cpu_shares: self.cpu_shares,
            cpus: self.cpus,
            memory_bytes: self.memory_bytes,
            pids: self.pids,
            shm_bytes: self.shm_bytes,
            cgroup_version: facts.cgroup_version,
            agent_network: self.network.clone(),
            kernel: facts.kernel.clone(),
            ..SandboxIdentity::default()
        }
    }
}

/// Newer daemons write `CAP_CHOWN` for what was asked for as `CHOWN`.
fn capabilities(names: &[String]) -> Vec<String> {
    let mut names: Vec<_> =
        names.iter().map(|name| name.strip_prefix("CAP_").unwrap_or(name).to_owned()).collect();
    names.sort_unstable();
    names
}

/// What the kernel gives a cgroup that nobody set: `cpu.shares` of version 1, `cpu.weight` of version 2.
fn default_cpu_shares(cgroup_version: Option<u8>) -> Option<u64> {
    match cgroup_version {
        Some(1) => Some(1024),
        Some(2) => Some(100),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use thresher_core::run_spec::LimitsSpec;
    use thresher_core::task::ImageRef;

    use super::*;
    use crate::Prepared;

    fn spec(network: Network, limits: LimitsSpec) -> SandboxSpec {
        SandboxSpec {
            prepared: Prepared {
                image: ImageRef::Registry("x:1".into()),
                digest: "sha256:d".into(),
                handle: "sha256:id".into(),
                env: BTreeMap::new(),
                pulled_bytes: 0,
                lease: Default::default(),
            },
            workdir: "/testbed".into(),
            network,
            limits,
            labels: [("rollout".to_owned(), "r1".to_owned()), ("owner".to_owned(), "forged".to_owned())]
                .into(),
        }
    }

    fn common() -> Common {
        Common { guest: "/g".into(), owner: "me".into(), incarnation: "i".into(), run: "run".into() }
    }

    #[test]
    fn a_container_is_confined_ends_with_its_stream_and_names_its_owner() {
        let body = create_body(&spec(Network::None, LimitsSpec::default()), &common());
        let host = body.host_config.unwrap();
        assert_eq!(
            (body.open_stdin, body.stdin_once, host.auto_remove),
            (Some(true), Some(true), Some(true))
        );
        assert_eq!(body.network_disabled, Some(true));
        assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
        let added = host.cap_add.unwrap();
        assert!(added.iter().all(|name| name != "SYS_PTRACE" && name != "MKNOD"), "{added:?}");
        assert!(host.oom_score_adj.is_none(), "a negative one is refused on many machines");
        assert_eq!(host.memory, host.memory_swap);
        let labels = body.labels.unwrap();
        assert_eq!((labels[OWNER_LABEL].as_str(), labels["thresher.rollout"].as_str()), ("me", "r1"));
    }

    #[test]
    fn zero_is_no_limit() {
        let limits = LimitsSpec { cpus: Some(1.5), memory_mb: 0, pids: 0, shm_mb: 0, disk_mb: 0 };
        let body = create_body(&spec(Network::Full, limits), &common());
        let host = body.host_config.unwrap();
        assert_eq!((host.memory, host.pids_limit, host.shm_size), (None, None, None));
        assert_eq!((host.nano_cpus, body.network_disabled), (Some(1_500_000_000), Some(false)));
    }

    #[test]
    fn what_was_applied_is_read_back_not_assumed() {
        let facts = Facts { id: String::new(), cgroup_version: Some(2), kernel: "6".into(), root_dir: None };
        let container = ContainerInspectResponse {
            host_config: Some(HostConfig {
                cap_add: Some(vec!["CAP_KILL".into(), "CHOWN".into()]),
                memory: Some(0),
                pids_limit: Some(-1),
                shm_size: Some(64),
                nano_cpus: Some(2_000_000_000),
                network_mode: Some("bridge".into()),
                ..HostConfig::default()
            }),
            ..ContainerInspectResponse::default()
        };
        let identity =
            Applied::of(&container, &facts).identity(&spec(Network::None, LimitsSpec::default()), &facts);
        assert_eq!(identity.capabilities, ["CHOWN", "KILL"]);
        assert_eq!((identity.memory_bytes, identity.pids, identity.shm_bytes), (None, None, Some(64)));
        assert_eq!((identity.cpus, identity.cpu_shares), (Some(2.0), Some(100)));
        assert_eq!((identity.agent_network.as_str(), identity.image_digest.as_str()), ("full", "sha256:d"));
    }

    #[test]
    fn names_are_what_the_daemon_accepts() {
        assert_eq!(name("a b/ü_c", 0xff), "thresher-ab_c-00000000000000ff");
        assert_eq!(name("", 1), "thresher-0000000000000001");
    }
}
