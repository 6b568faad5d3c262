//! Measures planning and loading: of a dataset that is named, or of 4,578 synthetic R2E-Gym rows as wide as real ones.
//!
//! ```text
//! cargo run -p thresher-dataset --example plan_speed [PATH]
//! ```
#![expect(clippy::print_stdout, reason = "its output is its purpose")]
#![expect(clippy::unwrap_used, reason = "an example may stop where it is")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use thresher_core::run_spec::{DatasetSpec, SelectSpec};
use thresher_dataset::Dataset;

/// Rows of R2E-Gym-Subset, in row groups as the Hub writes them.
const ROWS: usize = 4578;
const GROUP_ROWS: usize = 500;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let scratch = tempfile::tempdir().unwrap();
    let path = match &arguments[..] {
        [write, path] if write == "--write" => return write_rows(Path::new(path)),
        [path] => path.clone(),
        _ => {
            // Another process writes, so that this one's memory shows only the reading.
            let path = scratch.path().join("rows.parquet").to_str().unwrap().to_owned();
            let this = std::env::current_exe().unwrap();
            assert!(Command::new(this).args(["--write", &path]).status().unwrap().success());
            path
        }
    };
    let spec = DatasetSpec { path, name: None, family: None, select: SelectSpec::default() };
    let start = Instant::now();
    let dataset = Dataset::open(&spec, Path::new("")).unwrap();
    println!("{:?}, {} rows: opened in {:?}", dataset.family(), dataset.len(), start.elapsed());
    let start = Instant::now();
    let selection = dataset.plan(&SelectSpec::default()).unwrap();
    println!(
        "{} tasks, {} refused: planned in {:?}",
        selection.tasks.len(),
        selection.refused.len(),
        start.elapsed()
    );
    selection.refused.iter().take(10).for_each(|row| println!("refused row {}: {}", row.row, row.reason));
    let sample: Vec<_> = selection.tasks.iter().step_by(selection.tasks.len().div_ceil(20).max(1)).collect();
    let start = Instant::now();
    let tasks = sample.iter().filter(|handle| dataset.load(handle).is_ok()).count();
    println!(
        "{tasks} of {} tasks: loaded in {:?} each",
        sample.len(),
        start.elapsed() / sample.len().max(1) as u32
    );
    let start = Instant::now();
    dataset.fingerprint().unwrap();
    println!("fingerprint: in {:?}", start.elapsed());
    println!("{}", memory());
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_owned()
}

/// A text that compresses about as well as source code does.
struct Text(u64);

impl Text {
    fn words(&mut self, bytes: usize) -> String {
        let mut text = String::with_capacity(bytes + 16);
        while text.len() < bytes {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let word = self.0 >> 33;
            text.push_str(
                ["self.", "return ", "def ", "assert ", "value", "(", ")\n    ", "import "]
                    [word as usize % 8],
            );
            if word.is_multiple_of(5) {
                text.push_str(&(word >> 8).to_string());
            }
        }
        text
    }
}

/// 141 tests, the mean of R2E-Gym-V1.
fn expected(row: usize) -> String {
    let tests = (0..141).map(|test| (format!("TestClass{row}.test_with_a_name[{test}]"), "PASSED".into()));
    serde_json::Value::Object(tests.collect()).to_string()
}

fn write_rows(path: &Path) {
    let mut text = Text(42);
    let commit = serde_json::json!({
        "file_diffs": [{
            "old_file_content": text.words(105_000), "new_file_content": text.words(105_000),
            "header": {"file": {"path": "src/a.py"}, "misc_line": null}, "hunks": [],
        }],
        "old_commit_hash": "0^", "new_commit_hash": "0", "commit_message": "m",
    });
    let rest = commit.to_string();
    let mut writer: Option<ArrowWriter<std::fs::File>> = None;
    for first in (0..ROWS).step_by(100) {
        let rows = first..(first + 100).min(ROWS);
        let column = |of: &mut dyn FnMut(usize) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(rows.clone().map(of)))
        };
        let batch = RecordBatch::try_from_iter([
            ("repo_name", column(&mut |_| "pandas".to_owned())),
            ("docker_image", column(&mut |row| format!("example/pandas_final:{row:040x}"))),
            ("commit_hash", column(&mut |row| format!("{row:040x}"))),
            ("parsed_commit_content", column(&mut |row| format!("{rest}{:>width$}", "", width = row % 7))),
            ("execution_result_content", column(&mut |_| text.words(200_000))),
            ("prompt", column(&mut |_| "p".repeat(22_000))),
            ("problem_statement", column(&mut |row| format!("[ISSUE]{row} {}[/ISSUE]", text.words(4500)))),
            ("expected_output_json", column(&mut |row| expected(row))),
        ])
        .unwrap();
        let writer = writer.get_or_insert_with(|| {
            let properties = WriterProperties::builder()
                .set_compression(Compression::SNAPPY)
                .set_max_row_group_row_count(Some(GROUP_ROWS))
                .build();
            ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), Some(properties))
                .unwrap()
        });
        writer.write(&batch).unwrap();
    }
    writer.unwrap().close().unwrap();
}
