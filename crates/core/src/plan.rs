//! The plan of a run: which rollouts, in which shards, in which order. A pure function of spec and dataset.

pub mod permutation;

use serde::{Deserialize, Serialize};

use crate::id::{InstanceId, RolloutId, Sha256Hex, ShardId};

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
}

/// The rollouts that are scheduled together: all samples of the tasks that share one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Its identity, stable over extensions of the run: derived from the image alone.
    pub shard_id: ShardId,
    /// Its rollouts, sample-major, so that a run that is cut short has some samples of every task.
    pub rollouts: Vec<PlannedRollout>,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Tasks in the order of selection.
    pub tasks: Vec<TaskHandle>,
    /// Shards in the order of work.
    pub shards: Vec<Shard>,
    /// Rows that were selected and cannot be run.
    pub refused: Vec<RefusedRow>,
}

impl Plan {
    /// Makes the plan: groups tasks by image in the order in which images first occur.
    pub fn new(
        tasks: Vec<TaskHandle>,
        refused: Vec<RefusedRow>,
        samples: std::ops::Range<u32>,
        rollout_id: impl Fn(&TaskHandle, u32) -> RolloutId,
    ) -> Self {
        let mut groups: Vec<Vec<u32>> = Vec::new();
        let mut by_image = std::collections::HashMap::new();
        for (index, task) in tasks.iter().enumerate() {
            let group = *by_image.entry(task.image.as_str()).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() - 1
            });
            groups[group].push(index as u32);
        }
        let shards = groups
            .iter()
            .map(|group| Shard {
                shard_id: shard_id(&tasks[group[0] as usize].image),
                rollouts: samples
                    .clone()
                    .flat_map(|sample| group.iter().map(move |&task| (task, sample)))
                    .map(|(task, sample)| PlannedRollout {
                        rollout_id: rollout_id(&tasks[task as usize], sample),
                        task,
                        sample,
                    })
                    .collect(),
            })
            .collect();
        Self { tasks, shards, refused }
    }

    /// How many rollouts are planned.
    pub fn rollout_count(&self) -> usize {
        self.shards.iter().map(|shard| shard.rollouts.len()).sum()
    }
}

fn shard_id(image: &str) -> ShardId {
    ShardId::new(&Sha256Hex::of(image.as_bytes()).as_str()[..16])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{RolloutKey, Sha256Hex};

    fn task(id: &str, image: &str) -> TaskHandle {
        TaskHandle {
            instance_id: InstanceId::new(id),
            row_sha256: Sha256Hex::of(id.as_bytes()),
            image: image.into(),
            row: 0,
        }
    }

    fn id(task: &TaskHandle, sample: u32) -> RolloutId {
        let sha = Sha256Hex::of(b"");
        RolloutId::derive(&RolloutKey {
            instance_id: &task.instance_id,
            row_sha256: &task.row_sha256,
            agent_sha256: &sha,
            model_sha256: &sha,
            sample,
        })
    }

    #[test]
    fn shards_hold_all_samples_of_the_tasks_of_one_image() {
        let tasks = vec![task("a", "x"), task("b", "y"), task("c", "x")];
        let plan = Plan::new(tasks, vec![], 0..2, id);
        let shape: Vec<Vec<(u32, u32)>> = plan
            .shards
            .iter()
            .map(|shard| shard.rollouts.iter().map(|rollout| (rollout.task, rollout.sample)).collect())
            .collect();
        assert_eq!(shape, [vec![(0, 0), (2, 0), (0, 1), (2, 1)], vec![(1, 0), (1, 1)]]);
    }

    #[test]
    fn an_extension_keeps_shard_and_rollout_ids() {
        let tasks = vec![task("a", "x"), task("b", "y")];
        let small = Plan::new(tasks.clone(), vec![], 0..1, id);
        let large = Plan::new(tasks, vec![], 0..3, id);
        assert_eq!(small.shards[1].shard_id, large.shards[1].shard_id);
        assert_eq!(small.shards[0].rollouts[0], large.shards[0].rollouts[0]);
        assert_eq!(large.rollout_count(), 6);
    }
}
