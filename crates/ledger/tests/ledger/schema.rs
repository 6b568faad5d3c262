//! What the files look like to other readers: columns, ids, encodings. A change here is a change of the format.

use std::fmt::Write as _;

use bytes::Bytes;
use parquet::basic::Type;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::schema::printer::print_schema;
use thresher_core::record::SCHEMA_VERSION;
use thresher_ledger::{PackOptions, Table, schema_document};

use crate::fixtures::{faulted, local, record};

/// The metadata of one file of each table.
async fn metadata() -> Vec<(&'static str, ParquetMetaData)> {
    let dir = tempfile::tempdir().unwrap();
    let ledger = local(dir.path());
    for seed in 0..9 {
        ledger.commit(&record(seed), None).await.unwrap();
    }
    ledger.save_fault(&faulted(&record(9), 1), None).await.unwrap();
    let manifest = ledger.seal(&PackOptions::default()).await.unwrap();
    let of = |table: Table| {
        let file = manifest.files.iter().find(|file| file.table == table.name()).unwrap();
        let bytes = Bytes::from(std::fs::read(dir.path().join(&file.path)).unwrap());
        (table.name(), SerializedFileReader::new(bytes).unwrap().metadata().clone())
    };
    Table::ALL.into_iter().map(of).collect()
}

#[tokio::test]
async fn the_format_of_the_files_is_as_it_was() {
    let mut text = String::new();
    for (table, metadata) in metadata().await {
        let file = metadata.file_metadata();
        let mut schema = Vec::new();
        print_schema(&mut schema, file.schema());
        writeln!(text, "# {table}, schema version {SCHEMA_VERSION}\n{}", String::from_utf8(schema).unwrap())
            .unwrap();
        let group = metadata.row_group(0);
        writeln!(text, "sorted by {:?}", group.sorting_columns()).unwrap();
        for column in group.columns() {
            writeln!(
                text,
                "{}: {}{}{}{}",
                column.column_path().string(),
                column.compression(),
                if column.dictionary_page_offset().is_some() { ", dictionary" } else { "" },
                if column.statistics().is_some() { ", statistics" } else { "" },
                if column.bloom_filter_offset().is_some() { ", bloom filter" } else { "" },
            )
            .unwrap();
        }
        text.push('\n');
    }
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn every_field_has_an_id_of_its_own_and_a_portable_type() {
    for (table, metadata) in metadata().await {
        let mut ids = Vec::new();
        collect(metadata.file_metadata().schema(), &mut ids);
        let total = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), total, "{table}: an id is given twice");
        for column in metadata.file_metadata().schema_descr().columns() {
            assert_ne!(column.physical_type(), Type::INT96, "{table}");
            let signed = !format!("{:?}", column.logical_type_ref()).contains("is_signed: false");
            assert!(signed, "{table}: {} is unsigned", column.path());
        }
    }
}

/// Ids of all fields but the group that parquet puts between a list and its element.
fn collect(group: &parquet::schema::types::Type, ids: &mut Vec<i32>) {
    for field in group.get_fields() {
        let info = field.get_basic_info();
        if info.has_id() {
            ids.push(info.id());
        } else {
            assert_eq!(info.name(), "list", "a field has no id");
        }
        if field.is_group() {
            collect(field, ids);
        }
    }
}

#[test]
fn schema_md_is_up_to_date() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("SCHEMA.md");
    let expected = schema_document();
    if std::env::var_os("THRESHER_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "SCHEMA.md is not what the code says: set THRESHER_UPDATE_DOCS=1 and run this test"
    );
    for table in Table::ALL {
        for field in table.schema().fields() {
            assert!(found.contains(&format!("| `{}` |", field.name())), "{} is not documented", field.name());
        }
    }
}
