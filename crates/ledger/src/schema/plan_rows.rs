//! Rows of a plan segment: one per rollout, in the order of work.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::Field;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use thresher_core::plan::{PlannedRollout, Shard, TaskHandle};
use thresher_core::{InstanceId, RolloutId, Sha256Hex, ShardId};

use super::array::batch;
use super::column::{Cell, Column, Kind, arrow_schema, required};
use super::writer::properties;

/// Rows that are turned into Arrow, or back, at a time.
const BATCH_ROWS: usize = 16_384;

/// What a segment adds to a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PlanRows {
    /// Tasks by their position in the order of selection, which is what the rollouts name them by. Tasks without
    /// rollouts are missing.
    pub(crate) tasks: BTreeMap<u32, TaskHandle>,
    /// Shards in the order of work.
    pub(crate) shards: Vec<Shard>,
}

/// One row: a planned rollout with its shard and its task.
pub(super) struct PlanRow {
    shard_id: ShardId,
    rollout: PlannedRollout,
    task: TaskHandle,
}

pub(super) const COLUMNS: &[Column<PlanRow>] = &[
    required(
        1,
        "shard_id",
        Kind::Text,
        "The shard; shards follow each other in the order of work.",
        |r, _| Cell::text(r.shard_id.as_str()),
    ),
    required(2, "rollout_id", Kind::Text, "The rollout.", |r, _| Cell::text(r.rollout.rollout_id.as_str())),
    required(3, "sample_index", Kind::Int32, "Sample number.", |r, _| Cell::Int(r.rollout.sample.into())),
    required(4, "task_index", Kind::Int32, "Position of the task in the order of selection.", |r, _| {
        Cell::Int(r.rollout.task.into())
    }),
    required(5, "instance_id", Kind::Text, "The task.", |r, _| Cell::text(r.task.instance_id.as_str())),
    required(6, "row", Kind::Int64, "Row number in the dataset, from 0.", |r, _| Cell::count(r.task.row)),
    required(7, "instance_sha256", Kind::Text, "Hash of the dataset row.", |r, _| {
        Cell::text(r.task.row_sha256.as_str())
    }),
    required(8, "image_ref", Kind::Text, "Image as the dataset names it.", |r, _| Cell::text(&r.task.image)),
    required(
        9,
        "expected_s",
        Kind::Int32,
        "Seconds that the rollout was expected to take when it was planned.",
        |r, _| Cell::Int(r.rollout.expected_s.into()),
    ),
];

/// Encodes rows; the same rows give the same bytes.
pub(crate) fn write_plan_rows(rows: &PlanRows) -> Result<Bytes, ParquetError> {
    let schema = Arc::new(arrow_schema(COLUMNS));
    let properties = properties(COLUMNS, &[], "plan").build();
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties))?;
    let mut all = rows.iter();
    loop {
        let rows: Vec<PlanRow> = all.by_ref().take(BATCH_ROWS).collect();
        if rows.is_empty() {
            return Ok(writer.into_inner()?.into());
        }
        let rows: Vec<(&PlanRow, usize)> = rows.iter().map(|row| (row, 0)).collect();
        writer.write(&batch(Arc::clone(&schema), COLUMNS, &rows)?.0)?;
    }
}

/// Decodes rows.
pub(crate) fn read_plan_rows(bytes: Bytes) -> Result<PlanRows, ParquetError> {
    let mut rows = PlanRows::default();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?.with_batch_size(BATCH_ROWS).build()?;
    for batch in reader {
        rows.add(&Batch::new(&batch?)?);
    }
    Ok(rows)
}

impl PlanRows {
    fn iter(&self) -> impl Iterator<Item = PlanRow> {
        let rollouts = self.shards.iter().flat_map(|shard| shard.rollouts.iter().map(move |of| (shard, of)));
        rollouts.map(|(shard, rollout)| PlanRow {
            shard_id: shard.shard_id.clone(),
            rollout: rollout.clone(),
            task: self.tasks[&rollout.task].clone(),
        })
    }

    /// Adds the rows of a batch. The rows of a shard follow each other.
    fn add(&mut self, batch: &Batch<'_>) {
        for row in 0..batch.rows {
            let shard_id = batch.shard_id.value(row);
            if self.shards.last().is_none_or(|shard| shard.shard_id.as_str() != shard_id) {
                self.shards.push(Shard { shard_id: ShardId::new(shard_id), rollouts: Vec::new() });
            }
            let rollout = batch.rollout(row);
            self.tasks.entry(rollout.task).or_insert_with(|| batch.task(row));
            let shard = self.shards.last_mut().expect("there is one, or it was just pushed");
            shard.rollouts.push(rollout);
        }
    }
}

/// The columns of a batch of rows.
struct Batch<'b> {
    rows: usize,
    shard_id: &'b StringArray,
    rollout_id: &'b StringArray,
    sample: &'b Int32Array,
    task: &'b Int32Array,
    instance_id: &'b StringArray,
    row: &'b Int64Array,
    row_sha256: &'b StringArray,
    image: &'b StringArray,
    expected_s: &'b Int32Array,
}

impl<'b> Batch<'b> {
    fn new(batch: &'b RecordBatch) -> Result<Self, ParquetError> {
        let expected = arrow_schema(COLUMNS);
        let same = |(found, column): (&Arc<Field>, &Arc<Field>)| {
            found.name() == column.name() && found.data_type() == column.data_type()
        };
        let schema = batch.schema();
        if schema.fields().len() != COLUMNS.len() || !schema.fields().iter().zip(expected.fields()).all(same)
        {
            return Err(ParquetError::General("the columns are not those of a plan".to_owned()));
        }
        let text = |at: usize| batch.column(at).as_string::<i32>();
        let int = |at: usize| batch.column(at).as_primitive::<Int32Type>();
        Ok(Self {
            rows: batch.num_rows(),
            shard_id: text(0),
            rollout_id: text(1),
            sample: int(2),
            task: int(3),
            instance_id: text(4),
            row: batch.column(5).as_primitive::<Int64Type>(),
            row_sha256: text(6),
            image: text(7),
            expected_s: int(8),
        })
    }

    fn rollout(&self, row: usize) -> PlannedRollout {
        PlannedRollout {
            rollout_id: RolloutId::new(self.rollout_id.value(row)),
            task: self.task.value(row) as u32,
            sample: self.sample.value(row) as u32,
            expected_s: self.expected_s.value(row) as u32,
        }
    }

    fn task(&self, row: usize) -> TaskHandle {
        TaskHandle {
            instance_id: InstanceId::new(self.instance_id.value(row)),
            row_sha256: Sha256Hex::new(self.row_sha256.value(row)),
            image: self.image.value(row).to_owned(),
            row: self.row.value(row) as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` tasks with three samples each, in two shards; every other position has no task.
    fn rows(count: u32) -> PlanRows {
        let rollout = |at: u32, sample: u32| PlannedRollout {
            rollout_id: RolloutId::new(format!("r{at}-{sample}")),
            task: at * 2,
            sample,
            expected_s: at * 7 + 1,
        };
        let task = |at: u32| TaskHandle {
            instance_id: InstanceId::new(format!("task-{at}")),
            row_sha256: Sha256Hex::of(&at.to_le_bytes()),
            image: format!("image:{}", at % 5),
            row: u64::from(at) << 33,
        };
        let shard =
            |name: String, rollouts: Vec<PlannedRollout>| Shard { shard_id: ShardId::new(name), rollouts };
        PlanRows {
            tasks: (0..count).map(|at| (at * 2, task(at))).collect(),
            shards: (0..count)
                .flat_map(|at| {
                    [
                        shard(format!("s{at}-a"), vec![rollout(at, 0), rollout(at, 1)]),
                        shard(format!("s{at}-b"), vec![rollout(at, 2)]),
                    ]
                })
                .collect(),
        }
    }

    #[test]
    fn rows_come_back_and_bytes_are_always_the_same() {
        for count in [0, 1, 7_000] {
            let rows = rows(count);
            let bytes = write_plan_rows(&rows).unwrap();
            assert_eq!(bytes, write_plan_rows(&rows).unwrap());
            assert_eq!(read_plan_rows(bytes).unwrap(), rows);
        }
    }
}
