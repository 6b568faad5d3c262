//! The plan of a run: which rollouts, in which shards, in which order. A pure function of spec and dataset.

mod durations;
mod layers;
mod order;
pub mod permutation;
mod shards;

use std::collections::HashSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};

pub use self::durations::{Durations, PRIOR_S};
pub use self::layers::{layer_key, repository};
use crate::id::{InstanceId, RolloutId, Sha256Hex, ShardId};

/// Seconds of one slot's work that a shard takes where nobody says otherwise: long enough that a claim costs next to
/// nothing, short enough that a lost worker's shard is soon done again.
pub const SHARD_S: u32 = 20 * 60;

/// What planning needs to know of a task: everything but its weight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskHandle {
    /// The dataset's id.
    pub instance_id: InstanceId,
    /// Hash of the row.
    pub row_sha256: Sha256Hex,
    /// Image reference, the key that shards are grouped by.
    pub image: String,
    /// Row number in the dataset, from 0, before any shuffle.
    pub row: u64,
}

/// A rollout to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedRollout {
    /// Its identity.
    pub rollout_id: RolloutId,
    /// Index into [`Plan::tasks`].
    pub task: u32,
    /// Sample number.
    pub sample: u32,
    /// Seconds that it was expected to take when it was planned.
    pub expected_s: u32,
}

/// The rollouts that one worker claims at a time: of tasks that share one image, and about as much work as
/// [`Sizing::shard_s`] says. Once planned it never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Its identity: derived from the image and its first rollout, which is planned once, so that no other shard of
    /// the run, planned earlier or later, has it.
    pub shard_id: ShardId,
    /// Its rollouts, at least one; sample-major, so that a shard that is cut short has some samples of every task.
    pub rollouts: Vec<PlannedRollout>,
}

impl Shard {
    /// Seconds that one slot was expected to need for all of it when it was planned.
    pub fn expected_s(&self) -> u64 {
        self.rollouts.iter().map(|rollout| u64::from(rollout.expected_s)).sum()
    }
}

/// A row that cannot be run, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRow {
    /// Row number in the dataset, from 0.
    pub row: u64,
    /// Its id, where it has one.
    pub instance_id: Option<InstanceId>,
    /// What is wrong, for a person.
    pub reason: String,
}

/// A run's plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Tasks in the order of selection.
    pub tasks: Vec<TaskHandle>,
    /// Shards in the order of work: images whose rollouts are expected to take longest first, the shards of one image
    /// next to each other, and images that are likely to share layers too.
    pub shards: Vec<Shard>,
    /// Rows that were selected and cannot be run.
    pub refused: Vec<RefusedRow>,
}

/// How large shards are, in time.
#[derive(Clone, Debug, PartialEq)]
pub struct Sizing {
    /// Seconds of one slot's work that a shard takes at most, unless it is a single rollout that takes longer.
    pub shard_s: u32,
    /// What is known of how long rollouts take.
    pub durations: Durations,
}

impl Default for Sizing {
    fn default() -> Self {
        Self { shard_s: SHARD_S, durations: Durations::default() }
    }
}

impl Plan {
    /// Makes the plan where nothing is known of durations.
    pub fn new(
        tasks: Vec<TaskHandle>,
        refused: Vec<RefusedRow>,
        samples: Range<u32>,
        rollout_id: impl Fn(&TaskHandle, u32) -> RolloutId,
    ) -> Self {
        Self::sized(tasks, refused, samples, &Sizing::default(), rollout_id)
    }

    /// Makes the plan: `samples` rollouts of each task, cut into shards, in the order of work.
    pub fn sized(
        tasks: Vec<TaskHandle>,
        refused: Vec<RefusedRow>,
        samples: Range<u32>,
        sizing: &Sizing,
        rollout_id: impl Fn(&TaskHandle, u32) -> RolloutId,
    ) -> Self {
        let mut rollouts = Vec::with_capacity(tasks.len() * samples.len());
        for (task, handle) in tasks.iter().enumerate() {
            let expected_s = sizing.durations.expected_s(&handle.instance_id);
            rollouts.extend(samples.clone().map(|sample| PlannedRollout {
                rollout_id: rollout_id(handle, sample),
                task: task as u32,
                sample,
                expected_s,
            }));
        }
        let shards = shards::cut(&tasks, rollouts, sizing.shard_s);
        Self { tasks, shards, refused }
    }

    /// The rollouts of the plan that are not `known`, in shards of their own: what a run that holds `known` is
    /// extended by. A rollout that the plan names twice is one rollout.
    pub fn shards_beyond<'a>(&'a self, mut known: HashSet<&'a RolloutId>, shard_s: u32) -> Vec<Shard> {
        let rollouts = self.rollouts().filter(|rollout| known.insert(&rollout.rollout_id));
        shards::cut(&self.tasks, rollouts.cloned().collect(), shard_s)
    }

    /// Puts the shards into the order of work: needed after shards were added. The order within an image stays where
    /// durations do not speak against it.
    pub fn sort_shards(&mut self) {
        order::sort(&self.tasks, &mut self.shards);
    }

    /// Every rollout, in the order of work.
    pub fn rollouts(&self) -> impl Iterator<Item = &PlannedRollout> {
        self.shards.iter().flat_map(|shard| &shard.rollouts)
    }

    /// How many rollouts are planned.
    pub fn rollout_count(&self) -> usize {
        self.shards.iter().map(|shard| shard.rollouts.len()).sum()
    }

    /// Seconds that one slot was expected to need for everything when it was planned.
    pub fn expected_s(&self) -> u64 {
        self.shards.iter().map(Shard::expected_s).sum()
    }
}

#[cfg(test)]
mod tests;
