//! Real rows of every family. They say so and pass where `THRESHER_TEST_DATA` names no folder with them.
#![expect(clippy::unwrap_used, reason = "a test may stop where it is")]
#![expect(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::Value;
use thresher_core::patch::{ApplyMode, FileMode, Patch, blob_id, parse};
use thresher_core::run_spec::{DatasetFamily, DatasetSpec, SelectSpec};
use thresher_core::task::{ImageRef, TestSpec};
use thresher_core::{InstanceId, Task};
use thresher_dataset::r2e::{FileDiff, ParsedCommit, PatchOptions};
use thresher_dataset::{Dataset, DatasetError};

fn data() -> Option<PathBuf> {
    let folder = std::env::var_os("THRESHER_TEST_DATA").map(PathBuf::from).filter(|path| path.is_dir());
    if folder.is_none() {
        println!("skipped: THRESHER_TEST_DATA names no folder");
    }
    folder
}

fn open(folder: &Path, path: &str) -> Result<Dataset, DatasetError> {
    let spec = DatasetSpec { path: path.into(), name: None, family: None, select: SelectSpec::default() };
    Dataset::open(&spec, folder)
}

/// Loads every row; none may be refused.
fn load_all(dataset: &Dataset) -> Vec<Task> {
    let selection = dataset.plan(&SelectSpec::default()).unwrap();
    assert_eq!(selection.refused, [], "{}", dataset.name());
    assert_eq!(selection.tasks.len() as u64, dataset.len());
    selection.tasks.iter().map(|handle| dataset.load(handle).unwrap()).collect()
}

#[test]
fn all_rows_of_the_published_benchmarks_load() {
    let Some(folder) = data() else { return };
    let tables = [
        ("SWE-bench_Verified_test", 500),
        ("SWE-bench_Lite_test", 300),
        ("SWE-bench_Lite_dev", 23),
        ("SWE-bench_dev", 225),
        ("SWE-bench_Multilingual_test", 300),
        ("SWE-bench_Multimodal_dev", 102),
    ];
    for (name, rows) in tables {
        let dataset = open(&folder, &format!("instances/{name}.parquet")).unwrap();
        assert_eq!((dataset.name(), dataset.family()), (name, DatasetFamily::SweBench));
        let tasks = load_all(&dataset);
        assert_eq!(tasks.len(), rows, "{name}");
        tasks.iter().for_each(|task| check_swe_bench(task, name));
    }
}

fn check_swe_bench(task: &Task, table: &str) {
    let id = &task.instance_id;
    let TestSpec::SweBench { eval_script: Some(script), fail_only, .. } = &task.tests else {
        panic!("{id}: {:?}", task.tests);
    };
    let uses_conda = script.contains("conda activate testbed");
    assert_eq!(task.environment.activation.is_some(), uses_conda, "{id}");
    let is_python = !matches!(table, "SWE-bench_Multilingual_test" | "SWE-bench_Multimodal_dev");
    assert_eq!(uses_conda, is_python, "{id}");
    assert!(!fail_only || table == "SWE-bench_Multimodal_dev", "{id}");
    let image = task.environment.image.to_string();
    let derived = id.as_str().replace("__", "_1776_").to_lowercase();
    assert_eq!(image, format!("swebench/sweb.eval.x86_64.{derived}:latest"));
    let patch = parse(task.gold_patch.as_ref().unwrap()).unwrap_or_else(|error| panic!("{id}: {error}"));
    assert!(!patch.files.is_empty(), "{id}");
}

#[test]
fn windows_and_filters_work_on_a_real_table() {
    let Some(folder) = data() else { return };
    let dataset = open(&folder, "instances/SWE-bench_Verified_test.parquet").unwrap();
    let filter = r#"repo == "django/django" and version >= 4 and difficulty == "<15 min fix""#;
    let spec = SelectSpec { filter: Some(filter.into()), ..SelectSpec::default() };
    let found = dataset.plan(&spec).unwrap().tasks;
    assert!((10..100).contains(&found.len()), "{}", found.len());
    let handle = dataset.find(&InstanceId::new("sympy__sympy-20590")).unwrap();
    assert_eq!(dataset.load(&handle).unwrap().repo.as_deref(), Some("sympy/sympy"));
}

#[test]
fn a_file_that_is_no_dataset_is_refused_with_what_it_lacks() {
    let Some(folder) = data() else { return };
    let error = open(&folder, "instances/pvlib_dev_fixture.jsonl").unwrap_err();
    assert!(error.to_string().contains("swe_bench needs the columns `instance_id`"), "{error}");
}

fn unzstd(path: &Path) -> String {
    let mut text = String::new();
    zstd::Decoder::new(std::fs::File::open(path).unwrap()).unwrap().read_to_string(&mut text).unwrap();
    text
}

/// The dataset rows that R2E-Gym put into its trajectories.
fn trajectory_rows(folder: &Path, extension: &str) -> Vec<Value> {
    let files = std::fs::read_dir(folder.join("trajectories/r2e_gym")).unwrap();
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.retain(|path| path.to_str().unwrap().ends_with(extension));
    paths.sort();
    let lines = |path: &PathBuf| match extension {
        ".jsonl.zst" => unzstd(path).lines().map(str::to_owned).collect(),
        _ => vec![unzstd(path)],
    };
    let row = |text: String| serde_json::from_str::<Value>(&text).unwrap()["env_args"]["ds"].take();
    paths.iter().flat_map(lines).map(row).collect()
}

/// Writes rows as lines and opens them.
fn as_dataset(folder: &Path, rows: &[Value]) -> Dataset {
    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    std::fs::write(folder.join("rows.jsonl"), lines).unwrap();
    open(folder, "rows.jsonl").unwrap()
}

#[test]
fn r2e_rows_give_the_patch_that_was_taken_apart() {
    let Some(folder) = data() else { return };
    let rows = trajectory_rows(&folder, ".json.zst");
    assert!(rows.len() >= 23);
    let scratch = tempfile::tempdir().unwrap();
    let dataset = as_dataset(scratch.path(), &rows);
    assert_eq!(dataset.family(), DatasetFamily::R2eGym);
    let tasks = load_all(&dataset);
    let handles = dataset.plan(&SelectSpec::default()).unwrap().tasks;
    for (task, handle) in tasks.iter().zip(&handles) {
        let record = dataset.r2e_record(handle).unwrap().unwrap();
        assert!(!record.execution.unwrap().test_file_codes.is_empty());
        check_commit(&record.commit, task);
        let gold = task.gold_patch.as_ref().unwrap();
        assert_eq!(*gold, record.commit.patch(&PatchOptions::GOLD).as_bytes());
        assert!(!task.problem_statement.contains("[ISSUE]"), "{}", task.instance_id);
        assert!(matches!(&task.tests, TestSpec::R2eGym { expected } if !expected.is_empty()));
        assert!(matches!(&task.environment.image, ImageRef::Registry(image) if image.contains("_final:")));
    }
}

/// The whole patch leads from every old content to its new one, and both are those that the index lines name.
fn check_commit(commit: &ParsedCommit, task: &Task) {
    let id = &task.instance_id;
    let whole =
        parse(commit.patch(&PatchOptions::ALL).as_bytes()).unwrap_or_else(|error| panic!("{id}: {error}"));
    assert_eq!(whole.files.len(), commit.file_diffs.len());
    let old = contents(&commit.file_diffs, |file| &file.old_file_content, |file| &file.minus_file);
    let new = contents(&commit.file_diffs, |file| &file.new_file_content, |file| &file.plus_file);
    assert_eq!(apply(&whole, &old), new, "{id}");
    for file in &commit.file_diffs {
        let index = file.index_line.as_ref().unwrap();
        let ids = [
            (&file.old_file_content, &index.old_commit_hash),
            (&file.new_file_content, &index.new_commit_hash),
        ];
        for (content, hash) in ids.into_iter().filter(|(_, hash)| hash.bytes().any(|digit| digit != b'0')) {
            assert!(
                blob_id(content.as_bytes()).to_string().starts_with(hash.as_str()),
                "{id}: {}",
                file.path()
            );
        }
    }
}

type Contents = BTreeMap<Vec<u8>, Bytes>;

fn contents(
    files: &[FileDiff],
    content: impl Fn(&FileDiff) -> &String,
    side: impl Fn(&FileDiff) -> &Option<thresher_dataset::r2e::FilePath>,
) -> Contents {
    let exists = |file: &&FileDiff| side(file).as_ref().is_none_or(|side| side.path != "/dev/null");
    let entry = |file: &FileDiff| (file.path().into(), Bytes::copy_from_slice(content(file).as_bytes()));
    files.iter().filter(exists).map(entry).collect()
}

fn apply(patch: &Patch, old: &Contents) -> Contents {
    let read = |path: &[u8]| old.get(path).map(|content| (FileMode::Regular, content.clone()));
    let changes = patch.apply(ApplyMode::Git, read).unwrap();
    let mut contents = old.clone();
    for change in changes {
        match change.new {
            Some((_, content)) => drop(contents.insert(change.path, content)),
            None => drop(contents.remove(&change.path)),
        }
    }
    contents
}

#[test]
fn r2e_gyms_variant_of_swe_bench_rows_loads() {
    let Some(folder) = data() else { return };
    let rows = trajectory_rows(&folder, ".jsonl.zst");
    assert!(rows.len() >= 3);
    let scratch = tempfile::tempdir().unwrap();
    let dataset = as_dataset(scratch.path(), &rows);
    assert_eq!(dataset.family(), DatasetFamily::SweBench);
    for task in load_all(&dataset) {
        assert!(task.environment.image.to_string().starts_with("slimshetty/swebench-verified:"));
        assert!(task.environment.activation.is_some());
        assert!(matches!(&task.tests, TestSpec::SweBench { eval_script: Some(_), .. }));
        parse(task.gold_patch.as_ref().unwrap()).unwrap();
    }
}

/// The same rows without the columns that SWE-bench added later: what was published first.
#[test]
fn rows_of_twelve_columns_give_the_same_image_and_parser() {
    let Some(folder) = data() else { return };
    let table = open(&folder, "instances/SWE-bench_Verified_test.parquet").unwrap();
    let row = |task: &Task| {
        let TestSpec::SweBench { fail_to_pass, pass_to_pass, .. } = &task.tests else { panic!() };
        serde_json::json!({
            "repo": task.repo, "instance_id": task.instance_id, "problem_statement": task.problem_statement,
            "FAIL_TO_PASS": serde_json::to_string(fail_to_pass).unwrap(),
            "PASS_TO_PASS": serde_json::to_string(pass_to_pass).unwrap(),
        })
    };
    let tasks = load_all(&table);
    let scratch = tempfile::tempdir().unwrap();
    let classic = as_dataset(scratch.path(), &tasks.iter().map(row).collect::<Vec<_>>());
    let selection = classic.plan(&SelectSpec::default()).unwrap();
    assert!(selection.tasks.is_empty() && selection.refused[0].reason.contains("eval_script"));
    for task in tasks.iter().step_by(25) {
        let old = classic.load(&classic.find(&task.instance_id).unwrap()).unwrap();
        assert_eq!(old.environment.image, task.environment.image);
        match (&old.tests, &task.tests) {
            (
                TestSpec::SweBench { log_parser: ours, fail_to_pass: old, .. },
                TestSpec::SweBench { log_parser, fail_to_pass, .. },
            ) => assert_eq!((ours, old), (log_parser, fail_to_pass), "{}", task.instance_id),
            other => panic!("{other:?}"),
        }
    }
}
