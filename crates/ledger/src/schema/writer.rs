//! Records to Parquet files.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use thresher_core::record::SCHEMA_VERSION;
use thresher_core::{RolloutRecord, RunId};

use super::Table;
use super::array::batch;
use super::column::{Child, Column, Kind};
use crate::codec::ZSTD_LEVEL;

/// Raw bytes after which a row group is closed. Readers hold a whole one in memory, and some cannot read more
/// than 2 GiB of nested text in one; parquet's own limits count encoded bytes, which is no help against either.
const ROW_GROUP_RAW_BYTES: u64 = 64 << 20;

/// Rows and raw bytes that are turned into Arrow at a time.
const BATCH_ROWS: usize = 512;
const BATCH_RAW_BYTES: u64 = 4 << 20;

/// A finished file.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    pub(crate) rows: u64,
}

/// Writes the rows of one table from records.
pub(crate) struct TableWriter {
    table: Table,
    writer: ArrowWriter<Vec<u8>>,
    waiting: Vec<(Arc<RolloutRecord>, usize)>,
    waiting_bytes: u64,
    group_bytes: u64,
    rows: u64,
}

impl TableWriter {
    pub(crate) fn new(table: Table, run: &RunId) -> Result<Self, ParquetError> {
        let properties = properties(table.columns(), table.sorted_by(), table.name())
            .set_key_value_metadata(Some(file_metadata(table, run)))
            .build();
        let writer = ArrowWriter::try_new(Vec::new(), table.schema(), Some(properties))?;
        Ok(Self { table, writer, waiting: Vec::new(), waiting_bytes: 0, group_bytes: 0, rows: 0 })
    }

    /// Appends the record's rows; `raw_bytes` is about what the whole record takes unencoded.
    pub(crate) fn append(&mut self, record: &Arc<RolloutRecord>, raw_bytes: u64) -> Result<(), ParquetError> {
        let rows = self.table.rows_of(record);
        for row in 0..rows {
            self.waiting.push((Arc::clone(record), row));
            self.waiting_bytes += raw_bytes / rows as u64;
            if self.waiting.len() >= BATCH_ROWS || self.waiting_bytes >= BATCH_RAW_BYTES {
                self.write_waiting()?;
            }
        }
        Ok(())
    }

    fn write_waiting(&mut self) -> Result<(), ParquetError> {
        let waiting = std::mem::take(&mut self.waiting);
        let rows: Vec<(&RolloutRecord, usize)> =
            waiting.iter().map(|(record, row)| (&**record, *row)).collect();
        let (batch, raw_bytes) = batch(self.table.schema(), self.table.columns(), &rows)?;
        self.writer.write(&batch)?;
        self.rows += rows.len() as u64;
        self.group_bytes += raw_bytes;
        self.waiting_bytes = 0;
        if self.group_bytes >= ROW_GROUP_RAW_BYTES {
            self.writer.flush()?;
            self.group_bytes = 0;
        }
        Ok(())
    }

    /// Ends the file; `None` if it has no rows: readers stumble over files without any.
    pub(crate) fn finish(mut self) -> Result<Option<Encoded>, ParquetError> {
        if !self.waiting.is_empty() {
            self.write_waiting()?;
        }
        if self.rows == 0 {
            return Ok(None);
        }
        Ok(Some(Encoded { rows: self.rows, bytes: self.writer.into_inner()? }))
    }
}

fn file_metadata(table: Table, run: &RunId) -> Vec<KeyValue> {
    let entry = |key: &str, value: String| KeyValue::new(format!("thresher.{key}"), value);
    vec![
        entry("table", table.name().to_owned()),
        entry("schema_version", SCHEMA_VERSION.to_string()),
        entry("run_id", run.to_string()),
    ]
}

/// How the columns are stored, by their kinds.
pub(super) fn properties<R>(
    columns: &[Column<R>],
    sorted_by: &[&str],
    table: &str,
) -> WriterPropertiesBuilder {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).expect("the level is one of zstd's");
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_created_by(format!("thresher {}", env!("CARGO_PKG_VERSION")))
        .set_max_row_group_row_count(None)
        .set_sorting_columns(Some(sorting_columns(columns, sorted_by)));
    for column in columns {
        builder = store(builder, &[column.name], column.kind);
        let sorted = sorted_by.first() == Some(&column.name);
        if column.name == "rollout_id" && !sorted && table != "plan" {
            // Looked up by id, and in no order that page statistics could use.
            builder = builder.set_column_bloom_filter_enabled(path(&[column.name]), true);
        }
    }
    builder
}

fn store(builder: WriterPropertiesBuilder, at: &[&str], kind: Kind) -> WriterPropertiesBuilder {
    match kind {
        Kind::Wide | Kind::Binary => builder
            .set_column_dictionary_enabled(path(at), false)
            .set_column_statistics_enabled(path(at), EnabledStatistics::None),
        Kind::Repeated => builder.set_column_statistics_enabled(path(at), EnabledStatistics::None),
        Kind::Structs(_, children) => children.iter().fold(builder, |builder, Child { name, kind, .. }| {
            store(builder, &[at, &["list", "element", name]].concat(), *kind)
        }),
        Kind::Text
        | Kind::Texts(_)
        | Kind::Int32
        | Kind::Int64
        | Kind::Float32
        | Kind::Float64
        | Kind::Bool
        | Kind::Timestamp => builder,
    }
}

fn path(parts: &[&str]) -> ColumnPath {
    ColumnPath::new(parts.iter().map(|part| (*part).to_owned()).collect())
}

/// Parquet numbers leaf columns, and a list of structs has one per field.
fn sorting_columns<R>(columns: &[Column<R>], sorted_by: &[&str]) -> Vec<SortingColumn> {
    let schema = super::column::arrow_schema(columns);
    let ascending = |name: &&str| SortingColumn {
        column_idx: first_leaf(&schema, name),
        descending: false,
        nulls_first: false,
    };
    sorted_by.iter().map(ascending).collect()
}

fn first_leaf(schema: &Schema, name: &str) -> i32 {
    let before = schema.fields().iter().take_while(|field| field.name() != name);
    before.map(|field| leaves(field)).sum::<usize>() as i32
}

fn leaves(field: &Field) -> usize {
    match field.data_type() {
        DataType::List(element) => leaves(element),
        DataType::Struct(fields) => fields.iter().map(|field| leaves(field)).sum(),
        _ => 1,
    }
}

#[cfg(test)]
mod tests;
