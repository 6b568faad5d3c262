//! The file of `--cluster-config`: where and how a run's workers run. Plain data.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where and how workers run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterSpec {
    /// Container image with the thresher program.
    pub image: String,
    /// Context of the kubeconfig; its current one, or the pod's own account, if absent.
    #[serde(default)]
    pub context: Option<String>,
    /// Namespace of the KubeJobs.
    #[serde(default = "namespace")]
    pub namespace: String,
    /// Worker slots: indexes of the KubeJob.
    #[serde(default = "one")]
    pub slots: u32,
    /// Sandboxes at a time in one slot.
    #[serde(default = "four")]
    pub sandboxes_per_slot: u32,
    /// Where sandboxes run.
    #[serde(default)]
    pub placement: Placement,
    /// Image of the container engine beside the worker, for the placement `sidecar`.
    #[serde(default = "engine_image")]
    pub engine_image: String,
    /// Folder of the node where engines keep their images for the pods that come later, each in a store of its own; an absolute
    /// path. They are lost with the pod if absent.
    #[serde(default)]
    pub engine_storage: Option<String>,
    /// Whether sandboxes whose task asks for the network get it from the engine beside the worker: everything but the ranges in
    /// the engine's variable THRESHER_DENIED, which are the metadata address and private networks. Its image needs `iptables`.
    #[serde(default)]
    pub engine_network: bool,
    /// Registries, as `host:port`, that the engine speaks to without TLS.
    #[serde(default)]
    pub insecure_registries: Vec<String>,
    /// Kueue's queue. Without one, the run begins at once.
    #[serde(default)]
    pub queue: Option<String>,
    /// Kueue's workload priority class.
    #[serde(default)]
    pub queue_priority: Option<String>,
    /// Slots that must be admitted at least, for Kueue's partial admission; all of them if absent.
    #[serde(default)]
    pub min_slots: Option<u32>,
    /// How often a slot may fail before it is given up.
    #[serde(default = "four")]
    pub backoff_limit_per_index: u32,
    /// How many slots may be given up before the generation fails; a twentieth of them, at least one, if absent.
    #[serde(default)]
    pub max_failed_indexes: Option<u32>,
    /// Seconds that a worker may take to drain.
    #[serde(default = "drain_s")]
    pub drain_s: u32,
    /// Seconds that a KubeJob is kept after its end.
    #[serde(default = "ttl_s")]
    pub ttl_s: u32,
    /// Secret with the credentials of the store, as environment variables.
    #[serde(default = "store_secret")]
    pub store_secret: String,
    /// Secret with the key of the model's endpoint, as environment variables.
    #[serde(default)]
    pub model_secret: Option<String>,
    /// Secrets that images are pulled with.
    #[serde(default)]
    pub image_pull_secrets: Vec<String>,
    /// Labels of all objects, besides our own.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Annotations of all objects.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Further arguments of `thresher worker`.
    #[serde(default)]
    pub worker_args: Vec<String>,
    /// Laid over the pod template last (`metadata`, `spec`): node selector, tolerations, runtime class, priority class,
    /// resources. Lists of named things are merged by name, `null` removes.
    #[serde(default)]
    pub worker_template: serde_json::Value,
}

/// Where sandboxes run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// In a container engine beside the worker, in the same pod.
    #[default]
    Sidecar,
    /// In pods of their own.
    Pods,
    /// In namespaces within the worker's own container.
    Embedded,
}

impl Placement {
    /// The sandbox backend of a worker so placed.
    pub fn backend(self) -> &'static str {
        match self {
            Self::Sidecar => "docker",
            Self::Pods => "pods",
            Self::Embedded => "embedded",
        }
    }
}

impl ClusterSpec {
    /// Reads the file's text; `name` is for messages.
    ///
    /// # Errors
    /// A text that names line and key.
    pub fn parse(name: &str, text: &str) -> Result<Self, crate::ClusterError> {
        let spec: Self = serde_saphyr::from_str(text)
            .map_err(|error| crate::ClusterError::Template(format!("{name}: {error}")))?;
        if spec.slots == 0 || spec.sandboxes_per_slot == 0 {
            return Err(crate::ClusterError::Template(format!(
                "{name}: slots and sandboxes_per_slot must be at least 1"
            )));
        }
        if spec.min_slots == Some(0) {
            return Err(crate::ClusterError::Template(format!("{name}: min_slots must be at least 1")));
        }
        if let Some(folder) = spec.engine_storage.as_ref().filter(|folder| !is_folder(folder)) {
            return Err(crate::ClusterError::Template(format!(
                "{name}: engine_storage: `{folder}` is no absolute path without `..`, such as /mnt/disks/thresher"
            )));
        }
        Ok(spec)
    }
}

/// Whether a node's kubelet takes the path for a volume.
fn is_folder(path: &str) -> bool {
    path.starts_with('/') && !path.trim_matches('/').is_empty() && path.split('/').all(|part| part != "..")
}

fn namespace() -> String {
    "thresher".to_owned()
}

fn engine_image() -> String {
    "docker:28-dind".to_owned()
}

fn store_secret() -> String {
    "thresher-store".to_owned()
}

fn one() -> u32 {
    1
}

fn four() -> u32 {
    4
}

fn drain_s() -> u32 {
    120
}

fn ttl_s() -> u32 {
    86_400
}
