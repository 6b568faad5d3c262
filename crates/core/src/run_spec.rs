//! A job file: what a run should do. Plain data; paths in it are relative to the job file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::SHARD_S;
use crate::trajectory::ToolMode;

/// A whole job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// Name of the run; the default output directory is `runs/<name>`.
    #[serde(default)]
    pub name: Option<String>,
    /// Which tasks.
    pub dataset: DatasetSpec,
    /// Who works on them.
    #[serde(default)]
    pub agent: AgentSpec,
    /// The model behind the agent; not needed by `oracle` and `null`.
    #[serde(default)]
    pub model: Option<ModelSpec>,
    /// Where they run.
    #[serde(default)]
    pub sandbox: SandboxSpec,
    /// How the result is graded.
    #[serde(default)]
    pub grading: GradingSpec,
    /// Rollouts per task.
    #[serde(default = "one")]
    pub samples: u32,
    /// Rollouts at a time; the number of processors if absent.
    #[serde(default)]
    pub concurrency: Option<u32>,
    /// How long rollouts take, so that the longest begin first: a JSON file `{"instance_id": seconds, "prefix*":
    /// seconds}`, or the directory of a former run, whose times are taken. What it does not know is guessed from the
    /// repository, and then from all that it knows.
    #[serde(default)]
    pub durations: Option<String>,
    /// Seconds of one slot's work that a worker claims at a time.
    #[serde(default = "shard_s")]
    pub shard_s: u32,
    /// Limits of the whole run.
    #[serde(default)]
    pub budget: BudgetSpec,
    /// How often a faulted rollout is tried again within one round of the run.
    #[serde(default = "two")]
    pub fault_retries: u32,
    /// How the workers of the run watch each other.
    #[serde(default)]
    pub fleet: FleetSpec,
}

/// How the workers of a run watch each other. The same for all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FleetSpec {
    /// Seconds between two heartbeats of a worker.
    pub heartbeat_s: u64,
    /// Seconds without a heartbeat, on an observer's own clock, after which a worker's shards are taken over.
    pub take_over_s: u64,
    /// Workers that a rollout may be in flight on when they are lost, until it is set aside as the possible cause.
    pub max_lost_workers: u32,
    /// Bytes of raw rows in one Parquet file, about.
    pub pack_bytes: u64,
    /// Seconds after which a worker packs what it has, full or not.
    pub pack_s: u64,
    /// Seconds that a worker waits for what rollouts share (registry, model, container engine) to come back, before
    /// faults of it count and the worker stops; 0: not at all. A run that one process has for itself never waits so.
    pub outage_s: u64,
}

impl Default for FleetSpec {
    fn default() -> Self {
        Self {
            heartbeat_s: 30,
            take_over_s: 120,
            max_lost_workers: 3,
            pack_bytes: 128 << 20,
            pack_s: 600,
            outage_s: 1_800,
        }
    }
}

/// Which tasks of which dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetSpec {
    /// A Parquet, JSONL or JSON file, or a directory of such files; or the URL of one that was stored in a bucket,
    /// `s3://bucket/folder/data/<fingerprint>`.
    pub path: String,
    /// Name that goes into records; the file's or directory's name if absent.
    #[serde(default)]
    pub name: Option<String>,
    /// Row family; recognized from the columns if absent.
    #[serde(default)]
    pub family: Option<DatasetFamily>,
    /// Which rows.
    #[serde(default)]
    pub select: SelectSpec,
}

/// The families of dataset rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DatasetFamily {
    /// R2E-Gym Lite, Subset, V1.
    R2eGym,
    /// SWE-bench in either row shape, and R2E-Gym's variant of it.
    SweBench,
    /// Rows that carry their own repository and tests.
    Inline,
}

/// Which rows of the dataset, applied in this order: shuffle, start, only, filter, limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SelectSpec {
    /// Order of the rows before anything is cut.
    #[serde(default)]
    pub shuffle: Option<ShuffleSpec>,
    /// Rows to skip.
    #[serde(default)]
    pub start: u64,
    /// Rows to keep at most.
    #[serde(default)]
    pub limit: Option<u64>,
    /// Globs over instance ids; any match keeps the row.
    #[serde(default)]
    pub only: Vec<String>,
    /// Expression over the row's columns, for example `repo == "django/django" and difficulty != "<15 min fix"`.
    #[serde(default)]
    pub filter: Option<String>,
}

/// A seeded permutation of the rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShuffleSpec {
    /// The seed; R2E-Gym uses 42. The permutation is numpy's `default_rng(seed).permutation(n)`.
    pub seed: u64,
}

/// Who works on the tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AgentSpec {
    /// The agent.
    pub name: AgentName,
    /// How calls travel.
    pub tool_mode: ToolMode,
    /// Steps after which the agent is told to submit (soft).
    pub max_steps: u32,
    /// Steps after which it is stopped (hard).
    pub max_steps_hard: u32,
    /// Tokens of one model call (prompt and reply) at which it is stopped.
    pub max_tokens: u64,
    /// Seconds for one command.
    pub command_timeout_s: u64,
    /// Seconds for one model call, with its retries.
    pub query_timeout_s: u64,
    /// Seconds of model and tool time together.
    pub max_time_s: u64,
    /// Seconds on the clock for the agent's part, waiting included.
    pub wall_limit_s: u64,
    /// US dollars for one rollout; none if absent.
    pub max_cost_usd: Option<f64>,
    /// Tokens of all model calls of one rollout, prompts and replies; none if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_total_tokens: Option<u64>,
    /// Replies in a row without a valid call after which it is stopped.
    pub max_format_errors: u32,
    /// Identical turns in a row (call and observation) after which it is stopped.
    pub max_repeats: u32,
}

impl Default for AgentSpec {
    fn default() -> Self {
        Self {
            name: AgentName::R2egym,
            tool_mode: ToolMode::Native,
            max_steps: 40,
            max_steps_hard: 50,
            max_tokens: 65_536,
            command_timeout_s: 90,
            query_timeout_s: 7_200,
            max_time_s: 50_000,
            wall_limit_s: 86_400,
            max_cost_usd: None,
            max_total_tokens: None,
            max_format_errors: 5,
            max_repeats: 6,
        }
    }
}

/// The agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentName {
    /// R2E-Gym's editing agent, scaffold `r2egym`.
    R2egym,
    /// Applies the gold patch.
    Oracle,
    /// Does nothing.
    Null,
}

impl AgentName {
    /// The word that the `scaffold` column holds.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::R2egym => "r2egym",
            Self::Oracle => "oracle",
            Self::Null => "null",
        }
    }
}

/// The model and how it is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Model name as the endpoint knows it.
    pub name: String,
    /// OpenAI-compatible endpoint, for example `http://localhost:8000/v1`.
    #[serde(default)]
    pub base_url: Option<String>,
    /// Name of the environment variable that holds the key; no key is sent if absent.
    #[serde(default)]
    pub api_key_env: Option<String>,
    /// A file of recorded replies, used instead of an endpoint.
    #[serde(default)]
    pub replay: Option<String>,
    /// Sampling parameters.
    #[serde(default)]
    pub sampling: SamplingSpec,
    /// Whether replies are streamed.
    #[serde(default)]
    pub stream: bool,
    /// Timeouts and retries.
    #[serde(default)]
    pub client: ClientSpec,
    /// Prices, for cost accounting and limits.
    #[serde(default)]
    pub price: Option<PriceSpec>,
    /// Further fields of the request body, sent as they are.
    #[serde(default)]
    pub extra_body: BTreeMap<String, serde_json::Value>,
}

/// Sampling parameters; absent ones are not sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingSpec {
    /// Temperature.
    pub temperature: Option<f32>,
    /// Nucleus mass.
    pub top_p: Option<f32>,
    /// Seed; the sample number is added to it, so that samples differ.
    pub seed: Option<i64>,
    /// Tokens of one reply.
    pub max_output_tokens: Option<u32>,
    /// Stop strings.
    pub stop: Vec<String>,
}

/// Timeouts and retries of the model client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientSpec {
    /// Seconds to connect.
    pub connect_timeout_s: u64,
    /// Seconds to the first byte of the reply.
    pub first_byte_timeout_s: u64,
    /// Seconds between two pieces of a reply.
    pub stall_timeout_s: u64,
    /// Tries of one call.
    pub max_tries: u32,
    /// First back-off in milliseconds; it doubles up to `max_backoff_ms`, with full jitter.
    pub backoff_ms: u64,
    /// Longest back-off in milliseconds.
    pub max_backoff_ms: u64,
    /// Retries allowed per success, so that an outage is not answered with a storm.
    pub retry_ratio: f64,
    /// Model calls in flight at a time; as many as rollouts if absent.
    pub max_concurrency: Option<u32>,
    /// Header names that carry the rollout's session id.
    pub session_headers: Vec<String>,
}

impl Default for ClientSpec {
    fn default() -> Self {
        Self {
            connect_timeout_s: 10,
            first_byte_timeout_s: 600,
            stall_timeout_s: 120,
            max_tries: 8,
            backoff_ms: 500,
            max_backoff_ms: 60_000,
            retry_ratio: 0.2,
            max_concurrency: None,
            session_headers: vec!["X-Session-ID".into(), "X-SMG-Routing-Key".into()],
        }
    }
}

/// US dollars per million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceSpec {
    /// Prompt tokens.
    pub prompt: f64,
    /// Reply tokens.
    pub completion: f64,
    /// Prompt tokens served from a cache; the prompt price if absent.
    #[serde(default)]
    pub cached: Option<f64>,
}

/// Where rollouts run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SandboxSpec {
    /// The backend.
    pub backend: BackendName,
    /// Whether the agent may use the network.
    pub network: Network,
    /// When images are pulled.
    pub pull: PullPolicy,
    /// Reference prefixes and what replaces them, longest first: a registry mirror.
    pub registry_map: BTreeMap<String, String>,
    /// Registries, as `host` or `host:port`, that the embedded backend speaks to without TLS; those on loopback
    /// addresses always are.
    pub insecure_registries: Vec<String>,
    /// Folder of OCI layouts and `docker save` archives for the embedded backend. What is not in it is pulled.
    pub images: Option<String>,
    /// Whether the embedded backend may fall back to a plain process, without isolation, where namespaces are
    /// refused. Only for tasks that are known to be harmless.
    pub allow_process_fallback: bool,
    /// When images are removed from the node, for the backends `docker` and `embedded`.
    #[serde(skip_serializing_if = "ImageCacheSpec::is_default")]
    pub image_cache: ImageCacheSpec,
    /// Resource limits of every sandbox.
    pub limits: LimitsSpec,
    /// The cluster, for the backend `pods`.
    #[serde(skip_serializing_if = "PodsSpec::is_default")]
    pub pods: PodsSpec,
}

impl Default for SandboxSpec {
    fn default() -> Self {
        Self {
            backend: BackendName::Embedded,
            network: Network::None,
            pull: PullPolicy::Missing,
            registry_map: BTreeMap::new(),
            insecure_registries: Vec::new(),
            images: None,
            allow_process_fallback: false,
            image_cache: ImageCacheSpec::default(),
            limits: LimitsSpec::default(),
            pods: PodsSpec::default(),
        }
    }
}

/// When images, with the layers derived from them, are removed from the node, those first that were not used for the
/// longest time. What is in use stays, and so does what thresher did not pull itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "WrittenImageCache", into = "WrittenImageCache")]
#[schemars(with = "WrittenImageCache")]
pub struct ImageCacheSpec {
    high_percent: u8,
    low_percent: u8,
    limit_mb: Option<u64>,
}

/// An [`ImageCacheSpec`] as it is written, before it is checked.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "ImageCacheSpec")]
struct WrittenImageCache {
    /// Percent of the images' file system: where more is used, images are removed. At most 100.
    high_percent: u8,
    /// Percent at which enough is removed. Below `high_percent`.
    low_percent: u8,
    /// MiB of images: where they take more, whatever the file system has room for, images are removed down to the same
    /// part of it as `low_percent` is of `high_percent`. No limit if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_mb: Option<u64>,
}

impl ImageCacheSpec {
    /// Marks in percent of the file system, and a limit in MiB.
    ///
    /// # Errors
    /// With the key and what it may be, where they contradict each other.
    pub fn new(high_percent: u8, low_percent: u8, limit_mb: Option<u64>) -> Result<Self, String> {
        if !(1..=100).contains(&high_percent) {
            return Err(format!("image_cache.high_percent is {high_percent}; it must be from 1 to 100"));
        }
        if low_percent >= high_percent {
            let nearest = high_percent - 1;
            return Err(format!(
                "image_cache.low_percent is {low_percent}; it must be below high_percent: at most {nearest}"
            ));
        }
        if limit_mb == Some(0) {
            return Err("image_cache.limit_mb is 0; it must be at least 1, or left out for no limit".into());
        }
        Ok(Self { high_percent, low_percent, limit_mb })
    }

    /// Percent of the file system above which images are removed.
    pub fn high_percent(&self) -> u8 {
        self.high_percent
    }

    /// Percent of the file system down to which images are removed.
    pub fn low_percent(&self) -> u8 {
        self.low_percent
    }

    /// MiB of images above which some are removed.
    pub fn limit_mb(&self) -> Option<u64> {
        self.limit_mb
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for ImageCacheSpec {
    fn default() -> Self {
        Self { high_percent: 85, low_percent: 75, limit_mb: None }
    }
}

impl Default for WrittenImageCache {
    fn default() -> Self {
        ImageCacheSpec::default().into()
    }
}

impl TryFrom<WrittenImageCache> for ImageCacheSpec {
    type Error = String;

    fn try_from(written: WrittenImageCache) -> Result<Self, String> {
        Self::new(written.high_percent, written.low_percent, written.limit_mb)
    }
}

impl From<ImageCacheSpec> for WrittenImageCache {
    fn from(spec: ImageCacheSpec) -> Self {
        let ImageCacheSpec { high_percent, low_percent, limit_mb } = spec;
        Self { high_percent, low_percent, limit_mb }
    }
}

/// Sandboxes as pods of a Kubernetes cluster: where they are and what they are made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PodsSpec {
    /// Namespace of the sandboxes. Nothing else should live in it.
    pub namespace: String,
    /// Image that brings the sandbox's first process: thresher's own. If absent, the one that `THRESHER_IMAGE` names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What is merged into every sandbox's pod spec: objects key by key, lists of named things by their names. The
    /// sandbox's own container is named `environment`.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub overrides: serde_json::Value,
    /// Labels of every sandbox's pod, besides ours. `kueue.x-k8s.io/queue-name` puts sandboxes into a queue of their own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Whether the cluster enforces network policies on pods that are labelled `thresher.dev/network: none`.
    pub network_enforced: bool,
    /// Seconds after which the cluster ends a sandbox, whatever it does.
    pub deadline_s: u64,
    /// Seconds that a sandbox may wait for a node.
    pub schedule_limit_s: u64,
    /// Seconds that a sandbox may take to start on its node, the pull of its image included.
    pub start_limit_s: u64,
    /// Sandboxes that one worker creates per second in the long run.
    pub creations_per_s: f64,
}

impl Default for PodsSpec {
    fn default() -> Self {
        Self {
            namespace: "thresher-sandboxes".into(),
            image: None,
            overrides: serde_json::Value::Null,
            labels: BTreeMap::new(),
            network_enforced: false,
            deadline_s: 86_400,
            schedule_limit_s: 600,
            start_limit_s: 1_800,
            creations_per_s: 10.0,
        }
    }
}

impl PodsSpec {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The sandbox backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackendName {
    /// Namespaces and overlay mounts, without a daemon.
    Embedded,
    /// A Docker daemon.
    Docker,
    /// A plain process in its own directory: no isolation.
    Process,
    /// Pods of a Kubernetes cluster, one for each sandbox.
    Pods,
}

impl BackendName {
    /// The word that records hold.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Docker => "docker",
            Self::Process => "process",
            Self::Pods => "pods",
        }
    }
}

/// Network access of a sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Loopback only.
    #[default]
    None,
    /// The backend's default network.
    Full,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// When it is not there.
    #[default]
    Missing,
    /// Before the first use in every invocation.
    Always,
    /// Not at all.
    Never,
}

/// Resource limits of one sandbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSpec {
    /// Processors; no limit if absent. Verdicts can depend on it, so it is recorded.
    pub cpus: Option<f64>,
    /// Memory in MiB.
    pub memory_mb: u64,
    /// Processes.
    pub pids: u32,
    /// Size of `/dev/shm` in MiB.
    pub shm_mb: u64,
    /// Bytes that the sandbox may write, in MiB, where the backend can enforce it.
    pub disk_mb: u64,
}

impl Default for LimitsSpec {
    fn default() -> Self {
        Self { cpus: None, memory_mb: 8_192, pids: 2_048, shm_mb: 64, disk_mb: 10_240 }
    }
}

/// How results are graded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GradingSpec {
    /// Seconds for the test run.
    pub timeout_s: u64,
    /// Which rule: ours, or the seed's own bit for bit.
    pub rule: GradingRule,
    /// Whether grading runs that ask for the network (pip or apt at grading time) get it.
    pub network: GradingNetwork,
}

impl Default for GradingSpec {
    fn default() -> Self {
        Self { timeout_s: 1_800, rule: GradingRule::Strict, network: GradingNetwork::WhereNeeded }
    }
}

/// The rule of the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GradingRule {
    /// Robust against what program output can fake.
    Strict,
    /// The seed's own rule.
    Compat,
}

/// Network of the grading sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GradingNetwork {
    /// For tasks whose script installs packages.
    WhereNeeded,
    /// Never: a stated deviation, recorded with every result.
    Never,
}

/// Limits of the whole run; absent ones do not limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetSpec {
    /// US dollars: no rollout starts that could pass it, counting each running one at its own cap.
    pub cost_usd: Option<f64>,
    /// Tokens, prompt and reply together: no rollout starts that could pass it, counting each running one at its own
    /// cap where it has one (`agent.max_total_tokens`).
    pub tokens: Option<u64>,
    /// Rollouts with a verdict: no more are begun than can reach it.
    pub rollouts: Option<u64>,
    /// Seconds on the clock since the run was started or last resumed: no rollout starts after it.
    pub wall_s: Option<u64>,
}

fn one() -> u32 {
    1
}

fn shard_s() -> u32 {
    SHARD_S
}

fn two() -> u32 {
    2
}

/// A readable difference between two specs where they must agree for a run to be continued, or nothing.
///
/// Identity is agent, model name, sampling, sandbox limits and grading rule; the dataset's content is compared by
/// its fingerprint elsewhere. Paths, concurrency, budgets, endpoints, retries, selection and the number of samples
/// may change between invocations.
pub fn identity_difference(old: &RunSpec, new: &RunSpec) -> Vec<String> {
    let (old, new) = (identity(old), identity(new));
    let mut lines = Vec::new();
    diff_value("", &old, &new, &mut lines);
    lines
}

fn identity(spec: &RunSpec) -> serde_json::Value {
    serde_json::json!({
        "agent": spec.agent,
        "model": spec.model.as_ref().map(|model| serde_json::json!({
            "name": model.name, "replay": model.replay.is_some(), "sampling": model.sampling,
            "extra_body": model.extra_body,
        })),
        "sandbox": { "network": spec.sandbox.network, "limits": spec.sandbox.limits },
        "grading": { "rule": spec.grading.rule, "network": spec.grading.network },
    })
}

fn diff_value(at: &str, old: &serde_json::Value, new: &serde_json::Value, lines: &mut Vec<String>) {
    match (old, new) {
        (serde_json::Value::Object(a), serde_json::Value::Object(b)) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                let null = serde_json::Value::Null;
                diff_value(&path, a.get(key).unwrap_or(&null), b.get(key).unwrap_or(&null), lines);
            }
        }
        _ if old == new => {}
        _ => lines.push(format!("{at}: {old} -> {new}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> RunSpec {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn identity_ignores_what_may_change_and_names_what_may_not() {
        let old = spec(r#"{"dataset": {"path": "a"}, "model": {"name": "m", "base_url": "http://x"}}"#);
        let resumed = RunSpec { samples: 4, concurrency: Some(9), ..old.clone() };
        assert!(identity_difference(&old, &resumed).is_empty());
        let mut other = old.clone();
        other.agent.max_steps = 7;
        other.model = None;
        let lines = identity_difference(&old, &other);
        assert!(lines.contains(&"agent.max_steps: 40 -> 7".to_owned()), "{lines:?}");
        assert!(lines.iter().any(|line| line.starts_with("model")), "{lines:?}");
    }

    #[test]
    fn water_marks_that_contradict_each_other_are_refused() {
        let read = |cache: &str| {
            let text = format!(r#"{{"dataset": {{"path": "a"}}, "sandbox": {{"image_cache": {cache}}}}}"#);
            serde_json::from_str::<RunSpec>(&text).map(|spec| spec.sandbox.image_cache)
        };
        assert_eq!(read("{}").unwrap(), ImageCacheSpec::default());
        let cache = read(r#"{"high_percent": 60, "low_percent": 0, "limit_mb": 5}"#).unwrap();
        assert_eq!((cache.high_percent(), cache.low_percent(), cache.limit_mb()), (60, 0, Some(5)));
        for (written, wanted) in [
            (r#"{"high_percent": 101}"#, "image_cache.high_percent is 101; it must be from 1 to 100"),
            (r#"{"high_percent": 0}"#, "image_cache.high_percent is 0; it must be from 1 to 100"),
            (
                r#"{"high_percent": 70}"#,
                "image_cache.low_percent is 75; it must be below high_percent: at most 69",
            ),
            (r#"{"limit_mb": 0}"#, "image_cache.limit_mb is 0; it must be at least 1"),
            (r#"{"high": 70}"#, "unknown field `high`"),
        ] {
            let error = read(written).unwrap_err().to_string();
            assert!(error.contains(wanted), "{written}: {error}");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error =
            serde_json::from_str::<RunSpec>(r#"{"dataset": {"path": "a"}, "sample": 2}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `sample`"), "{error}");
    }
}
