//! R2E-Gym rows (Lite, Subset, V1): every nested object is a JSON text in a text column.
//!
//! Rows have no id of their own, so one is derived: `<repo_name>__<commit_hash>`, with the whole hash, unless
//! somebody has added a column `instance_id`. The gold patch is rebuilt from `parsed_commit_content`, byte for byte
//! as the seed does it.

mod commit;
mod execution;
mod patch;

use std::collections::BTreeMap;

use bytes::Bytes;
use thresher_core::InstanceId;
use thresher_core::task::{EnvironmentSpec, Family, ImageRef, Task, TestSpec};
use thresher_grade::StatusMap;
use thresher_grade::r2e::decode_expected;

pub use commit::{
    Entity, FileDiff, FileHeader, FilePath, Hunk, HunkDescriptor, IndexLine, Line, LineGroup, LineRange,
    LineType, ParsedCommit,
};
pub use execution::ExecutionResult;
pub use patch::PatchOptions;

use crate::error::DatasetError;
use crate::family::TaskOrigin;
use crate::row::Row;

/// The columns that make the task, all of them narrow.
pub(crate) const PLAN_COLUMNS: &[&str] =
    &["instance_id", "repo_name", "docker_image", "commit_hash", "problem_statement", "expected_output_json"];

const COMMIT: &str = "parsed_commit_content";
const EXECUTION: &str = "execution_result_content";

/// What a rollout needs besides: the commit, but neither `prompt` nor the wide execution logs.
pub(crate) const LOAD_COLUMNS: &[&str] = &[COMMIT];

/// What [`crate::Dataset::r2e_record`] reads besides.
pub(crate) const RECORD_COLUMNS: &[&str] = &[COMMIT, EXECUTION];

/// The search path that R2E-Gym runs everything with: it replaces the image's own.
const PATH: &str = "/root/.venv/bin:/root/.local/bin:/root/.cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How the environment was made: the fixing commit, and the test runs before and after it.
#[derive(Clone, Debug, PartialEq)]
pub struct R2eRecord {
    /// The fixing commit.
    pub commit: ParsedCommit,
    /// The test runs; absent in rows that were slimmed down.
    pub execution: Option<ExecutionResult>,
}

pub(crate) fn instance_id(row: &Row) -> Result<InstanceId, DatasetError> {
    match row.optional_text("instance_id")? {
        Some(id) => Ok(InstanceId::new(id)),
        None => Ok(InstanceId::new(format!("{}__{}", row.text("repo_name")?, row.text("commit_hash")?))),
    }
}

pub(crate) fn image(row: &Row) -> Result<String, DatasetError> {
    row.text("docker_image").map(str::to_owned)
}

/// Checks what can be known without the wide columns.
pub(crate) fn check(row: &Row) -> Result<(), DatasetError> {
    expected(row).map(drop)
}

pub(crate) fn task(row: &Row, origin: TaskOrigin) -> Result<Task, DatasetError> {
    let commit = commit(row)?;
    // Rows say that a binary file changed, but do not hold its content: such files cannot be part of a patch.
    let binaries =
        commit.file_diffs.iter().filter(|file| file.is_binary_file).map(|file| file.path().to_owned());
    let gold_patch = commit.patch(&PatchOptions { exclude: binaries.collect(), ..PatchOptions::GOLD });
    let expected = expected(row)?;
    let expected = expected.iter().map(|(test, status)| (test.to_owned(), status.to_owned())).collect();
    Ok(Task {
        instance_id: origin.instance_id,
        family: Family::R2eGym,
        dataset: origin.dataset,
        row_sha256: origin.row_sha256,
        repo: row.optional_text("repo_name")?.map(str::to_owned),
        base_commit: Some(commit.old_commit_hash),
        problem_statement: statement(row)?,
        environment: environment(image(row)?),
        gold_patch: Some(Bytes::from(gold_patch)).filter(|patch| !patch.is_empty()),
        tests: TestSpec::R2eGym { expected },
    })
}

pub(crate) fn record(row: &Row) -> Result<R2eRecord, DatasetError> {
    let execution = match row.optional_text(EXECUTION)? {
        Some(text) => Some(nested(row, EXECUTION, text)?),
        None => None,
    };
    Ok(R2eRecord { commit: commit(row)?, execution })
}

fn commit(row: &Row) -> Result<ParsedCommit, DatasetError> {
    nested(row, COMMIT, row.text(COMMIT)?)
}

/// Decodes JSON out of a text column.
pub(crate) fn nested<T: serde::de::DeserializeOwned>(
    row: &Row,
    field: &str,
    text: &str,
) -> Result<T, DatasetError> {
    serde_json::from_str(text).map_err(|error| row.error(field, format!("its JSON does not fit: {error}")))
}

/// The issue, cut out of what the model that wrote it said around it: everything from the first `[ISSUE]` to the
/// last `[/ISSUE]`. A text without such a pair is the issue as a whole.
pub(crate) fn statement(row: &Row) -> Result<String, DatasetError> {
    let whole = row.optional_text("problem_statement")?.unwrap_or_default();
    Ok(between_tags(whole).unwrap_or(whole).to_owned())
}

fn between_tags(text: &str) -> Option<&str> {
    const OPEN: &str = "[ISSUE]";
    let start = text.find(OPEN)? + OPEN.len();
    let length = text[start..].rfind("[/ISSUE]")?;
    Some(&text[start..start + length])
}

fn expected(row: &Row) -> Result<StatusMap, DatasetError> {
    const FIELD: &str = "expected_output_json";
    decode_expected(row.text(FIELD)?).map_err(|error| row.error(FIELD, error.to_string()))
}

fn environment(image: String) -> EnvironmentSpec {
    EnvironmentSpec {
        image: ImageRef::Registry(image),
        workdir: "/testbed".to_owned(),
        env: BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]),
        activation: None,
        files: Vec::new(),
        grading_needs_network: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_issue_is_between_the_outermost_tags() {
        let cases = [
            ("analysis [ISSUE]\na\n[/ISSUE] rest", Some("\na\n")),
            ("[ISSUE]a[/ISSUE]b[ISSUE]c[/ISSUE]", Some("a[/ISSUE]b[ISSUE]c")),
            ("[/ISSUE] a [ISSUE] b", None),
            ("no tags", None),
            ("[ISSUE]open", None),
        ];
        for (text, issue) in cases {
            assert_eq!(between_tags(text), issue, "{text}");
        }
    }
}
