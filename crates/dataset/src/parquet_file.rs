//! Rows in Parquet: only the wanted columns are read, and of one row only its pages.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::errors::ParquetError;
use serde_json::{Map, Value};

use crate::cell;
use crate::error::DatasetError;
use crate::source::Columns;

/// Rows decoded at a time: enough to be fast, few enough that wide text columns stay small in memory.
const BATCH_ROWS: usize = 256;

#[derive(Debug)]
pub(crate) struct ParquetFile {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
    columns: Vec<String>,
}

impl ParquetFile {
    pub(crate) fn open(path: &Path) -> Result<Self, DatasetError> {
        let file = File::open(path).map_err(|source| DatasetError::Io { path: path.to_owned(), source })?;
        let metadata = ArrowReaderMetadata::load(&file, Default::default())
            .map_err(|source| DatasetError::Parquet { path: path.to_owned(), source })?;
        let columns = metadata.schema().fields().iter().map(|field| field.name().clone()).collect();
        Ok(Self { path: path.to_owned(), metadata, columns })
    }

    pub(crate) fn rows(&self) -> u64 {
        self.metadata.metadata().file_metadata().num_rows().max(0) as u64
    }

    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    pub(crate) fn scan(
        &self,
        columns: &Columns,
        visit: &mut impl FnMut(Map<String, Value>) -> Result<(), DatasetError>,
    ) -> Result<(), DatasetError> {
        let reader = self.builder(columns)?.with_batch_size(BATCH_ROWS).build();
        for batch in reader.map_err(|source| self.error(source))? {
            let batch = batch.map_err(|source| self.error(source.into()))?;
            for row in 0..batch.num_rows() {
                visit(self.cells(&batch, row)?)?;
            }
        }
        Ok(())
    }

    pub(crate) fn read(&self, row: u64, columns: &Columns) -> Result<Map<String, Value>, DatasetError> {
        let (group, within) = self.row_group(row);
        let selection = RowSelection::from(vec![RowSelector::skip(within), RowSelector::select(1)]);
        let builder = self.builder(columns)?.with_row_groups(vec![group]).with_row_selection(selection);
        let mut reader = builder.with_batch_size(1).build().map_err(|source| self.error(source))?;
        let short = || self.error(ParquetError::EOF(format!("row {row} of the file is missing")));
        let batch = reader.next().ok_or_else(short)?.map_err(|source| self.error(source.into()))?;
        self.cells(&batch, 0)
    }

    /// The row group that holds a row of the file, and the row's number in it.
    fn row_group(&self, row: u64) -> (usize, usize) {
        let mut left = row;
        for (group, metadata) in self.metadata.metadata().row_groups().iter().enumerate() {
            let rows = metadata.num_rows().max(0) as u64;
            if left < rows {
                return (group, left as usize);
            }
            left -= rows;
        }
        (self.metadata.metadata().num_row_groups(), left as usize)
    }

    fn builder(&self, columns: &Columns) -> Result<ParquetRecordBatchReaderBuilder<File>, DatasetError> {
        let file =
            File::open(&self.path).map_err(|source| DatasetError::Io { path: self.path.clone(), source })?;
        let wanted = self.columns.iter().enumerate().filter(|(_, name)| columns.contains(*name));
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), wanted.map(|(at, _)| at));
        Ok(ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
            .with_projection(mask))
    }

    fn cells(&self, batch: &RecordBatch, row: usize) -> Result<Map<String, Value>, DatasetError> {
        let schema = batch.schema_ref();
        let cell = |(at, column): (usize, &arrow_array::ArrayRef)| {
            let name = schema.field(at).name();
            let value = cell::json(column, row);
            value
                .map(|value| (name.clone(), value))
                .map_err(|problem| self.error(ParquetError::General(format!("column `{name}` {problem}"))))
        };
        batch.columns().iter().enumerate().map(cell).collect()
    }

    fn error(&self, source: ParquetError) -> DatasetError {
        DatasetError::Parquet { path: self.path.clone(), source }
    }
}
