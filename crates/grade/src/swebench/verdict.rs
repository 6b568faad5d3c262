//! From statuses to success, failure and resolution.

use serde::{Deserialize, Serialize};

use crate::status::{ERROR, FAILED, PASSED, SKIPPED, StatusMap, XFAIL};
use crate::test_list::TestLists;

use super::Generation;

/// Which results of a suite can be read, and so what silence about a test means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvalType {
    /// The log names tests that pass and tests that fail; a test it does not name failed.
    #[default]
    PassAndFail,
    /// The log names failures only; a test it does not name passed.
    FailOnly,
}

/// The verdict on one list of tests. A test can be in neither half: its status is no word that the rules know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListVerdict {
    /// Tests that did what was wanted, in the order of the list.
    pub success: Vec<String>,
    /// Tests that did not.
    pub failure: Vec<String>,
}

impl ListVerdict {
    /// Tells whether nothing failed; true for a list without verdicts, as in the harness.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.failure.is_empty()
    }
}

/// How far the patch solved the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Resolution {
    /// Every listed test did what was wanted.
    #[serde(rename = "RESOLVED_FULL")]
    Full,
    /// Some of the failing tests pass now, and nothing broke.
    #[serde(rename = "RESOLVED_PARTIAL")]
    Partial,
    /// Anything else.
    #[serde(rename = "RESOLVED_NO")]
    No,
}

impl Resolution {
    /// Gives the short word: `FULL`, `PARTIAL`, `NO`.
    #[must_use]
    pub fn short(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Partial => "PARTIAL",
            Self::No => "NO",
        }
    }
}

impl std::fmt::Display for Resolution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RESOLVED_{}", self.short())
    }
}

/// The verdict on both lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Tests that had to go from failing to passing.
    pub fail_to_pass: ListVerdict,
    /// Tests that had to keep passing.
    pub pass_to_pass: ListVerdict,
    /// What follows from both.
    pub resolution: Resolution,
}

/// Which of the two lists a test stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum List {
    FailToPass,
    PassToPass,
}

/// Holds the statuses of a gradable log against the lists of its row.
#[must_use]
pub fn report(map: &StatusMap, lists: &TestLists, eval_type: EvalType, generation: Generation) -> Report {
    let judge = |list, tests: &[String]| {
        let mut verdict = ListVerdict::default();
        for test in tests {
            match succeeded(map, test, list, eval_type, generation) {
                Some(true) => verdict.success.push(test.clone()),
                Some(false) => verdict.failure.push(test.clone()),
                None => {}
            }
        }
        verdict
    };
    let fail_to_pass = judge(List::FailToPass, &lists.fail_to_pass);
    let pass_to_pass = judge(List::PassToPass, &lists.pass_to_pass);
    let resolution = resolution(&fail_to_pass, &pass_to_pass);
    Report { fail_to_pass, pass_to_pass, resolution }
}

fn resolution(fail_to_pass: &ListVerdict, pass_to_pass: &ListVerdict) -> Resolution {
    match (fail_to_pass.is_clean(), pass_to_pass.is_clean()) {
        (true, true) => Resolution::Full,
        (false, true) if !fail_to_pass.success.is_empty() => Resolution::Partial,
        _ => Resolution::No,
    }
}

/// Tells whether a listed test did what was wanted; `None` puts it in neither half of the verdict.
pub(crate) fn succeeded(
    map: &StatusMap,
    test: &str,
    list: List,
    eval_type: EvalType,
    generation: Generation,
) -> Option<bool> {
    if eval_type == EvalType::FailOnly {
        return Some(map.get(test) != Some(FAILED));
    }
    match (resolve_name(map, test, generation), generation) {
        (Some(PASSED | XFAIL), _) => Some(true),
        (Some(SKIPPED), Generation::V5) => Some(list == List::PassToPass),
        (None | Some(FAILED | ERROR), _) => Some(false),
        _ => None,
    }
}

/// Finds the status of a test under its name or, for an id that was cut inside its parameter, under the names that it
/// begins. Names that begin alike must agree on passing or not; then the first of them stands for all.
#[must_use]
pub fn resolve_name<'a>(map: &'a StatusMap, test: &str, generation: Generation) -> Option<&'a str> {
    if let Some(status) = map.get(test) {
        return Some(status);
    }
    let is_cut = test.matches('[').count() > test.matches(']').count();
    if !is_cut || generation == Generation::V4 {
        return None;
    }
    let passed = |status: &str| status == PASSED || status == XFAIL;
    let mut candidates = map.iter().filter(|(name, _)| name.starts_with(test)).map(|(_, status)| status);
    let first = candidates.next()?;
    candidates.all(|status| passed(status) == passed(first)).then_some(first)
}

#[cfg(test)]
mod tests;
