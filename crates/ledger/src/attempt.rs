//! Attempts: what is kept of a rollout besides its result.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thresher_core::record::{PatchRecord, PolicyIdentity, SandboxIdentity, TaskIdentity, Timings, Totals};
use thresher_core::trajectory::Step;
use thresher_core::{Fault, RolloutId, RolloutRecord, RunId, ShardId, StopReason};

use crate::{Ledger, LedgerError};

/// A finished trajectory with its patch, stored before grading: all of a [`RolloutRecord`] but the verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ungraded {
    /// Schema version of the writer.
    pub schema_version: i32,
    /// The run.
    pub run_id: RunId,
    /// The shard.
    pub shard_id: ShardId,
    /// The rollout.
    pub rollout_id: RolloutId,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// Random identity of the attempt.
    pub nonce: String,
    /// The task.
    pub task: TaskIdentity,
    /// Sample number.
    pub sample: u32,
    /// Who worked on it and how.
    pub policy: PolicyIdentity,
    /// Where it ran.
    pub sandbox: SandboxIdentity,
    /// Why the agent's part ended.
    pub stop_reason: Option<StopReason>,
    /// The patch.
    pub patch: PatchRecord,
    /// Sums over the steps.
    pub totals: Totals,
    /// Times so far.
    pub timings: Timings,
    /// Version of the runner.
    pub runner_version: String,
    /// The turns.
    pub steps: Vec<Step>,
}

/// What exists of a rollout besides a result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attempts {
    /// Attempts that ended in a fault, in the order of their numbers.
    pub faults: Vec<FaultSeen>,
    /// Whether a finished trajectory waits for grading.
    pub ungraded: bool,
}

impl Attempts {
    /// The number for the next attempt.
    pub fn next_number(&self) -> u32 {
        self.faults.iter().map(|fault| fault.attempt).max().unwrap_or(0) + 1
    }
}

/// A fault of an earlier attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultSeen {
    /// Which attempt it was.
    pub attempt: u32,
    /// The attempt's nonce.
    pub nonce: String,
    /// The fault.
    pub fault: Fault,
}

/// What a listing shows of a rollout's attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttemptCounts {
    /// Attempts that ended in a fault.
    pub faults: u32,
    /// Whether a finished trajectory waits for grading.
    pub ungraded: bool,
}

impl Ledger {
    /// What exists of a rollout besides a result; reads the bodies of its faults.
    pub async fn attempts(&self, shard: &ShardId, rollout: &RolloutId) -> Result<Attempts, LedgerError> {
        todo!("{shard} {rollout}")
    }

    /// The rollouts of which attempts are kept: one listing, no body is read. Rollouts with a result are in it too.
    pub async fn all_attempts(&self) -> Result<BTreeMap<RolloutId, AttemptCounts>, LedgerError> {
        todo!()
    }

    /// Stores a finished trajectory and its patch. Durable when it returns; storing it again changes nothing.
    pub async fn save_ungraded(&self, ungraded: &Ungraded) -> Result<(), LedgerError> {
        todo!("{ungraded:?}")
    }

    /// Reads the trajectory that waits for grading, that of the newest attempt if there are several.
    pub async fn load_ungraded(
        &self,
        shard: &ShardId,
        rollout: &RolloutId,
    ) -> Result<Option<Ungraded>, LedgerError> {
        todo!("{shard} {rollout}")
    }

    /// Stores the record of an attempt that ended in a fault. [`LedgerError::NotFaulted`] for a graded one.
    pub async fn save_fault(&self, record: &RolloutRecord) -> Result<(), LedgerError> {
        todo!("{record:?}")
    }

    /// Stores what a grading run printed, compressed; of a very long one only head and tail. Returns the path
    /// relative to the run's prefix, for [`RolloutRecord::grader_log`].
    pub async fn save_grader_log(
        &self,
        shard: &ShardId,
        rollout: &RolloutId,
        nonce: &str,
        log: &[u8],
    ) -> Result<String, LedgerError> {
        todo!("{shard} {rollout} {nonce} {log:?}")
    }

    /// Reads a grader's log back by the path that [`Self::save_grader_log`] gave.
    pub async fn load_grader_log(&self, path: &str) -> Result<Bytes, LedgerError> {
        todo!("{path}")
    }
}
