//! The map of the fixed commit, and the form of names in which maps are compared.

use std::sync::LazyLock;

use indexmap::IndexMap;
use regex::Regex;
use thiserror::Error;

use crate::py;
use crate::status::StatusMap;

/// An `expected_output_json` cell that holds no usable map.
#[derive(Debug, Error)]
pub enum ExpectedError {
    /// The cell is no JSON object of texts.
    #[error("expected results are not a JSON object of statuses")]
    NotAMap(#[from] serde_json::Error),
    /// The object is empty: a log without any result would equal it.
    #[error("expected results are empty")]
    Empty,
}

/// Decodes the cell `expected_output_json`: test name to `PASSED`, `FAILED` or `ERROR` on the fixed commit.
///
/// # Errors
/// A cell that is no such map, or an empty one, with which every run that printed nothing would be rewarded.
pub fn decode_expected(cell: &str) -> Result<StatusMap, ExpectedError> {
    let map: StatusMap = serde_json::from_str(cell)?;
    if map.is_empty() { Err(ExpectedError::Empty) } else { Ok(map) }
}

/// Rewrites the names of a map without colour codes. Names that become equal keep the later status.
pub(crate) fn plain_map(map: &StatusMap) -> IndexMap<String, &str> {
    static COLOUR: LazyLock<Regex> = LazyLock::new(|| py::regex(r"\x1b\[\d+m"));
    map.iter().map(|(name, status)| (COLOUR.replace_all(name, "").into_owned(), status)).collect()
}

/// Rewrites the names of a map as the seed compares them: without colour codes, then cut at the first ` - `. Names that
/// become equal keep the status of the last by the order of the uncut names, as the seed's sorting does.
pub(crate) fn comparable_map(map: &StatusMap) -> IndexMap<String, &str> {
    let mut sorted: Vec<(String, &str)> = plain_map(map).into_iter().collect();
    sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
    let cut = |name: String| name.split(" - ").next().unwrap_or_default().to_owned();
    sorted.into_iter().map(|(name, status)| (cut(name), status)).collect()
}
