//! Inline rows: small tasks that carry their repository and tests, and run on the machine's own tools.
//!
//! | column | content |
//! |---|---|
//! | `instance_id`, `repo`, `problem_statement` | as everywhere; `repo` may be absent |
//! | `workdir` | the repository's folder, `/testbed` if absent |
//! | `files` | path to content: the repository, paths relative to `workdir` |
//! | `executable` | paths of those files, or of the test files, that may be executed |
//! | `test_files` | path to content: put in place before the tests run |
//! | `test_command` | bash command |
//! | `log_parser`, `FAIL_TO_PASS`, `PASS_TO_PASS`, `patch` | as in SWE-bench |

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;
use thresher_core::InstanceId;
use thresher_core::task::{EnvironmentSpec, Family, FileSpec, ImageRef, Task, TestSpec};

use crate::error::{DatasetError, did_you_mean};
use crate::family::TaskOrigin;
use crate::nearest::nearest;
use crate::r2e::nested;
use crate::row::{Row, kind};
use crate::swe_bench::{self, FAIL_TO_PASS, PASS_TO_PASS};

/// The columns that make the task: all of them, for such rows are small.
pub(crate) const PLAN_COLUMNS: &[&str] = &[
    "instance_id",
    "repo",
    "problem_statement",
    "workdir",
    "files",
    "executable",
    "test_files",
    "test_command",
    "log_parser",
    FAIL_TO_PASS,
    PASS_TO_PASS,
    "patch",
];

pub(crate) fn instance_id(row: &Row) -> Result<InstanceId, DatasetError> {
    row.text("instance_id").map(InstanceId::new)
}

pub(crate) fn image() -> String {
    ImageRef::Host.to_string()
}

pub(crate) fn check(row: &Row) -> Result<(), DatasetError> {
    let executable = executable(row)?;
    files(row, "files", &executable)?;
    files(row, "test_files", &executable)?;
    row.text("test_command")?;
    swe_bench::check_parser(row, row.text("log_parser")?)?;
    swe_bench::check_lists(row)
}

pub(crate) fn task(row: &Row, origin: TaskOrigin) -> Result<Task, DatasetError> {
    let executable = executable(row)?;
    Ok(Task {
        instance_id: origin.instance_id,
        family: Family::Inline,
        dataset: origin.dataset,
        row_sha256: origin.row_sha256,
        repo: row.optional_text("repo")?.map(str::to_owned),
        base_commit: None,
        problem_statement: swe_bench::statement(row)?,
        environment: EnvironmentSpec {
            image: ImageRef::Host,
            workdir: row.optional_text("workdir")?.unwrap_or("/testbed").to_owned(),
            env: BTreeMap::new(),
            activation: None,
            files: files(row, "files", &executable)?,
            grading_needs_network: false,
        },
        gold_patch: swe_bench::gold_patch(row)?,
        tests: TestSpec::Inline {
            files: files(row, "test_files", &executable)?,
            command: row.text("test_command")?.to_owned(),
            log_parser: row.text("log_parser")?.to_owned(),
            fail_to_pass: swe_bench::tests(row, FAIL_TO_PASS)?,
            pass_to_pass: swe_bench::tests(row, PASS_TO_PASS)?,
        },
    })
}

fn files(row: &Row, field: &str, executable: &[String]) -> Result<Vec<FileSpec>, DatasetError> {
    let contents = contents(row, field)?;
    let file = |(path, content): (String, String)| {
        if !is_relative(&path) {
            return Err(row.error(field, format!("the path {path:?} does not stay in the working directory")));
        }
        Ok(FileSpec { executable: executable.contains(&path), path, content: Bytes::from(content) })
    };
    contents.into_iter().map(file).collect()
}

/// The paths and contents of a column: an object, or an object in a text, as Parquet files hold it.
fn contents(row: &Row, field: &str) -> Result<BTreeMap<String, String>, DatasetError> {
    match row.get(field) {
        None => Ok(BTreeMap::new()),
        Some(Value::String(text)) => nested(row, field, text),
        Some(Value::Object(files)) => {
            // A struct of Parquet has the columns of all rows: a null is a file of another row.
            let files = files.iter().filter(|(_, content)| !content.is_null());
            let content = |(path, content): (&String, &Value)| match content {
                Value::String(text) => Ok((path.clone(), text.clone())),
                other => {
                    Err(row.error(field, format!("the content of {path:?} is {}, not a text", kind(other))))
                }
            };
            files.map(content).collect()
        }
        Some(other) => {
            Err(row.error(field, format!("it is {}, not an object of path to content", kind(other))))
        }
    }
}

fn executable(row: &Row) -> Result<Vec<String>, DatasetError> {
    const FIELD: &str = "executable";
    let Some(cell) = row.get(FIELD) else {
        return Ok(Vec::new());
    };
    let paths =
        thresher_grade::decode_test_list(cell).map_err(|_| row.error(FIELD, "it is not a list of paths"))?;
    let mut known = contents(row, "files")?;
    known.extend(contents(row, "test_files")?);
    match paths.iter().find(|path| !known.contains_key(*path)) {
        Some(path) => {
            let near = nearest(path, known.keys().map(String::as_str));
            Err(row.error(FIELD, format!("no file is called {path:?}{}", did_you_mean(&near))))
        }
        None => Ok(paths),
    }
}

fn is_relative(path: &str) -> bool {
    !path.contains('\0') && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}
