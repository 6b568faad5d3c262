//! The job of a case: tasks made from numbers.

use std::ops::Range;

use thresher_core::id::RolloutKey;
use thresher_core::plan::{Plan, TaskHandle};
use thresher_core::task::Family;
use thresher_core::{InstanceId, RolloutId, RunSpec, Sha256Hex};
use thresher_ledger::DatasetIdentity;

/// Size of a case's job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Tasks.
    pub tasks: u32,
    /// Images, over which the tasks are spread: as many shards.
    pub images: u32,
    /// Rollouts per task.
    pub samples: u32,
}

impl Size {
    /// The same with so many rollouts per task.
    pub fn with_samples(self, samples: u32) -> Self {
        Self { samples, ..self }
    }
}

/// The job as a spec.
pub(crate) fn spec(size: Size) -> RunSpec {
    let json = format!(r#"{{"dataset": {{"path": "tasks.jsonl"}}, "samples": {}}}"#, size.samples);
    serde_json::from_str(&json).expect("a spec of required keys alone is whole")
}

/// The dataset of every case.
pub(crate) fn dataset() -> DatasetIdentity {
    DatasetIdentity {
        name: "tasks".to_owned(),
        family: Family::SweBench,
        fingerprint: Sha256Hex::of(b"dataset"),
        rows: 1_000,
    }
}

/// The job's rollouts. The images have unequal numbers of tasks.
pub(crate) fn plan(size: Size) -> Plan {
    let tasks = (0..size.tasks).map(|at| TaskHandle {
        instance_id: InstanceId::new(format!("task-{at:03}")),
        row_sha256: Sha256Hex::of(&at.to_le_bytes()),
        // Two of three tasks fall evenly on all images, the third on the first one.
        image: format!("image-{}", if at % 3 == 2 { 0 } else { at % size.images }),
        row: at.into(),
    });
    let samples: Range<u32> = 0..size.samples;
    Plan::new(tasks.collect(), Vec::new(), samples, rollout_id)
}

fn rollout_id(task: &TaskHandle, sample: u32) -> RolloutId {
    let fixed = Sha256Hex::of(b"fixed");
    RolloutId::derive(&RolloutKey {
        instance_id: &task.instance_id,
        row_sha256: &task.row_sha256,
        agent_sha256: &fixed,
        model_sha256: &fixed,
        sample,
    })
}
