//! Rows of a plan segment: one per rollout, in the order of work.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_schema::Field;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;

use super::array::batch;
use super::column::{Cell, Column, Kind, arrow_schema, required};
use super::writer::properties;

/// A planned rollout with its task, as a plan segment holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlanRow {
    pub(crate) shard_id: String,
    pub(crate) rollout_id: String,
    pub(crate) sample: u32,
    /// Position of the task among the segment's tasks, in the order of selection.
    pub(crate) task: u32,
    pub(crate) instance_id: String,
    pub(crate) row: u64,
    pub(crate) row_sha256: String,
    pub(crate) image: String,
}

pub(super) const COLUMNS: &[Column<PlanRow>] = &[
    required(
        1,
        "shard_id",
        Kind::Text,
        "The shard; shards follow each other in the order of work.",
        |r, _| Cell::text(&r.shard_id),
    ),
    required(2, "rollout_id", Kind::Text, "The rollout.", |r, _| Cell::text(&r.rollout_id)),
    required(3, "sample_index", Kind::Int32, "Sample number.", |r, _| Cell::Int(r.sample.into())),
    required(4, "task_index", Kind::Int32, "Position of the task in the order of selection.", |r, _| {
        Cell::Int(r.task.into())
    }),
    required(5, "instance_id", Kind::Text, "The task.", |r, _| Cell::text(&r.instance_id)),
    required(6, "row", Kind::Int64, "Row number in the dataset, from 0.", |r, _| Cell::count(r.row)),
    required(7, "instance_sha256", Kind::Text, "Hash of the dataset row.", |r, _| Cell::text(&r.row_sha256)),
    required(8, "image_ref", Kind::Text, "Image as the dataset names it.", |r, _| Cell::text(&r.image)),
];

/// Encodes rows; the same rows give the same bytes.
pub(crate) fn write_plan_rows(rows: &[PlanRow]) -> Result<Bytes, ParquetError> {
    let schema = Arc::new(arrow_schema(COLUMNS));
    let properties = properties(COLUMNS, &[], "plan").build();
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties))?;
    for rows in rows.chunks(16_384) {
        let rows: Vec<(&PlanRow, usize)> = rows.iter().map(|row| (row, 0)).collect();
        writer.write(&batch(Arc::clone(&schema), COLUMNS, &rows)?.0)?;
    }
    Ok(writer.into_inner()?.into())
}

/// Decodes rows.
pub(crate) fn read_plan_rows(bytes: Bytes) -> Result<Vec<PlanRow>, ParquetError> {
    let mut rows = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()? {
        rows.extend(rows_of(&batch?)?);
    }
    Ok(rows)
}

fn rows_of(batch: &RecordBatch) -> Result<Vec<PlanRow>, ParquetError> {
    let expected = arrow_schema(COLUMNS);
    let same = |(found, column): (&Arc<Field>, &Arc<Field>)| {
        found.name() == column.name() && found.data_type() == column.data_type()
    };
    let schema = batch.schema();
    if schema.fields().len() != COLUMNS.len() || !schema.fields().iter().zip(expected.fields()).all(same) {
        return Err(ParquetError::General("the columns are not those of a plan".to_owned()));
    }
    let text = |at: usize, row: usize| batch.column(at).as_string::<i32>().value(row).to_owned();
    let int = |at: usize, row: usize| batch.column(at).as_primitive::<Int32Type>().value(row) as u32;
    let rows = (0..batch.num_rows()).map(|row| PlanRow {
        shard_id: text(0, row),
        rollout_id: text(1, row),
        sample: int(2, row),
        task: int(3, row),
        instance_id: text(4, row),
        row: batch.column(5).as_primitive::<Int64Type>().value(row) as u64,
        row_sha256: text(6, row),
        image: text(7, row),
    });
    Ok(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_and_bytes_are_always_the_same() {
        let row = |at: u32| PlanRow {
            shard_id: format!("s{}", at / 3),
            rollout_id: format!("r{at}"),
            sample: at % 3,
            task: at / 3,
            instance_id: format!("task-{}", at / 3),
            row: u64::from(at) << 33,
            row_sha256: "0".repeat(64),
            image: "image:1".into(),
        };
        for count in [0, 1, 20_000] {
            let rows: Vec<PlanRow> = (0..count).map(row).collect();
            let bytes = write_plan_rows(&rows).unwrap();
            assert_eq!(bytes, write_plan_rows(&rows).unwrap());
            assert_eq!(read_plan_rows(bytes).unwrap(), rows);
        }
    }
}
