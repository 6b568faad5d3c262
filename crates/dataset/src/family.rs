//! The dataset families: which one a table is of, and what each makes of a row.
//!
//! A new family is a module, a variant of `DatasetFamily` and one line in each `match` here.

use thresher_core::run_spec::DatasetFamily;
use thresher_core::{InstanceId, Sha256Hex, Task};

use crate::error::{DatasetError, did_you_mean};
use crate::nearest::nearest;
use crate::row::Row;
use crate::{inline, r2e, swe_bench};

/// What a task takes over from its dataset.
pub(crate) struct TaskOrigin {
    pub(crate) dataset: String,
    pub(crate) instance_id: InstanceId,
    pub(crate) row_sha256: Sha256Hex,
}

/// What planning learns of a row.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) instance_id: InstanceId,
    pub(crate) image: String,
    pub(crate) row_sha256: Sha256Hex,
}

/// Columns that only this family has, most telling first. Order matters: inline rows have SWE-bench's too.
const SIGNS: [(DatasetFamily, &[&str]); 3] = [
    (DatasetFamily::Inline, &["files", "test_command", "instance_id"]),
    (DatasetFamily::SweBench, &["instance_id", "FAIL_TO_PASS"]),
    (DatasetFamily::R2eGym, &["docker_image", "expected_output_json"]),
];

/// Recognizes the family, or checks the one that the job names.
pub(crate) fn recognize(
    dataset: &str,
    stated: Option<DatasetFamily>,
    columns: &[String],
) -> Result<DatasetFamily, DatasetError> {
    let missing = |signs: &[&'static str]| -> Vec<&'static str> {
        signs.iter().copied().filter(|sign| !columns.iter().any(|column| column == sign)).collect()
    };
    let considered: Vec<_> =
        SIGNS.iter().filter(|(family, _)| stated.is_none_or(|stated| stated == *family)).collect();
    if let Some((family, _)) = considered.iter().find(|(_, signs)| missing(signs).is_empty()) {
        return Ok(*family);
    }
    let lacks = |(family, signs): &&(DatasetFamily, &'static [&'static str])| {
        let fields = missing(signs).into_iter().map(|sign| {
            let near = nearest(sign, columns.iter().map(String::as_str));
            format!("`{sign}`{}", near.map(|name| format!(" (nearest: `{name}`)")).unwrap_or_default())
        });
        format!("{} needs the columns {}", name(*family), fields.collect::<Vec<_>>().join(", "))
    };
    let problem = considered.iter().map(lacks).collect::<Vec<_>>().join("; ");
    Err(DatasetError::Columns {
        dataset: dataset.to_owned(),
        problem: format!("the rows fit no family: {problem}"),
    })
}

fn name(family: DatasetFamily) -> &'static str {
    match family {
        DatasetFamily::R2eGym => "r2e_gym",
        DatasetFamily::SweBench => "swe_bench",
        DatasetFamily::Inline => "inline",
    }
}

/// The columns that planning reads, and that a row's hash covers.
pub(crate) fn plan_columns(family: DatasetFamily) -> &'static [&'static str] {
    match family {
        DatasetFamily::R2eGym => r2e::PLAN_COLUMNS,
        DatasetFamily::SweBench => swe_bench::PLAN_COLUMNS,
        DatasetFamily::Inline => inline::PLAN_COLUMNS,
    }
}

/// The columns that a task needs besides.
pub(crate) fn load_columns(family: DatasetFamily) -> &'static [&'static str] {
    match family {
        DatasetFamily::R2eGym => r2e::LOAD_COLUMNS,
        DatasetFamily::SweBench | DatasetFamily::Inline => &[],
    }
}

pub(crate) fn instance_id(family: DatasetFamily, row: &Row) -> Result<InstanceId, DatasetError> {
    match family {
        DatasetFamily::R2eGym => r2e::instance_id(row),
        DatasetFamily::SweBench => swe_bench::instance_id(row),
        DatasetFamily::Inline => inline::instance_id(row),
    }
}

pub(crate) fn identity(family: DatasetFamily, row: &Row) -> Result<Identity, DatasetError> {
    let image = match family {
        DatasetFamily::R2eGym => r2e::image(row)?,
        DatasetFamily::SweBench => swe_bench::image(row)?,
        DatasetFamily::Inline => inline::image(),
    };
    let row_sha256 = row.sha256(plan_columns(family));
    Ok(Identity { instance_id: instance_id(family, row)?, image, row_sha256 })
}

/// Checks that a rollout of the row can be run.
pub(crate) fn check(family: DatasetFamily, row: &Row) -> Result<(), DatasetError> {
    let statement = match family {
        DatasetFamily::R2eGym => r2e::statement(row)?,
        DatasetFamily::SweBench | DatasetFamily::Inline => swe_bench::statement(row)?,
    };
    if statement.trim().is_empty() {
        return Err(row.error("problem_statement", "it is empty"));
    }
    match family {
        DatasetFamily::R2eGym => r2e::check(row),
        DatasetFamily::SweBench => swe_bench::check(row),
        DatasetFamily::Inline => inline::check(row),
    }
}

pub(crate) fn task(family: DatasetFamily, row: &Row, origin: TaskOrigin) -> Result<Task, DatasetError> {
    match family {
        DatasetFamily::R2eGym => r2e::task(row, origin),
        DatasetFamily::SweBench => swe_bench::task(row, origin),
        DatasetFamily::Inline => inline::task(row, origin),
    }
}

/// The column that a name of the vocabulary stands for in filters, where the table has no such column.
pub(crate) fn derived_column(name: &str) -> bool {
    matches!(name, "instance_id" | "image")
}

/// Adds a suggestion of a column's name to a message.
pub(crate) fn unknown_column(name: &str, columns: &[String]) -> String {
    let near = nearest(name, columns.iter().map(String::as_str).chain(["instance_id", "image"]));
    format!("there is no column `{name}`{}", did_you_mean(&near))
}
