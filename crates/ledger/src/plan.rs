//! The plan of a run, as stored: segments that are created once each.
//!
//! A segment is two objects, rows first: the JSON object is the segment's commit. Rows without it are what a
//! killed planner left.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thresher_core::plan::{Plan, RefusedRow, TaskHandle};
use thresher_core::run_spec::identity_difference;
use thresher_core::task::Family;
use thresher_core::{RunId, RunSpec, Sha256Hex};
use thresher_store::{ObjectStore, StoreError};

use crate::codec::{self, PROTOCOL};
use crate::layout::Layout;
use crate::schema::{PlanRows, read_plan_rows, write_plan_rows};
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
    /// All tasks, shards, rollouts and refused rows of all segments; the shards in the order of work over all of them.
    pub plan: Plan,
    /// Number of the last segment that was read.
    pub segment: u32,
}

/// The JSON half of a segment. One without content closes a number whose rows a killed planner left.
#[derive(Debug, Serialize, Deserialize)]
struct SegmentObject {
    run_id: RunId,
    /// Whoever is to work on the run must speak this one. Plans from before there were versions have none.
    #[serde(default)]
    protocol: u32,
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

/// What a plan says without its rows.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanOutline {
    /// The job, as the newest segment has it.
    pub spec: RunSpec,
    /// Shards of all segments.
    pub shards: u64,
    /// Rollouts of all segments.
    pub rollouts: u64,
    /// Number of the last segment.
    pub segment: u32,
}

impl Ledger {
    /// Reads what the plan says without its rows: cheap also for a large one. `None` if there is no plan yet.
    pub async fn plan_outline(&self) -> Result<Option<PlanOutline>, LedgerError> {
        let mut outline: Option<PlanOutline> = None;
        for segment in 1.. {
            let path = self.layout.plan_json(segment)?;
            let Some(bytes) = self.read(&path).await? else { break };
            let object: SegmentObject = codec::parse(path.as_str(), &bytes)?;
            let Some(content) = object.content else { continue };
            let (shards, rollouts) =
                outline.as_ref().map_or((0, 0), |outline| (outline.shards, outline.rollouts));
            outline = Some(PlanOutline {
                spec: content.spec,
                shards: shards + content.counts.shards,
                rollouts: rollouts + content.counts.rollouts,
                segment,
            });
        }
        Ok(outline)
    }

    /// Reads the plan (protocol: P1); `None` if there is none yet.
    pub async fn plan(&self) -> Result<Option<StoredPlan>, LedgerError> {
        Ok(self.read_segments(Segments::default()).await?.union)
    }

    /// Reads the segments that came after `known`, and gives the union (protocol: P6); `None`, for one request, if
    /// there are none.
    pub async fn plan_after(&self, known: &StoredPlan) -> Result<Option<StoredPlan>, LedgerError> {
        let next = self.layout.plan_json(known.segment + 1)?;
        if self.read(&next).await?.is_none() {
            return Ok(None);
        }
        let segments = Segments { union: Some(known.clone()), last: known.segment, unsorted: false };
        Ok(self.read_segments(segments).await?.union)
    }

    /// Stores what `plan` adds to the run (protocol: P1 to P5): the whole plan the first time, later the rollouts that
    /// no earlier segment holds, in shards of their own, or nothing. Returns the union.
    ///
    /// The same arguments on the same prefix write the same bytes. [`LedgerError::DifferentJob`] if `spec` or
    /// `dataset` is not the one that the run was started with.
    pub async fn extend_plan(
        &self,
        spec: &RunSpec,
        dataset: &DatasetIdentity,
        plan: &Plan,
    ) -> Result<StoredPlan, LedgerError> {
        let mut segments = Segments::default();
        loop {
            segments = self.read_segments(segments).await?;
            if let Some(stored) = &segments.union {
                refuse_different(stored, spec, dataset)?;
            }
            let rows = added_rows(segments.union.as_ref().map(|stored| &stored.plan), plan, spec.shard_s);
            if rows.shards.is_empty() && segments.union.is_some() {
                break;
            }
            let (spec, dataset, refused) = (spec.clone(), dataset.clone(), plan.refused.clone());
            let content =
                |rows_sha256| SegmentContent { spec, dataset, counts: counts(&rows), rows_sha256, refused };
            if let Some(content) = self.write_segment(segments.last + 1, &rows, content).await? {
                segments.add(content, rows);
                break;
            }
        }
        Ok(segments.sorted().union.expect("a segment was there, or was added"))
    }

    /// Tries to create a segment, and gives its content if it was this call that did. Otherwise another planner was
    /// first, or the answer got lost: the store knows.
    async fn write_segment(
        &self,
        segment: u32,
        rows: &PlanRows,
        content: impl FnOnce(Sha256Hex) -> SegmentContent,
    ) -> Result<Option<SegmentContent>, LedgerError> {
        let bytes = write_plan_rows(rows)?;
        let rows_path = self.layout.plan_rows(segment)?;
        let ours = self.create(&rows_path, bytes.clone()).await?
            || self.read(&rows_path).await?.is_some_and(|found| found == bytes);
        let content = ours.then(|| content(Sha256Hex::of(&bytes)));
        let object = SegmentObject { run_id: self.run.clone(), protocol: PROTOCOL, segment, content };
        let created = self.create(&self.layout.plan_json(segment)?, codec::plain(&object)).await?;
        Ok(object.content.filter(|_| created))
    }

    /// Reads the segments after those that `segments` holds.
    async fn read_segments(&self, mut segments: Segments) -> Result<Segments, LedgerError> {
        loop {
            let number = segments.last + 1;
            let path = self.layout.plan_json(number)?;
            let Some(bytes) = self.read(&path).await? else { return Ok(segments.sorted()) };
            let object = parse_segment(path.as_str(), &bytes)?;
            if object.run_id != self.run {
                return Err(LedgerError::WrongRun { expected: self.run.clone(), found: object.run_id });
            }
            match object.content {
                Some(content) => {
                    let rows = self.read_rows(number, &content.rows_sha256).await?;
                    segments.add(content, rows);
                }
                None => segments.pass(),
            }
        }
    }

    async fn read_rows(&self, segment: u32, sha256: &Sha256Hex) -> Result<PlanRows, LedgerError> {
        let path = self.layout.plan_rows(segment)?;
        let bytes: Bytes = self.store.get(&path).await?.bytes;
        if Sha256Hex::of(&bytes) != *sha256 {
            return Err(codec::damaged(path.as_str(), "its hash is not the one that the plan names"));
        }
        read_plan_rows(bytes).map_err(|error| codec::damaged(path.as_str(), error))
    }
}

/// Decodes the JSON half of a segment; [`LedgerError::OtherProtocol`] if this program cannot work on the run.
fn parse_segment(path: &str, bytes: &[u8]) -> Result<SegmentObject, LedgerError> {
    let object: SegmentObject = codec::parse(path, bytes)?;
    if object.protocol != PROTOCOL {
        let (path, found) = (path.to_owned(), object.protocol);
        return Err(LedgerError::OtherProtocol { path, found, known: PROTOCOL });
    }
    Ok(object)
}

/// Reads the id of the run that is stored under `layout`'s prefix.
pub(crate) async fn stored_run(store: &dyn ObjectStore, layout: &Layout) -> Result<RunId, LedgerError> {
    let path = layout.plan_json(1)?;
    match store.get(&path).await {
        Ok(object) => Ok(parse_segment(path.as_str(), &object.bytes)?.run_id),
        Err(StoreError::NotFound { .. }) => Err(LedgerError::NoRun { place: layout.prefix().to_owned() }),
        Err(error) => Err(error.into()),
    }
}

/// The segments that were read so far.
#[derive(Default)]
struct Segments {
    union: Option<StoredPlan>,
    /// Number of the last one, 0 if there is none.
    last: u32,
    /// Whether shards were added behind those that are in the order of work.
    unsorted: bool,
}

impl Segments {
    /// Goes on behind a segment without content.
    fn pass(&mut self) {
        self.last += 1;
        if let Some(stored) = &mut self.union {
            stored.segment = self.last;
        }
    }

    fn add(&mut self, content: SegmentContent, rows: PlanRows) {
        let SegmentContent { spec, dataset, refused, counts: _, rows_sha256: _ } = content;
        self.last += 1;
        let mut plan = self.union.take().map(|stored| stored.plan).unwrap_or_default();
        extend(&mut plan, rows);
        for row in refused {
            if !plan.refused.contains(&row) {
                plan.refused.push(row);
            }
        }
        self.union = Some(StoredPlan { spec, dataset, plan, segment: self.last });
        self.unsorted = true;
    }

    /// Puts the shards of all segments into the order of work: once, after many.
    fn sorted(mut self) -> Self {
        if let Some(stored) = self.union.as_mut().filter(|_| self.unsorted) {
            stored.plan.sort_shards();
        }
        Self { unsorted: false, ..self }
    }
}

/// Adds a segment's rollouts to the plan. Tasks that are known keep their places, and shards all that is theirs.
fn extend(plan: &mut Plan, rows: PlanRows) {
    let PlanRows { tasks, shards } = rows;
    let key = |task: &TaskHandle| (task.instance_id.clone(), task.row_sha256.clone());
    let known: HashMap<_, u32> = plan.tasks.iter().map(key).zip(0..).collect();
    let mut places = HashMap::new();
    for (position, task) in tasks {
        let place = known.get(&key(&task)).copied();
        places.insert(position, place.unwrap_or(plan.tasks.len() as u32));
        if place.is_none() {
            plan.tasks.push(task);
        }
    }
    for mut shard in shards {
        shard.rollouts.iter_mut().for_each(|rollout| rollout.task = places[&rollout.task]);
        plan.shards.push(shard);
    }
}

/// What `plan` adds to what is `known`.
fn added_rows(known: Option<&Plan>, plan: &Plan, shard_s: u32) -> PlanRows {
    let known = known.iter().flat_map(|known| known.rollouts()).map(|rollout| &rollout.rollout_id);
    let shards = plan.shards_beyond(known.collect(), shard_s);
    let used = shards.iter().flat_map(|shard| &shard.rollouts).map(|rollout| rollout.task);
    let used: BTreeSet<u32> = used.collect();
    let tasks = used.into_iter().map(|task| (task, plan.tasks[task as usize].clone())).collect();
    PlanRows { tasks, shards }
}

fn counts(rows: &PlanRows) -> SegmentCounts {
    let rollouts: usize = rows.shards.iter().map(|shard| shard.rollouts.len()).sum();
    SegmentCounts {
        tasks: rows.tasks.len() as u64,
        shards: rows.shards.len() as u64,
        rollouts: rollouts as u64,
    }
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
