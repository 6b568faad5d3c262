//! Reading the Parquet files of a run.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, BooleanArray, RecordBatch};
use arrow_schema::ArrowError;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowPredicateFn, ParquetRecordBatchReaderBuilder, RowFilter};
use parquet::errors::ParquetError;
use thresher_core::RolloutId;
use thresher_core::record::SCHEMA_VERSION;

use crate::manifest::ManifestFile;
use crate::pack::off_runtime;
use crate::{Ledger, LedgerError, codec};

/// Which part of a file is wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    /// All columns if it is empty.
    pub(crate) columns: Vec<String>,
    /// The rows of these rollouts alone; `None` for all rows.
    pub(crate) rollouts: Option<Arc<HashSet<RolloutId>>>,
}

impl Part {
    /// All rows of `columns`.
    pub(crate) fn columns(columns: &[&str]) -> Self {
        Self { columns: columns.iter().map(|column| (*column).to_owned()).collect(), rollouts: None }
    }
}

impl Ledger {
    /// Reads a part of a file; [`LedgerError::Outdated`] if the file was deleted, which happens to none that is part
    /// of the run.
    pub(crate) async fn read_table(
        &self,
        file: &ManifestFile,
        part: Part,
    ) -> Result<Vec<RecordBatch>, LedgerError> {
        let path = self.layout.object(&file.path)?;
        let Some(bytes) = self.read(&path).await? else {
            return Err(LedgerError::Outdated { path: path.to_string() });
        };
        let path = path.to_string();
        off_runtime(move || decode(&path, bytes, part)).await
    }
}

fn decode(path: &str, bytes: Bytes, part: Part) -> Result<Vec<RecordBatch>, LedgerError> {
    let mut builder =
        ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| codec::damaged(path, error))?;
    let metadata = builder.metadata().file_metadata().key_value_metadata();
    let version = metadata.into_iter().flatten().find(|entry| entry.key == "thresher.schema_version");
    let version = version.and_then(|entry| entry.value.as_ref()).and_then(|text| text.parse().ok());
    let version = version.ok_or_else(|| codec::damaged(path, "it has no schema version"))?;
    codec::refuse_newer(path, version, SCHEMA_VERSION)?;
    if let Some(rollouts) = part.rollouts {
        let mask = ProjectionMask::columns(builder.parquet_schema(), ["rollout_id"]);
        let wanted = ArrowPredicateFn::new(mask, move |batch| rows_of(&batch, &rollouts));
        builder = builder.with_row_filter(RowFilter::new(vec![Box::new(wanted)]));
    }
    let mask = if part.columns.is_empty() {
        ProjectionMask::all()
    } else {
        ProjectionMask::columns(builder.parquet_schema(), part.columns.iter().map(String::as_str))
    };
    let batches = builder.with_projection(mask).build()?;
    Ok(batches.collect::<Result<_, _>>().map_err(ParquetError::from)?)
}

fn rows_of(batch: &RecordBatch, rollouts: &HashSet<RolloutId>) -> Result<BooleanArray, ArrowError> {
    let ids = batch.column(0).as_string_opt::<i32>();
    let ids = ids.ok_or_else(|| ArrowError::SchemaError("rollout_id is not text".into()))?;
    Ok((0..ids.len()).map(|row| Some(rollouts.contains(&RolloutId::new(ids.value(row))))).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int32Array, StringArray};
    use parquet::arrow::ArrowWriter;
    use parquet::file::metadata::KeyValue;

    use super::*;

    fn file(version: Option<&str>) -> Bytes {
        let column: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
        let ids: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
        let batch = RecordBatch::try_from_iter([("schema_version", column), ("rollout_id", ids)]).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        if let Some(version) = version {
            let entry = KeyValue::new("thresher.schema_version".to_owned(), version.to_owned());
            writer.append_key_value_metadata(entry);
        }
        writer.into_inner().unwrap().into()
    }

    #[test]
    fn tables_of_a_newer_program_are_refused_as_such() {
        let refusal = |version| {
            decode("tables/steps/a.parquet", file(version), Part::default()).unwrap_err().to_string()
        };
        assert_eq!(
            refusal(Some("7")),
            "`tables/steps/a.parquet` has format version 7, and this program knows versions up to 1: use a newer \
             thresher"
        );
        assert_eq!(refusal(None), "`tables/steps/a.parquet` is damaged: it has no schema version");
        assert_eq!(decode("p", file(Some("1")), Part::default()).unwrap()[0].num_rows(), 2);
        let junk = Bytes::from_static(b"junk");
        assert!(decode("tables/x", junk, Part::default()).unwrap_err().to_string().contains("`tables/x`"));
    }

    #[test]
    fn rows_and_columns_are_picked_independently() {
        let rollouts = Some(Arc::new(HashSet::from([RolloutId::new("b")])));
        let part = Part { columns: vec!["schema_version".into()], rollouts };
        let batches = decode("p", file(Some("1")), part).unwrap();
        assert_eq!((batches[0].num_columns(), batches[0].num_rows()), (1, 1));
        let numbers = batches[0].column(0).as_primitive::<arrow_array::types::Int32Type>();
        assert_eq!(numbers.value(0), 2);
    }
}
