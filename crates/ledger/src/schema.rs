//! Every column of every table, in one place: name, field id, type, how it is stored, where its value comes from.
//!
//! `SCHEMA.md` beside the crate's manifest documents the columns for readers; it is generated from here, and a
//! test keeps the two the same.
//!
//! Rules: a field id is given once and never used again, also for nested fields; list elements are named
//! `element`; no unsigned integers, no maps, no Arrow-only types; timestamps are microseconds in UTC; a column
//! that is added goes to the end of the scalars with a new id and raises `SCHEMA_VERSION`.

mod array;
mod column;
mod document;
mod messages;
mod plan_rows;
mod rollouts;
mod steps;
mod test_results;
mod words;
mod writer;

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::errors::ParquetError;
use thresher_core::RolloutRecord;

use self::column::{Column, arrow_schema};
pub use self::document::document;
pub(crate) use self::plan_rows::{PlanRows, read_plan_rows, write_plan_rows};
pub(crate) use self::writer::{Encoded, TableWriter};

/// The tables of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// One row per rollout that has a verdict, or has only faults at the time of sealing.
    Rollouts,
    /// One row per step of those rollouts.
    Steps,
    /// One row per test of a verdict.
    TestResults,
    /// One row per attempt that ended in a fault, with the columns of `rollouts`.
    Faults,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 4] = [Self::Rollouts, Self::Steps, Self::TestResults, Self::Faults];

    /// The table's name: in paths, in the manifest, and in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rollouts => "rollouts",
            Self::Steps => "steps",
            Self::TestResults => "test_results",
            Self::Faults => "faults",
        }
    }

    /// The table of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// The table's Arrow schema, with a Parquet field id on every level.
    pub fn schema(self) -> SchemaRef {
        Arc::new(arrow_schema(self.columns()))
    }

    pub(crate) fn columns(self) -> &'static [Column<RolloutRecord>] {
        match self {
            Self::Rollouts | Self::Faults => rollouts::COLUMNS,
            Self::Steps => steps::COLUMNS,
            Self::TestResults => test_results::COLUMNS,
        }
    }

    /// How many rows a record has in the table.
    pub(crate) fn rows_of(self, record: &RolloutRecord) -> usize {
        match self {
            Self::Rollouts | Self::Faults => 1,
            Self::Steps => record.steps.len(),
            Self::TestResults => record.tests.len(),
        }
    }

    /// The columns that rows are sorted by within a file.
    pub(crate) fn sorted_by(self) -> &'static [&'static str] {
        match self {
            Self::Rollouts => &["instance_id", "rollout_id"],
            Self::Faults => &["instance_id", "rollout_id", "execution_no"],
            Self::Steps => &["rollout_id", "step_index"],
            Self::TestResults => &["instance_id", "rollout_id"],
        }
    }
}

/// A record's rows in `table`; `None` if it has none there.
pub(crate) fn table_batch(table: Table, record: &RolloutRecord) -> Result<Option<RecordBatch>, ParquetError> {
    let rows: Vec<_> = (0..table.rows_of(record)).map(|row| (record, row)).collect();
    if rows.is_empty() {
        return Ok(None);
    }
    Ok(Some(array::batch(table.schema(), table.columns(), &rows)?.0))
}

#[cfg(test)]
mod tests;
