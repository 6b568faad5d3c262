//! What a pod is asked to be, as plain values: the object that is created, with the user's changes merged in.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value, json};
use thresher_core::run_spec::{LimitsSpec, Network, PullPolicy};
use thresher_guest::resume::KeyHash;

use crate::docker::CAPABILITIES;
use crate::{SandboxError, SandboxSpec};

/// The container that the sandbox is.
pub(super) const ENVIRONMENT: &str = "environment";
/// The container that brings the guest, before.
pub(super) const INSTALLER: &str = "guest";

/// Folder that the installer writes to, and where the environment sees it.
const INSTALL_FOLDER: &str = "/guest";
const GUEST_FOLDER: &str = "/.thresher";
/// The guest as the environment sees it.
pub(super) const GUEST: &str = "/.thresher/guest";

/// Seconds between the polite end and the kill: the first process takes no signal, so nothing is gained by more.
const GRACE_S: u32 = 1;

/// Label with the start of a worker that something belongs to.
const INCARNATION: &str = "thresher.dev/incarnation";
/// Label with the generation of that worker's job.
const GENERATION: &str = "thresher.dev/generation";

/// Labels and the slot's object: what says whose a pod is.
#[derive(Clone, Debug)]
pub(super) struct Ownership {
    pub(super) run: String,
    pub(super) slot: String,
    pub(super) incarnation: String,
    pub(super) generation: Option<u32>,
    pub(super) older: OlderGenerations,
}

/// What is known of the workers of the run's older generations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OlderGenerations {
    /// They are gone: what they left is removed.
    #[default]
    Gone,
    /// They may still finish what they have: what is theirs stays, until this process ends.
    Drain,
}

/// The object that a pod goes with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnerRef {
    pub(super) name: String,
    pub(super) uid: String,
}

/// What all pods of a backend have in common.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) ownership: Ownership,
    pub(super) guest_image: String,
    pub(super) guest_command: Vec<String>,
    pub(super) overrides: Value,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) orphan_s: u64,
    pub(super) deadline_s: u64,
}

/// What is one pod's own.
#[derive(Clone, Debug)]
pub(super) struct Own {
    pub(super) name: String,
    pub(super) key_hash: KeyHash,
    pub(super) owner: OwnerRef,
    pub(super) pull: PullPolicy,
}

impl Ownership {
    /// The labels of every object.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::from([
            ("app.kubernetes.io/name".to_owned(), "thresher".to_owned()),
            ("app.kubernetes.io/component".into(), "sandbox".into()),
            ("thresher.dev/run".into(), label_value(&self.run)),
            ("thresher.dev/slot".into(), label_value(&self.slot)),
            (INCARNATION.into(), label_value(&self.incarnation)),
        ]);
        if let Some(generation) = self.generation {
            labels.insert(GENERATION.into(), generation.to_string());
        }
        labels
    }

    /// The name of the slot's object. Each generation has its own, since the workers of two may be there at once.
    pub(super) fn owner_name(&self) -> String {
        let generation = self.generation.map(|generation| format!("{generation}-")).unwrap_or_default();
        object_name(&self.run, &format!("slot-{generation}{}", self.slot))
    }

    /// Whether this process leaves alone what has these labels: its own, and what living workers may need.
    pub(super) fn spares(&self, labels: &BTreeMap<String, String>) -> bool {
        let own = self.labels();
        let alike = |label: &str| labels.get(label) == own.get(label);
        match self.older {
            _ if alike(INCARNATION) => true,
            OlderGenerations::Gone => false,
            OlderGenerations::Drain => !alike(GENERATION),
        }
    }

    /// Selects what belongs to the slot, whichever its incarnation.
    pub(super) fn selector(&self) -> String {
        let (run, slot) = (label_value(&self.run), label_value(&self.slot));
        format!("app.kubernetes.io/component=sandbox,thresher.dev/run={run},thresher.dev/slot={slot}")
    }
}

/// Builds the pod.
///
/// # Errors
/// [`SandboxError::Unsupported`] where the user's changes do not fit.
pub(super) fn build(spec: &SandboxSpec, common: &Common, own: &Own) -> Result<Pod, SandboxError> {
    let mut labels = common.labels.clone();
    labels.extend(common.ownership.labels());
    labels.insert("thresher.dev/network".into(), network(spec.network).into());
    let mut wanted = pod_spec(spec, common, own);
    if !common.overrides.is_null() {
        merge(&mut wanted, &common.overrides);
    }
    // A sandbox ends once, and begins with the guest.
    wanted["restartPolicy"] = "Never".into();
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": own.name,
            "labels": labels,
            "annotations": annotations(&spec.labels),
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "ConfigMap", "name": own.owner.name, "uid": own.owner.uid,
                "controller": false, "blockOwnerDeletion": false,
            }],
        },
        "spec": wanted,
    });
    let refused = |message: String| SandboxError::Unsupported(format!("sandbox.pods.overrides {message}"));
    let pod: Pod = serde_json::from_value(pod).map_err(|error| refused(format!("do not fit: {error}")))?;
    let understood = serde_json::to_value(&pod.spec).map_err(|error| refused(error.to_string()))?;
    match unknown(&common.overrides, &understood, "") {
        Some(path) => Err(refused(format!("name the unknown field {path}"))),
        None => Ok(pod),
    }
}

fn pod_spec(spec: &SandboxSpec, common: &Common, own: &Own) -> Value {
    let mut mounts = vec![json!({"name": "guest", "mountPath": GUEST_FOLDER, "readOnly": true})];
    let mut volumes = vec![json!({"name": "guest", "emptyDir": {}})];
    if spec.limits.shm_mb > 0 {
        let size = mebibytes(spec.limits.shm_mb);
        mounts.push(json!({"name": "shm", "mountPath": "/dev/shm"}));
        volumes.push(json!({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": size}}));
    }
    let mut command = common.guest_command.clone();
    command.push(INSTALL_FOLDER.into());
    let mut wanted = json!({
        "restartPolicy": "Never",
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        // A fixed one, since a pod's own name would differ between the two sandboxes of a rollout.
        "hostname": "sandbox",
        "terminationGracePeriodSeconds": GRACE_S,
        "activeDeadlineSeconds": common.deadline_s,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [{
            "name": INSTALLER,
            "image": common.guest_image,
            "imagePullPolicy": "IfNotPresent",
            "command": command,
            "volumeMounts": [{"name": "guest", "mountPath": INSTALL_FOLDER}],
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "runAsUser": 65_532,
                "capabilities": {"drop": ["ALL"]},
            },
        }],
        "containers": [{
            "name": ENVIRONMENT,
            "image": spec.prepared.handle,
            "imagePullPolicy": pull_policy(own.pull),
            "command": [
                GUEST, "pod", "--key-hash", own.key_hash.to_string(),
                "--orphan-s", common.orphan_s.to_string(),
            ],
            "volumeMounts": mounts,
            "resources": resources(&spec.limits),
            "securityContext": {
                "runAsUser": 0,
                "runAsGroup": 0,
                "privileged": false,
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"], "add": CAPABILITIES},
            },
        }],
        "volumes": volumes,
    });
    // Without network no name can be resolved: better at once than after the resolver's timeouts. With it, names of the
    // cluster's own services are none of a sandbox's business.
    match spec.network {
        Network::None => {
            wanted["dnsPolicy"] = "None".into();
            wanted["dnsConfig"] = json!({"nameservers": ["127.0.0.1"]});
        }
        Network::Full => wanted["dnsPolicy"] = "Default".into(),
    }
    wanted
}

/// Requests are limits, so that a sandbox has what verdicts may depend on. The disk alone is asked for in part: few use
/// much of it, and whole requests would leave nodes empty.
fn resources(limits: &LimitsSpec) -> Value {
    const DISK_REQUEST_MB: u64 = 1_024;
    let (mut request, mut limit) = (Map::new(), Map::new());
    if let Some(cpus) = limits.cpus {
        let cpus = format!("{}m", (cpus * 1_000.0).ceil() as u64);
        request.insert("cpu".into(), cpus.clone().into());
        limit.insert("cpu".into(), cpus.into());
    }
    if limits.memory_mb > 0 {
        request.insert("memory".into(), mebibytes(limits.memory_mb).into());
        limit.insert("memory".into(), mebibytes(limits.memory_mb).into());
    }
    if limits.disk_mb > 0 {
        let asked = mebibytes(limits.disk_mb.min(DISK_REQUEST_MB));
        request.insert("ephemeral-storage".into(), asked.into());
        limit.insert("ephemeral-storage".into(), mebibytes(limits.disk_mb).into());
    }
    json!({"requests": request, "limits": limit})
}

fn mebibytes(count: u64) -> String {
    format!("{count}Mi")
}

fn pull_policy(pull: PullPolicy) -> &'static str {
    match pull {
        PullPolicy::Always => "Always",
        PullPolicy::Missing => "IfNotPresent",
        PullPolicy::Never => "Never",
    }
}

fn network(network: Network) -> &'static str {
    match network {
        Network::None => "none",
        Network::Full => "full",
    }
}

/// The caller's labels, for people: they may hold anything, which labels of a cluster may not.
fn annotations(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let own =
        labels.iter().map(|(name, value)| (format!("thresher.dev/{}", label_value(name)), value.clone()));
    // Whoever packs nodes more tightly must not end a rollout for it.
    own.chain([
        ("cluster-autoscaler.kubernetes.io/safe-to-evict".into(), "false".into()),
        ("karpenter.sh/do-not-disrupt".into(), "true".into()),
    ])
    .collect()
}

/// Lays `changes` over `base`: objects key by key, lists of named things by their names, everything else as a whole.
fn merge(base: &mut Value, changes: &Value) {
    match (base, changes) {
        (Value::Object(base), Value::Object(changes)) => {
            for (key, change) in changes {
                merge(base.entry(key.clone()).or_insert(Value::Null), change);
            }
        }
        (Value::Array(base), Value::Array(changes))
            if changes.iter().all(|change| name_of(change).is_some()) =>
        {
            for change in changes {
                match base.iter_mut().find(|item| name_of(item) == name_of(change)) {
                    Some(item) => merge(item, change),
                    None => base.push(change.clone()),
                }
            }
        }
        (base, changes) => *base = changes.clone(),
    }
}

fn name_of(value: &Value) -> Option<&str> {
    value.get("name")?.as_str()
}

/// The path of a key in `asked` that is not in what was understood.
fn unknown(asked: &Value, understood: &Value, path: &str) -> Option<String> {
    match (asked, understood) {
        (Value::Object(asked), _) => asked.iter().find_map(|(key, value)| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match understood.get(key) {
                Some(understood) => unknown(value, understood, &path),
                // What is empty or null is left away.
                None if is_empty(value) => None,
                None => Some(path),
            }
        }),
        (Value::Array(asked), Value::Array(understood)) => {
            asked.iter().enumerate().find_map(|(at, value)| {
                let same = |item: &&Value| name_of(value).is_some() && name_of(item) == name_of(value);
                let found = understood.iter().find(same).or_else(|| understood.get(at))?;
                unknown(value, found, &format!("{path}[{at}]"))
            })
        }
        _ => None,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        _ => false,
    }
}

/// `text` as the value of a label: 63 letters, digits, `-`, `_` and `.`, of which the first and last are no signs.
pub(super) fn label_value(text: &str) -> String {
    let letter = |letter: char| match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' => letter,
        _ => '-',
    };
    let clean: String = text.chars().map(letter).collect();
    let clean = clean.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
    clean
        .chars()
        .take(63)
        .collect::<String>()
        .trim_end_matches(|letter: char| !letter.is_ascii_alphanumeric())
        .into()
}

/// A name for an object: the run's word, what tells it apart, all in lower-case letters, digits and `-`.
pub(super) fn object_name(run: &str, apart: &str) -> String {
    const MOST: usize = 40;
    let word = |text: &str, most: usize| {
        let lower = text.to_ascii_lowercase();
        let letters = lower.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' });
        letters.take(most).collect::<String>().trim_matches('-').to_owned()
    };
    let (run, apart) = (word(run, MOST), word(apart, MOST));
    ["thresher", &run, &apart].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use thresher_core::task::ImageRef;
    use thresher_guest::resume::Key;

    use super::*;
    use crate::Prepared;

    fn spec(network: Network, limits: LimitsSpec) -> SandboxSpec {
        let image = ImageRef::Registry("x:1".into());
        let (digest, handle) = ("sha256:d".into(), "x@sha256:d".into());
        SandboxSpec {
            prepared: Prepared {
                image,
                digest,
                handle,
                env: BTreeMap::new(),
                pulled_bytes: 0,
                lease: Default::default(),
            },
            workdir: "/testbed".into(),
            network,
            limits,
            labels: [("rollout".to_owned(), "r/1".to_owned())].into(),
        }
    }

    fn built(network: Network, limits: LimitsSpec, overrides: Value) -> Result<Value, SandboxError> {
        let ownership = Ownership {
            run: "a run".into(),
            slot: "3".into(),
            incarnation: "ab".into(),
            generation: Some(2),
            older: OlderGenerations::Gone,
        };
        let common = Common {
            ownership,
            guest_image: "thresher:1".into(),
            guest_command: vec!["thresher".into(), "install-guest".into()],
            overrides,
            labels: BTreeMap::from([
                ("kueue.x-k8s.io/queue-name".into(), "sandboxes".into()),
                ("thresher.dev/run".into(), "another".into()),
            ]),
            orphan_s: 300,
            deadline_s: 86_400,
        };
        let own = Own {
            name: "p".into(),
            key_hash: Key::new([1; 32]).hash(),
            owner: OwnerRef { name: "o".into(), uid: "u".into() },
            pull: PullPolicy::Missing,
        };
        Ok(serde_json::to_value(build(&spec(network, limits), &common, &own)?).unwrap())
    }

    #[test]
    fn what_older_generations_may_need_is_spared_while_they_drain() {
        let ownership = |generation: u32, incarnation: &str, older| Ownership {
            run: "r".into(),
            slot: "0".into(),
            incarnation: incarnation.into(),
            generation: Some(generation),
            older,
        };
        let of =
            |generation, incarnation| ownership(generation, incarnation, OlderGenerations::Gone).labels();
        let cases = [
            (of(2, "own"), true, true),
            (of(2, "before"), false, false),
            (of(1, "older"), false, true),
            (of(3, "newer"), false, true),
        ];
        for (labels, gone, drain) in cases {
            assert_eq!(ownership(2, "own", OlderGenerations::Gone).spares(&labels), gone, "{labels:?}");
            assert_eq!(ownership(2, "own", OlderGenerations::Drain).spares(&labels), drain, "{labels:?}");
        }
        let name = |generation| ownership(generation, "own", OlderGenerations::Gone).owner_name();
        assert_eq!((name(1), name(2)), ("thresher-r-slot-1-0".into(), "thresher-r-slot-2-0".into()));
    }

    #[test]
    fn a_pod_is_confined_ends_once_and_names_its_owner() {
        let pod = built(Network::None, LimitsSpec::default(), Value::Null).unwrap();
        let labels = &pod["metadata"]["labels"];
        assert_eq!(labels["thresher.dev/run"], "a-run");
        assert_eq!(
            (&labels["thresher.dev/slot"], &labels["thresher.dev/network"]),
            (&json!("3"), &json!("none"))
        );
        assert_eq!(labels["thresher.dev/generation"], "2");
        assert_eq!(pod["metadata"]["annotations"]["thresher.dev/rollout"], "r/1");
        assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], "u");
        let spec = &pod["spec"];
        assert_eq!((&spec["restartPolicy"], &spec["hostname"]), (&json!("Never"), &json!("sandbox")));
        assert_eq!(
            (&spec["automountServiceAccountToken"], &spec["enableServiceLinks"]),
            (&json!(false), &json!(false))
        );
        assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let container = &spec["containers"][0];
        assert_eq!(container["command"][0], GUEST);
        assert!(container.get("env").is_none() && container.get("envFrom").is_none());
        let security = &container["securityContext"];
        assert_eq!(
            (&security["allowPrivilegeEscalation"], &security["privileged"]),
            (&json!(false), &json!(false))
        );
        assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
        let added = security["capabilities"]["add"].as_array().unwrap();
        assert!(added.iter().all(|name| name != "SYS_PTRACE" && name != "MKNOD"), "{added:?}");
        assert_eq!(container["resources"]["requests"]["memory"], container["resources"]["limits"]["memory"]);
        assert_eq!(container["volumeMounts"][0]["readOnly"], true);
        assert!(!pod.to_string().contains(&"01".repeat(16)), "the key is not in it");
    }

    #[test]
    fn zero_is_no_limit() {
        let limits = LimitsSpec { cpus: Some(1.5), memory_mb: 0, pids: 0, shm_mb: 0, disk_mb: 0 };
        let pod = built(Network::Full, limits, Value::Null).unwrap();
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["resources"], json!({"limits": {"cpu": "1500m"}, "requests": {"cpu": "1500m"}}));
        assert_eq!(container["volumeMounts"].as_array().unwrap().len(), 1);
        assert_eq!((&pod["spec"]["dnsPolicy"], pod["spec"].get("dnsConfig")), (&json!("Default"), None));
    }

    #[test]
    fn the_users_changes_are_merged_deeply_and_lists_by_name() {
        let overrides = json!({
            "runtimeClassName": "gvisor",
            "nodeSelector": {"pool": "sandboxes"},
            "tolerations": [{"key": "sandbox", "operator": "Exists"}],
            "restartPolicy": "Always",
            "securityContext": {"seccompProfile": {"type": "Unconfined"}},
            "containers": [{"name": "environment", "resources": {"requests": {"memory": "1Gi"}}}],
            "volumes": [{"name": "more", "emptyDir": {}}],
        });
        let pod = built(Network::None, LimitsSpec::default(), overrides).unwrap();
        let spec = &pod["spec"];
        assert_eq!((&spec["runtimeClassName"], &spec["restartPolicy"]), (&json!("gvisor"), &json!("Never")));
        assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "Unconfined");
        let container = &spec["containers"][0];
        assert_eq!(container["resources"]["requests"]["memory"], "1Gi");
        assert_eq!(container["resources"]["limits"]["memory"], "8192Mi");
        assert_eq!(container["command"][0], GUEST);
        assert_eq!(spec["volumes"].as_array().unwrap().len(), 3);
        let labels = &pod["metadata"]["labels"];
        assert_eq!(labels["kueue.x-k8s.io/queue-name"], "sandboxes");
        assert_ne!(labels["thresher.dev/run"], "another", "by ours, sandboxes are found again");
    }

    #[test]
    fn unknown_changes_are_named() {
        for (overrides, expected) in [
            (json!({"nodeSelektor": {"a": "b"}}), "nodeSelektor"),
            (json!({"containers": [{"name": "environment", "tyt": true}]}), "containers[0].tyt"),
            (json!({"hostname": 3}), "do not fit"),
        ] {
            let error = built(Network::None, LimitsSpec::default(), overrides).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn names_and_labels_are_what_the_api_accepts() {
        assert_eq!(object_name("A run/Ü_1", "00ff"), "thresher-a-run---1-00ff");
        assert_eq!(object_name("", "1"), "thresher-1");
        assert!(object_name(&"x".repeat(100), &"y".repeat(100)).len() <= 90);
        assert_eq!(label_value("-a b/c_"), "a-b-c");
        assert_eq!(label_value(&"x".repeat(100)).len(), 63);
        assert_eq!(label_value("äö"), "");
    }
}
