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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::builder::{ListBuilder, MapBuilder, StringBuilder, StringDictionaryBuilder};
    use arrow_array::types::Int32Type;
    use arrow_array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Float64Array, Int16Array, LargeStringArray,
        StringArray, StringViewArray, StructArray, UInt64Array,
    };
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;
    use serde_json::json;

    use super::*;

    fn lists() -> ArrayRef {
        let mut lists = ListBuilder::new(StringBuilder::new());
        lists.append_value([Some("a"), None]);
        lists.append_null();
        lists.append_value(Vec::<Option<&str>>::new());
        Arc::new(lists.finish())
    }

    fn maps() -> ArrayRef {
        let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        for row in ["x", "y", "z"] {
            maps.keys().append_value(format!("{row}.py"));
            maps.values().append_value(row);
            maps.append(true).unwrap();
        }
        Arc::new(maps.finish())
    }

    fn dictionaries() -> ArrayRef {
        let mut words = StringDictionaryBuilder::<Int32Type>::new();
        words.extend([Some("one"), Some("two"), Some("one")]);
        Arc::new(words.finish())
    }

    fn batch() -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int16Array::from(vec![Some(1), None, Some(3)]));
        let names: ArrayRef = Arc::new(StringArray::from(vec!["n1", "n2", "n3"]));
        let structs =
            StructArray::try_from(vec![("name", names.clone()), ("number", numbers.clone())]).unwrap();
        RecordBatch::try_from_iter_with_nullable([
            ("text", names, false),
            ("large", Arc::new(LargeStringArray::from(vec![Some("l1"), None, Some("l3")])) as ArrayRef, true),
            ("view", Arc::new(StringViewArray::from(vec!["v1", "v2", "v3"])), false),
            ("bytes", Arc::new(BinaryArray::from(vec![&b"b1"[..], b"b2", b"b3"])), false),
            ("number", numbers, true),
            ("count", Arc::new(UInt64Array::from(vec![u64::MAX, 0, 1])), false),
            ("share", Arc::new(Float64Array::from(vec![0.5, 1.0, f64::NAN])), false),
            ("truth", Arc::new(BooleanArray::from(vec![true, false, true])), false),
            ("list", lists(), true),
            ("map", maps(), false),
            ("struct", Arc::new(structs), false),
            ("word", dictionaries(), false),
            ("day", Arc::new(Date32Array::from(vec![1, 2, 3])), false),
        ])
        .unwrap()
    }

    fn columns(names: &[&str]) -> Columns {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn every_kind_of_cell_is_read_by_scan_and_by_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(2)).build();
        let file = File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch().schema(), Some(properties)).unwrap();
        writer.write(&batch()).unwrap();
        writer.close().unwrap();

        let file = ParquetFile::open(&path).unwrap();
        assert_eq!((file.rows(), file.metadata.metadata().num_row_groups()), (3, 2));
        let wanted: Vec<&str> =
            file.columns().iter().map(String::as_str).filter(|name| *name != "day").collect();
        let mut rows = Vec::new();
        file.scan(&columns(&wanted), &mut |cells| {
            rows.push(Value::Object(cells));
            Ok(())
        })
        .unwrap();
        let expected = [
            json!({"text": "n1", "large": "l1", "view": "v1", "bytes": "b1", "number": 1, "count": u64::MAX,
                "share": 0.5, "truth": true, "list": ["a", null], "map": {"x.py": "x"},
                "struct": {"name": "n1", "number": 1}, "word": "one"}),
            json!({"text": "n2", "large": null, "view": "v2", "bytes": "b2", "number": null, "count": 0,
                "share": 1.0, "truth": false, "list": null, "map": {"y.py": "y"},
                "struct": {"name": "n2", "number": null}, "word": "two"}),
            json!({"text": "n3", "large": "l3", "view": "v3", "bytes": "b3", "number": 3, "count": 1,
                "share": null, "truth": true, "list": [], "map": {"z.py": "z"},
                "struct": {"name": "n3", "number": 3}, "word": "one"}),
        ];
        assert_eq!(rows, expected);
        for (row, expected) in (0..).zip(&expected) {
            assert_eq!(Value::Object(file.read(row, &columns(&wanted)).unwrap()), *expected);
            assert_eq!(file.read(row, &columns(&["text", "absent"])).unwrap().len(), 1);
        }
        let error = file.read(0, &columns(&["day"])).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("column `day` has the type Date32, which is not read"), "{cause}");
    }
}
