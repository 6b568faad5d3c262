//! SWE-bench rows: with image, evaluation script and parser in the row (v5), the older twelve columns, and
//! R2E-Gym's variant of them, whose images carry the evaluation script.
//!
//! | column | where it is absent |
//! |---|---|
//! | `image` | `docker_image`, else the name that SWE-bench derives from the id |
//! | `eval_script` | `run_tests`, else `/run_tests.sh` of the image if the row has `docker_image`, else the row cannot be run |
//! | `log_parser` | the parser of the repository |
//! | `eval_type` | `pass_and_fail` |

use std::collections::BTreeMap;

use bytes::Bytes;
use thresher_core::InstanceId;
use thresher_core::task::{EnvironmentSpec, Family, ImageRef, Task, TestSpec};
use thresher_grade::{LogParser, decode_test_list, needs_network};

use crate::error::DatasetError;
use crate::family::TaskOrigin;
use crate::row::Row;

/// The columns that make the task.
pub(crate) const PLAN_COLUMNS: &[&str] = &[
    "instance_id",
    "repo",
    "base_commit",
    "patch",
    "problem_statement",
    "version",
    FAIL_TO_PASS,
    PASS_TO_PASS,
    "image",
    "docker_image",
    "eval_script",
    "run_tests",
    "log_parser",
    "eval_type",
];

pub(crate) const FAIL_TO_PASS: &str = "FAIL_TO_PASS";
pub(crate) const PASS_TO_PASS: &str = "PASS_TO_PASS";

/// What SWE-bench's Python images need before their tools are found.
const CONDA: &str = "source /opt/miniconda3/bin/activate && conda activate testbed";

pub(crate) fn instance_id(row: &Row) -> Result<InstanceId, DatasetError> {
    row.text("instance_id").map(InstanceId::new)
}

/// A column for the image that is there but empty is not made up for.
pub(crate) fn image(row: &Row) -> Result<String, DatasetError> {
    for field in ["image", "docker_image"] {
        if row.get(field).is_some() {
            return row.text(field).map(str::to_owned);
        }
    }
    Ok(derived_image(row.text("instance_id")?))
}

/// The name under which SWE-bench publishes its images; a double underscore is not allowed in one.
fn derived_image(instance_id: &str) -> String {
    format!("swebench/sweb.eval.x86_64.{}:latest", instance_id.replace("__", "_1776_")).to_lowercase()
}

pub(crate) fn statement(row: &Row) -> Result<String, DatasetError> {
    Ok(row.optional_text("problem_statement")?.unwrap_or_default().to_owned())
}

/// Checks that the row can be run: a script, a parser and tests.
pub(crate) fn check(row: &Row) -> Result<(), DatasetError> {
    if eval_script(row)?.is_none() && row.get("docker_image").is_none() {
        return Err(
            row.error("eval_script", "it is missing, and the image is not one that carries /run_tests.sh")
        );
    }
    fail_only(row)?;
    check_parser(row, &log_parser(row)?)?;
    check_lists(row)
}

/// Checks that the parser exists and knows the instance.
pub(crate) fn check_parser(row: &Row, name: &str) -> Result<(), DatasetError> {
    let parser = LogParser::for_instance(name, row.text("instance_id")?);
    parser.map(drop).map_err(|error| row.error("log_parser", error.to_string()))
}

/// Checks that there are tests: without any, every patch would resolve the task.
pub(crate) fn check_lists(row: &Row) -> Result<(), DatasetError> {
    let none = tests(row, FAIL_TO_PASS)?.is_empty() & tests(row, PASS_TO_PASS)?.is_empty();
    if none { Err(row.error(FAIL_TO_PASS, "neither list of tests has any")) } else { Ok(()) }
}

pub(crate) fn task(row: &Row, origin: TaskOrigin) -> Result<Task, DatasetError> {
    let eval_script = eval_script(row)?.map(str::to_owned);
    Ok(Task {
        instance_id: origin.instance_id,
        family: Family::SweBench,
        dataset: origin.dataset,
        row_sha256: origin.row_sha256,
        repo: row.optional_text("repo")?.map(str::to_owned),
        base_commit: row.optional_text("base_commit")?.map(str::to_owned),
        problem_statement: statement(row)?,
        environment: environment(image(row)?, eval_script.as_deref()),
        gold_patch: gold_patch(row)?,
        tests: TestSpec::SweBench {
            eval_script,
            log_parser: log_parser(row)?,
            fail_only: fail_only(row)?,
            fail_to_pass: tests(row, FAIL_TO_PASS)?,
            pass_to_pass: tests(row, PASS_TO_PASS)?,
        },
    })
}

pub(crate) fn gold_patch(row: &Row) -> Result<Option<Bytes>, DatasetError> {
    Ok(row.optional_text("patch")?.map(|patch| Bytes::copy_from_slice(patch.as_bytes())))
}

pub(crate) fn tests(row: &Row, field: &str) -> Result<Vec<String>, DatasetError> {
    decode_test_list(row.required(field)?).map_err(|error| row.error(field, error.to_string()))
}

fn eval_script(row: &Row) -> Result<Option<&str>, DatasetError> {
    Ok(row.optional_text("eval_script")?.or(row.optional_text("run_tests")?))
}

fn log_parser(row: &Row) -> Result<String, DatasetError> {
    if let Some(name) = row.optional_text("log_parser")? {
        return Ok(name.to_owned());
    }
    let repo = row.text("repo")?;
    let parser = LogParser::for_repo(repo);
    let parser = parser
        .ok_or_else(|| row.error("log_parser", format!("it is missing, and none is known for {repo}")))?;
    Ok(parser.name().to_owned())
}

fn fail_only(row: &Row) -> Result<bool, DatasetError> {
    match row.optional_text("eval_type")? {
        None | Some("pass_and_fail") => Ok(false),
        Some("fail_only") => Ok(true),
        Some(other) => {
            Err(row.error("eval_type", format!("`{other}` is neither `pass_and_fail` nor `fail_only`")))
        }
    }
}

/// Rows without a script of their own come from the Python benchmarks, whose images all have conda.
fn environment(image: String, eval_script: Option<&str>) -> EnvironmentSpec {
    let uses_conda = eval_script.is_none_or(|script| script.contains("conda activate testbed"));
    EnvironmentSpec {
        image: ImageRef::Registry(image),
        workdir: "/testbed".to_owned(),
        env: BTreeMap::new(),
        activation: uses_conda.then(|| CONDA.to_owned()),
        files: Vec::new(),
        grading_needs_network: eval_script.is_some_and(needs_network),
    }
}

#[cfg(test)]
mod tests_of_names {
    use super::*;

    #[test]
    fn images_are_named_as_swebench_names_them() {
        let cases = [
            ("astropy__astropy-12907", "swebench/sweb.eval.x86_64.astropy_1776_astropy-12907:latest"),
            ("chartjs__Chart.js-10301", "swebench/sweb.eval.x86_64.chartjs_1776_chart.js-10301:latest"),
        ];
        for (id, image) in cases {
            assert_eq!(derived_image(id), image);
        }
    }
}
