//! A rollout's row without its text, for tables of results.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array as _, ArrowPrimitiveType, RecordBatch};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thresher_core::outcome::Tally;
use thresher_core::record::{RolloutRecord, Timings, Totals};
use thresher_core::trajectory::Usage;
use thresher_core::{Fault, Graded, InstanceId, Outcome, Phase, RolloutId, ShardId, StopReason};

/// What a report needs of a rollout.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RolloutSummary {
    /// The rollout.
    pub rollout_id: RolloutId,
    /// Its shard.
    pub shard_id: ShardId,
    /// The task.
    pub instance_id: InstanceId,
    /// Sample number.
    pub sample: u32,
    /// Which attempt it was.
    pub attempt: u32,
    /// Agent name.
    pub agent: String,
    /// Model name.
    pub model: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why the agent's part ended.
    pub stop_reason: Option<StopReason>,
    /// Size of the patch in bytes; `None` if there is no patch.
    pub patch_bytes: Option<u64>,
    /// Sums over its steps.
    pub totals: Totals,
    /// Times.
    pub timings: Timings,
}

impl RolloutSummary {
    /// Summarizes a record.
    pub fn of(record: &RolloutRecord) -> Self {
        Self {
            rollout_id: record.rollout_id.clone(),
            shard_id: record.shard_id.clone(),
            instance_id: record.task.instance_id.clone(),
            sample: record.sample,
            attempt: record.attempt,
            agent: record.policy.agent.clone(),
            model: record.policy.model.clone(),
            outcome: record.outcome.clone(),
            stop_reason: record.stop_reason,
            patch_bytes: record.patch.as_ref().map(|patch| patch.bytes.len() as u64),
            totals: record.totals,
            timings: record.timings.clone(),
        }
    }
}

/// Phases and the columns that hold their times.
const PHASES: [(Phase, &str); 8] = [
    (Phase::Load, "load_ms"),
    (Phase::Pull, "pull_ms"),
    (Phase::Start, "start_ms"),
    (Phase::Setup, "setup_ms"),
    (Phase::Agent, "agent_ms"),
    (Phase::Patch, "patch_ms"),
    (Phase::Grade, "eval_ms"),
    (Phase::Commit, "commit_ms"),
];

/// The columns that [`summaries`] reads besides [`PHASES`]: none of them is wide.
const COLUMNS: &[&str] = &[
    "rollout_id",
    "shard_id",
    "instance_id",
    "sample_index",
    "execution_no",
    "scaffold",
    "model",
    "exit_reason",
    "error_type",
    "error_retry",
    "error_phase",
    "error_message",
    "reward",
    "resolution",
    "eval_status",
    "eval_flaky",
    "harness_version",
    "f2p_total",
    "f2p_passed",
    "p2p_total",
    "p2p_passed",
    "patch_size",
    "n_steps",
    "n_tool_calls",
    "n_format_errors",
    "n_tool_errors",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "max_context_tokens",
    "cost_usd",
    "started_at",
    "ended_at",
    "llm_ms",
    "env_ms",
];

/// The columns of `rollouts` that a summary is read from.
pub(crate) fn columns() -> Vec<&'static str> {
    COLUMNS.iter().copied().chain(PHASES.iter().map(|(_, column)| *column)).collect()
}

/// Reads summaries back from rows of `rollouts`; the error says what is wrong with them.
pub(crate) fn summaries(batch: &RecordBatch) -> Result<Vec<RolloutSummary>, String> {
    (0..batch.num_rows()).map(|at| Row { batch, at }.summary()).collect()
}

/// One row of a batch.
struct Row<'b> {
    batch: &'b RecordBatch,
    at: usize,
}

impl Row<'_> {
    fn summary(&self) -> Result<RolloutSummary, String> {
        Ok(RolloutSummary {
            rollout_id: RolloutId::new(self.text("rollout_id")?),
            shard_id: ShardId::new(self.text("shard_id")?),
            instance_id: InstanceId::new(self.text("instance_id")?),
            sample: self.count("sample_index")?,
            attempt: self.count("execution_no")?,
            agent: self.text("scaffold")?,
            model: self.text("model")?,
            outcome: self.outcome()?,
            stop_reason: self.words("exit_reason")?,
            patch_bytes: self.long("patch_size")?.map(|size| size as u64),
            totals: self.totals()?,
            timings: self.timings()?,
        })
    }

    fn outcome(&self) -> Result<Outcome, String> {
        let Some(reward) = self.number::<Float64Type>("reward")? else {
            return Ok(Outcome::Faulted(Fault::new(
                self.word("error_type")?,
                self.word("error_retry")?,
                self.word("error_phase")?,
                self.text("error_message")?,
            )));
        };
        let flaky = self.column("eval_flaky")?.as_boolean_opt().ok_or("`eval_flaky` is not boolean")?;
        Ok(Outcome::Graded(Graded {
            reward,
            resolution: self.words("resolution")?,
            stop: self.word("eval_status")?,
            flaky: flaky.is_valid(self.at) && flaky.value(self.at),
            fail_to_pass: self.tally("f2p_total", "f2p_passed")?,
            pass_to_pass: self.tally("p2p_total", "p2p_passed")?,
            rule: self.text("harness_version")?,
        }))
    }

    fn tally(&self, total: &str, passed: &str) -> Result<Option<Tally>, String> {
        if self.number::<Int32Type>(total)?.is_none() {
            return Ok(None);
        }
        Ok(Some(Tally { total: self.count(total)?, passed: self.count(passed)? }))
    }

    fn totals(&self) -> Result<Totals, String> {
        Ok(Totals {
            steps: self.count("n_steps")?,
            tool_calls: self.count("n_tool_calls")?,
            format_errors: self.count("n_format_errors")?,
            tool_errors: self.count("n_tool_errors")?,
            usage: Usage {
                prompt_tokens: self.sum("prompt_tokens")?,
                completion_tokens: self.sum("completion_tokens")?,
                cached_tokens: self.sum("cached_tokens")?,
                reasoning_tokens: self.sum("reasoning_tokens")?,
            },
            max_context_tokens: self.sum("max_context_tokens")?,
            cost_usd: self.number::<Float64Type>("cost_usd")?,
        })
    }

    fn timings(&self) -> Result<Timings, String> {
        let mut phases = BTreeMap::new();
        for (phase, column) in PHASES {
            phases.extend(self.long(column)?.map(|ms| (phase, ms as u64)));
        }
        let time = |name| self.number::<TimestampMicrosecondType>(name);
        Ok(Timings {
            started_at_us: time("started_at")?.unwrap_or_default(),
            ended_at_us: time("ended_at")?.unwrap_or_default(),
            phases,
            llm_ms: self.sum("llm_ms")?,
            env_ms: self.sum("env_ms")?,
        })
    }

    fn column(&self, name: &str) -> Result<&dyn arrow_array::Array, String> {
        let column = self.batch.column_by_name(name);
        column.map(|column| &**column).ok_or_else(|| format!("there is no column `{name}`"))
    }

    fn texts(&self, name: &str) -> Result<Option<&str>, String> {
        let column =
            self.column(name)?.as_string_opt::<i32>().ok_or_else(|| format!("`{name}` is not text"))?;
        Ok(column.is_valid(self.at).then(|| column.value(self.at)))
    }

    fn text(&self, name: &str) -> Result<String, String> {
        self.texts(name)?.map(str::to_owned).ok_or_else(|| format!("`{name}` is null"))
    }

    /// A word of one of the closed sets, which serialize as the word that the column holds.
    fn words<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, String> {
        let Some(word) = self.texts(name)? else { return Ok(None) };
        let parsed = serde_json::from_value(word.into());
        parsed.map(Some).map_err(|_| format!("`{name}` is `{word}`, which is none of its words"))
    }

    fn word<T: DeserializeOwned>(&self, name: &str) -> Result<T, String> {
        self.words(name)?.ok_or_else(|| format!("`{name}` is null"))
    }

    fn number<T: ArrowPrimitiveType>(&self, name: &str) -> Result<Option<T::Native>, String> {
        let column = self.column(name)?.as_primitive_opt::<T>();
        let column = column.ok_or_else(|| format!("`{name}` has another type"))?;
        Ok(column.is_valid(self.at).then(|| column.value(self.at)))
    }

    fn count(&self, name: &str) -> Result<u32, String> {
        let number = self.number::<Int32Type>(name)?.ok_or_else(|| format!("`{name}` is null"))?;
        u32::try_from(number).map_err(|_| format!("`{name}` is negative"))
    }

    fn long(&self, name: &str) -> Result<Option<i64>, String> {
        self.number::<Int64Type>(name)
    }

    fn sum(&self, name: &str) -> Result<u64, String> {
        Ok(self.long(name)?.unwrap_or_default() as u64)
    }
}
