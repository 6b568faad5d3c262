//! A rollout's row without its text, for tables of results.

use serde::Serialize;
use thresher_core::record::{RolloutRecord, Timings, Totals};
use thresher_core::{InstanceId, Outcome, RolloutId, ShardId, StopReason};

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
        todo!("{record:?}")
    }
}
