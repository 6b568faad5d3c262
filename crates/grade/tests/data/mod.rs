//! Reads the folder of real data: dataset rows, logs with recorded verdicts, R2E-Gym trajectories.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use arrow_array::{Array, ListArray, RecordBatch, StringArray};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use thresher_grade::swebench::EvalType;
use thresher_grade::{TestLists, decode_test_list};

/// A log with the verdict that harness 5.0.2 gave it.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) case_id: String,
    pub(crate) instance_id: String,
    pub(crate) dataset: String,
    pub(crate) log_parser: String,
    pub(crate) log: String,
    pub(crate) status_map: Value,
    pub(crate) found: bool,
    pub(crate) resolution: Option<String>,
    pub(crate) report: Value,
}

/// What grading needs of a dataset row.
pub(crate) struct Row {
    pub(crate) repo: String,
    pub(crate) log_parser: String,
    pub(crate) eval_type: EvalType,
    pub(crate) eval_script: String,
    pub(crate) lists: TestLists,
}

/// Finds the folder, or says that the test is skipped.
pub(crate) fn root(test: &str) -> Option<PathBuf> {
    let root = std::env::var_os("THRESHER_TEST_DATA").map(PathBuf::from);
    if root.is_none() {
        println!("{test} skipped: THRESHER_TEST_DATA names no folder");
    }
    root
}

/// Reads a file as text, decompressing `.zst`.
pub(crate) fn text(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    let is_compressed = path.extension().is_some_and(|extension| extension == "zst");
    let bytes = if is_compressed { zstd::decode_all(&bytes[..]).unwrap() } else { bytes };
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Lists the files of a folder whose name contains `part`, sorted.
pub(crate) fn files(folder: &Path, part: &str) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.to_string_lossy().contains(part)).collect();
    paths.sort();
    paths
}

/// Reads a file of JSON lines.
pub(crate) fn json_lines(path: &Path) -> Vec<Value> {
    text(path).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Reads the logs with recorded verdicts.
pub(crate) fn cases(root: &Path, name: &str) -> Vec<Case> {
    let field = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
    let case = |line: &Value| Case {
        case_id: field(line, "case_id"),
        instance_id: field(line, "instance_id"),
        dataset: field(line, "dataset"),
        log_parser: field(line, "log_parser"),
        log: field(line, "log"),
        status_map: line["ref_v5_status_map"].clone(),
        found: line["ref_v5_found"].as_bool().unwrap(),
        resolution: line["ref_v5_resolution"].as_str().map(str::to_owned),
        report: line["ref_v5_report"].clone(),
    };
    json_lines(&root.join(format!("logs/{name}.jsonl.zst"))).iter().map(case).collect()
}

/// Reads the rows of all datasets, by dataset and instance.
pub(crate) fn rows(root: &Path) -> BTreeMap<(String, String), Row> {
    files(&root.join("instances"), ".parquet").iter().flat_map(|path| dataset_rows(path)).collect()
}

fn dataset_rows(path: &Path) -> Vec<((String, String), Row)> {
    let dataset = path.file_stem().unwrap().to_str().unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let columns =
        ["repo", "instance_id", "log_parser", "eval_type", "eval_script", "FAIL_TO_PASS", "PASS_TO_PASS"];
    let mask = ProjectionMask::columns(reader.parquet_schema(), columns);
    let batches = reader.with_projection(mask).build().unwrap();
    let rows = |batch: RecordBatch| (0..batch.num_rows()).map(move |at| row(&batch, at)).collect::<Vec<_>>();
    batches.flat_map(|batch| rows(batch.unwrap())).map(|(id, row)| ((dataset.to_owned(), id), row)).collect()
}

fn row(batch: &RecordBatch, at: usize) -> (String, Row) {
    let cell = |name: &str| cell(batch, name, at);
    let text = |name: &str| cell(name).as_str().unwrap().to_owned();
    let row = Row {
        repo: text("repo"),
        log_parser: text("log_parser"),
        eval_type: serde_json::from_value(cell("eval_type")).unwrap(),
        eval_script: text("eval_script"),
        lists: TestLists {
            fail_to_pass: decode_test_list(&cell("FAIL_TO_PASS")).unwrap(),
            pass_to_pass: decode_test_list(&cell("PASS_TO_PASS")).unwrap(),
        },
    };
    (text("instance_id"), row)
}

/// Reads a cell as JSON: a text, or a list of texts.
fn cell(batch: &RecordBatch, name: &str, at: usize) -> Value {
    let column = batch.column_by_name(name).unwrap();
    if let Some(texts) = column.as_any().downcast_ref::<StringArray>() {
        return texts.value(at).into();
    }
    let list = column.as_any().downcast_ref::<ListArray>().unwrap().value(at);
    let texts = list.as_any().downcast_ref::<StringArray>().unwrap();
    texts.iter().map(|text| text.unwrap()).collect()
}

/// Reads R2E-Gym rows out of trajectories: name, expected map, log of the fixed commit, log of the one before.
pub(crate) fn r2e_rows(root: &Path) -> Vec<(String, String, String, String)> {
    let paths = files(&root.join("trajectories/r2e_gym"), "trajectory_");
    paths.iter().map(|path| r2e_row(path)).collect()
}

fn r2e_row(path: &Path) -> (String, String, String, String) {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let decoded = |value: &Value| match value {
        Value::String(text) => serde_json::from_str(text).unwrap(),
        other => other.clone(),
    };
    let trajectory = decoded(&serde_json::from_str(&text(path)).unwrap());
    let row = &trajectory["env_args"]["ds"];
    let results = decoded(&row["execution_result_content"]);
    let output = |name: &str| results[name].as_str().unwrap().to_owned();
    let expected = row["expected_output_json"].as_str().unwrap().to_owned();
    (name, expected, output("new_commit_res_stdout"), output("old_commit_res_stdout"))
}
