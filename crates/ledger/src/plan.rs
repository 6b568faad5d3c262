//! The plan of a run, as stored: segments that are created once each.
//!
//! A segment is two objects, rows first: the JSON object is the segment's commit. Rows without it are what a
//! killed planner left.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thresher_core::plan::{Plan, PlannedRollout, RefusedRow, Shard, TaskHandle};
use thresher_core::run_spec::identity_difference;
use thresher_core::task::Family;
use thresher_core::{InstanceId, RolloutId, RunId, RunSpec, Sha256Hex, ShardId};
use thresher_store::{ObjectStore, StoreError};

use crate::codec;
use crate::layout::Layout;
use crate::schema::{PlanRow, read_plan_rows, write_plan_rows};
use crate::{Ledger, LedgerError};

/// Which dataset a plan was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetIdentity {
    /// Dataset name, as records carry it.
    pub name: String,
    /// Row family.
    pub family: Family,
    /// Fingerprint of the dataset's files.
    pub fingerprint: Sha256Hex,
    /// Rows in the dataset, before any selection.
    pub rows: u64,
}

/// The union of a run's plan segments.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPlan {
    /// The job, as the newest segment has it.
    pub spec: RunSpec,
    /// The dataset.
    pub dataset: DatasetIdentity,
    /// All tasks, shards, rollouts and refused rows of all segments.
    pub plan: Plan,
    /// Number of the newest segment.
    pub segment: u32,
}

/// The JSON half of a segment. One without content closes a number whose rows a killed planner left.
#[derive(Debug, Serialize, Deserialize)]
struct SegmentObject {
    run_id: RunId,
    segment: u32,
    content: Option<SegmentContent>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SegmentContent {
    spec: RunSpec,
    dataset: DatasetIdentity,
    counts: SegmentCounts,
    rows_sha256: Sha256Hex,
    refused: Vec<RefusedRow>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SegmentCounts {
    tasks: u64,
    shards: u64,
    rollouts: u64,
}

impl Ledger {
    /// Reads the plan; `None` if there is none yet.
    pub async fn plan(&self) -> Result<Option<StoredPlan>, LedgerError> {
        Ok(self.read_segments().await?.union)
    }

    /// Stores what `plan` adds to the run: the whole plan the first time, later the rollouts that no earlier
    /// segment holds, or nothing. Returns the union.
    ///
    /// The same arguments on the same prefix write the same bytes. [`LedgerError::DifferentJob`] if `spec` or
    /// `dataset` is not the one that the run was started with.
    pub async fn extend_plan(
        &self,
        spec: &RunSpec,
        dataset: &DatasetIdentity,
        plan: &Plan,
    ) -> Result<StoredPlan, LedgerError> {
        loop {
            let Segments { union, last } = self.read_segments().await?;
            if let Some(stored) = &union {
                refuse_different(stored, spec, dataset)?;
            }
            let rows = added_rows(union.as_ref().map(|stored| &stored.plan), plan);
            if let Some(stored) = union
                && rows.is_empty()
            {
                return Ok(stored);
            }
            self.write_segment(last + 1, spec, dataset, plan, &rows).await?;
        }
    }

    /// Tries to create a segment. Whether it won is for the caller to read: another planner may have been first.
    async fn write_segment(
        &self,
        segment: u32,
        spec: &RunSpec,
        dataset: &DatasetIdentity,
        plan: &Plan,
        rows: &[PlanRow],
    ) -> Result<(), LedgerError> {
        let bytes = write_plan_rows(rows)?;
        let rows_path = self.layout.plan_rows(segment)?;
        let ours = self.create(&rows_path, bytes.clone()).await?
            || self.read(&rows_path).await?.is_some_and(|found| found == bytes);
        let content = ours.then(|| SegmentContent {
            spec: spec.clone(),
            dataset: dataset.clone(),
            counts: counts(rows),
            rows_sha256: Sha256Hex::of(&bytes),
            refused: plan.refused.clone(),
        });
        let object = SegmentObject { run_id: self.run.clone(), segment, content };
        self.create(&self.layout.plan_json(segment)?, codec::plain(&object)).await?;
        Ok(())
    }

    async fn read_segments(&self) -> Result<Segments, LedgerError> {
        let mut segments = Segments { union: None, last: 0 };
        loop {
            let number = segments.last + 1;
            let path = self.layout.plan_json(number)?;
            let Some(bytes) = self.read(&path).await? else { return Ok(segments) };
            let object: SegmentObject = codec::parse(path.as_str(), &bytes)?;
            if object.run_id != self.run {
                return Err(LedgerError::WrongRun { expected: self.run.clone(), found: object.run_id });
            }
            segments.last = number;
            if let Some(content) = object.content {
                let rows = self.read_rows(number, &content.rows_sha256).await?;
                segments.add(content, rows);
            }
        }
    }

    async fn read_rows(&self, segment: u32, sha256: &Sha256Hex) -> Result<Vec<PlanRow>, LedgerError> {
        let path = self.layout.plan_rows(segment)?;
        let bytes: Bytes = self.store.get(&path).await?.bytes;
        if Sha256Hex::of(&bytes) != *sha256 {
            return Err(codec::damaged(path.as_str(), "its hash is not the one that the plan names"));
        }
        read_plan_rows(bytes).map_err(|error| codec::damaged(path.as_str(), error))
    }
}

/// Reads the id of the run that is stored under `layout`'s prefix.
pub(crate) async fn stored_run(store: &dyn ObjectStore, layout: &Layout) -> Result<RunId, LedgerError> {
    let path = layout.plan_json(1)?;
    match store.get(&path).await {
        Ok(object) => Ok(codec::parse::<SegmentObject>(path.as_str(), &object.bytes)?.run_id),
        Err(StoreError::NotFound { .. }) => Err(LedgerError::NoRun { place: layout.prefix().to_owned() }),
        Err(error) => Err(error.into()),
    }
}

struct Segments {
    union: Option<StoredPlan>,
    /// Number of the last segment that exists, 0 if none does.
    last: u32,
}

impl Segments {
    fn add(&mut self, content: SegmentContent, rows: Vec<PlanRow>) {
        let SegmentContent { spec, dataset, refused, counts: _, rows_sha256: _ } = content;
        let mut plan = self.union.take().map_or_else(
            || Plan { tasks: Vec::new(), shards: Vec::new(), refused: Vec::new() },
            |stored| stored.plan,
        );
        extend(&mut plan, rows);
        for row in refused {
            if !plan.refused.contains(&row) {
                plan.refused.push(row);
            }
        }
        self.union = Some(StoredPlan { spec, dataset, plan, segment: self.last });
    }
}

/// Adds a segment's rollouts to the plan. Tasks and shards that are known keep their places.
fn extend(plan: &mut Plan, rows: Vec<PlanRow>) {
    let mut tasks: HashMap<(InstanceId, Sha256Hex), u32> = HashMap::new();
    for (at, task) in plan.tasks.iter().enumerate() {
        tasks.insert((task.instance_id.clone(), task.row_sha256.clone()), at as u32);
    }
    let mut shards: HashMap<ShardId, usize> =
        plan.shards.iter().enumerate().map(|(at, shard)| (shard.shard_id.clone(), at)).collect();
    let mut selected: Vec<&PlanRow> = rows.iter().collect();
    selected.sort_by_key(|row| row.task);
    for row in selected {
        tasks.entry(task_key(row)).or_insert_with(|| {
            plan.tasks.push(handle(row));
            plan.tasks.len() as u32 - 1
        });
    }
    for row in &rows {
        let task = tasks[&task_key(row)];
        let shard = *shards.entry(ShardId::new(&row.shard_id)).or_insert_with_key(|shard_id| {
            plan.shards.push(Shard { shard_id: shard_id.clone(), rollouts: Vec::new() });
            plan.shards.len() - 1
        });
        let rollout_id = RolloutId::new(&row.rollout_id);
        plan.shards[shard].rollouts.push(PlannedRollout { rollout_id, task, sample: row.sample });
    }
}

fn task_key(row: &PlanRow) -> (InstanceId, Sha256Hex) {
    (InstanceId::new(&row.instance_id), Sha256Hex::new(&row.row_sha256))
}

fn handle(row: &PlanRow) -> TaskHandle {
    let (instance_id, row_sha256) = task_key(row);
    TaskHandle { instance_id, row_sha256, image: row.image.clone(), row: row.row }
}

/// The rows of `plan` whose rollouts `known` does not have, in the order of work. A rollout that the plan names
/// twice (a dataset may hold a row twice) is one rollout.
fn added_rows(known: Option<&Plan>, plan: &Plan) -> Vec<PlanRow> {
    let known = known.iter().flat_map(|known| &known.shards).flat_map(|shard| &shard.rollouts);
    let mut seen: HashSet<&RolloutId> = known.map(|rollout| &rollout.rollout_id).collect();
    let rollouts = plan.shards.iter().flat_map(|shard| shard.rollouts.iter().map(move |of| (shard, of)));
    let added = rollouts.filter(|(_, rollout)| seen.insert(&rollout.rollout_id));
    added.map(|(shard, rollout)| plan_row(plan, shard, rollout)).collect()
}

fn plan_row(plan: &Plan, shard: &Shard, rollout: &PlannedRollout) -> PlanRow {
    let task = &plan.tasks[rollout.task as usize];
    PlanRow {
        shard_id: shard.shard_id.to_string(),
        rollout_id: rollout.rollout_id.to_string(),
        sample: rollout.sample,
        task: rollout.task,
        instance_id: task.instance_id.to_string(),
        row: task.row,
        row_sha256: task.row_sha256.to_string(),
        image: task.image.clone(),
    }
}

fn counts(rows: &[PlanRow]) -> SegmentCounts {
    let tasks: HashSet<u32> = rows.iter().map(|row| row.task).collect();
    let shards: HashSet<&str> = rows.iter().map(|row| row.shard_id.as_str()).collect();
    SegmentCounts { tasks: tasks.len() as u64, shards: shards.len() as u64, rollouts: rows.len() as u64 }
}

fn refuse_different(
    stored: &StoredPlan,
    spec: &RunSpec,
    dataset: &DatasetIdentity,
) -> Result<(), LedgerError> {
    let mut differences = identity_difference(&stored.spec, spec);
    let (old, new) = (&stored.dataset, dataset);
    let mut compare = |what: &str, old: &dyn std::fmt::Display, new: &dyn std::fmt::Display| {
        if old.to_string() != new.to_string() {
            differences.push(format!("{what}: {old} -> {new}"));
        }
    };
    compare("dataset.name", &old.name, &new.name);
    compare("dataset.family", &old.family, &new.family);
    compare("the dataset's fingerprint", &old.fingerprint, &new.fingerprint);
    if differences.is_empty() { Ok(()) } else { Err(LedgerError::DifferentJob { differences }) }
}
