//! What a rollout attempt leaves: one record with everything that goes into the run's tables.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::fault::Phase;
use crate::id::{InstanceId, RolloutId, RunId, Sha256Hex, ShardId};
use crate::outcome::{Outcome, StopReason};
use crate::task::Family;
use crate::trajectory::{Step, ToolMode, Usage};

/// Version of the record and of every table; readers refuse a newer one with a clear message.
pub const SCHEMA_VERSION: i32 = 1;

/// Everything one rollout attempt left: a row of `rollouts` with its `steps` and `test_results`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutRecord {
    /// [`SCHEMA_VERSION`] of the writer.
    pub schema_version: i32,
    /// The run that it belongs to.
    pub run_id: RunId,
    /// The shard that it was scheduled in.
    pub shard_id: ShardId,
    /// Its identity.
    pub rollout_id: RolloutId,
    /// Which attempt of this rollout this is, from 1.
    pub attempt: u32,
    /// Random identity of the attempt, so that a writer recognizes its own write.
    pub nonce: String,
    /// The task.
    pub task: TaskIdentity,
    /// Sample number within the task, from 0.
    pub sample: u32,
    /// Who worked on it and how.
    pub policy: PolicyIdentity,
    /// Where it ran: all that can flip a verdict.
    pub sandbox: SandboxIdentity,
    /// How it ended.
    pub outcome: Outcome,
    /// Why the agent's part ended; `None` where it never began or a fault broke it off.
    pub stop_reason: Option<StopReason>,
    /// The patch, once there is one.
    pub patch: Option<PatchRecord>,
    /// Sums over the steps.
    pub totals: Totals,
    /// Time per phase, in milliseconds.
    pub timings: Timings,
    /// Version of the runner.
    pub runner_version: String,
    /// Where the grader's log is kept, relative to the run's prefix.
    pub grader_log: Option<String>,
    /// The turns.
    pub steps: Vec<Step>,
    /// One entry per test of the verdict.
    pub tests: Vec<TestResult>,
}

/// Which task, to the byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskIdentity {
    /// The dataset's id.
    pub instance_id: InstanceId,
    /// Dataset name.
    pub dataset: String,
    /// Fingerprint of the dataset's files.
    pub dataset_fingerprint: Sha256Hex,
    /// Hash of the row.
    pub row_sha256: Sha256Hex,
    /// Row family.
    pub family: Family,
    /// Repository.
    pub repo: Option<String>,
    /// Commit of the buggy state.
    pub base_commit: Option<String>,
}

/// Agent, prompts, model and sampling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyIdentity {
    /// Agent name (`scaffold` column).
    pub agent: String,
    /// Version of its prompts and tools.
    pub agent_version: String,
    /// Hash over prompts, tools and limits.
    pub agent_sha256: Sha256Hex,
    /// How calls travel.
    pub tool_mode: ToolMode,
    /// System prompt as sent.
    pub system_prompt: String,
    /// First user message as sent.
    pub task_prompt: String,
    /// Tool definitions as sent, JSON; `None` in text mode.
    pub tools: Option<String>,
    /// Model name; empty for agents without a model.
    pub model: String,
    /// Where the model was served: host of the endpoint, `replay`, or empty.
    pub provider: String,
    /// Sampling parameters, JSON.
    pub sampling: serde_json::Value,
}

/// What can flip a verdict besides the patch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SandboxIdentity {
    /// `docker`, `embedded`, `pods` or `process`.
    pub backend: String,
    /// `container`, `namespaces`, `user_namespaces` or `none`.
    pub isolation: String,
    /// Image as the dataset names it.
    pub image_ref: String,
    /// Digest that it was resolved to; the config id where an imported image has none; empty for `host`.
    pub image_digest: String,
    /// Capabilities inside, sorted.
    pub capabilities: Vec<String>,
    /// `cpu.shares` or `cpu.weight` in force.
    pub cpu_shares: Option<u64>,
    /// Processors by quota.
    pub cpus: Option<f64>,
    /// Memory limit in bytes.
    pub memory_bytes: Option<u64>,
    /// Process limit.
    pub pids: Option<u32>,
    /// Size of `/dev/shm` in bytes.
    pub shm_bytes: Option<u64>,
    /// 1 or 2; `None` where there is no cgroup of its own.
    pub cgroup_version: Option<u8>,
    /// Network while the agent worked.
    pub agent_network: String,
    /// Network while grading.
    pub grading_network: String,
    /// Kernel release.
    pub kernel: String,
    /// Version of set-up and scrub.
    pub setup_version: String,
    /// What deviates from the family's own environment, in words.
    pub deviations: Vec<String>,
}

/// The agent's patch against the baseline tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchRecord {
    /// A git patch, binary where need be; empty if nothing changed.
    #[serde(with = "base64_bytes")]
    pub bytes: Bytes,
    /// Hash of `bytes`.
    pub sha256: Sha256Hex,
    /// Git tree id of the work tree after set-up: what the patch applies to.
    pub baseline_tree: String,
    /// Git tree id after the patch.
    pub result_tree: String,
    /// Files touched.
    pub files: u32,
    /// Text lines added.
    pub added: u32,
    /// Text lines removed.
    pub removed: u32,
}

impl PatchRecord {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Sums over a rollout's steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Turns.
    pub steps: u32,
    /// Calls made.
    pub tool_calls: u32,
    /// Replies without a valid call.
    pub format_errors: u32,
    /// Calls that a tool refused.
    pub tool_errors: u32,
    /// Tokens.
    pub usage: Usage,
    /// Largest prompt plus reply of one call.
    pub max_context_tokens: u64,
    /// US dollars, where prices are known.
    pub cost_usd: Option<f64>,
}

impl Totals {
    /// Sums up `steps`.
    pub fn of(steps: &[Step]) -> Self {
        let mut totals = Self { steps: steps.len() as u32, ..Self::default() };
        for step in steps {
            totals.tool_calls += step.tool_calls.len() as u32;
            totals.format_errors += u32::from(step.format_error.is_some());
            totals.tool_errors += step.observations.iter().filter(|seen| seen.is_error).count() as u32;
            totals.usage += step.usage;
            let context = step.usage.prompt_tokens + step.usage.completion_tokens;
            totals.max_context_tokens = totals.max_context_tokens.max(context);
            if let Some(cost) = step.cost_usd {
                *totals.cost_usd.get_or_insert(0.0) += cost;
            }
        }
        totals
    }
}

/// Wall-clock milliseconds per phase, and the two ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// Start, microseconds since the epoch, UTC.
    pub started_at_us: i64,
    /// End, likewise.
    pub ended_at_us: i64,
    /// Milliseconds per phase that was entered.
    pub phases: BTreeMap<Phase, u64>,
    /// Milliseconds waiting for the model.
    pub llm_ms: u64,
    /// Milliseconds in tools.
    pub env_ms: u64,
}

/// One test of a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestResult {
    /// Name, as the dataset lists it.
    pub test_id: String,
    /// `f2p`, `p2p`, `regression` or `other`.
    pub suite: String,
    /// Expected status, where the family states one.
    pub expected: Option<String>,
    /// `passed`, `failed`, `error`, `skipped`, `xfail`, `xpass` or `missing`.
    pub status: String,
    /// Whether it satisfies the rule.
    pub ok: bool,
}

mod base64_bytes {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(&text).map(Bytes::from).map_err(serde::de::Error::custom)
    }
}
