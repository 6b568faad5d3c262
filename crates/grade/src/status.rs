//! Test names and what became of them.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// Raw status of a test that passed.
pub(crate) const PASSED: &str = "PASSED";
/// Raw status of a test that failed.
pub(crate) const FAILED: &str = "FAILED";
/// Raw status of a test that was not run.
pub(crate) const SKIPPED: &str = "SKIPPED";
/// Raw status of a test that broke outside its own assertions.
pub(crate) const ERROR: &str = "ERROR";
/// Raw status of a test that failed as announced.
pub(crate) const XFAIL: &str = "XFAIL";

/// What a log says about its tests: test name to raw status text, in the order of first mention.
///
/// Behaves as the Python dictionary that it stands for: a later status of the same test replaces the earlier one in
/// place. The status is kept as text, because parsers can store values that no benchmark knows (`ERROR:`), and those
/// decide verdicts too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StatusMap(IndexMap<String, String>);

impl StatusMap {
    /// Makes an empty map.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Records a status; the last one given for a name counts.
    pub fn insert(&mut self, test: impl Into<String>, status: impl Into<String>) {
        self.0.insert(test.into(), status.into());
    }

    /// Looks a test up by its exact name.
    #[must_use]
    pub fn get(&self, test: &str) -> Option<&str> {
        self.0.get(test).map(String::as_str)
    }

    /// Goes through tests and raw statuses in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(test, status)| (test.as_str(), status.as_str()))
    }

    /// Tells how many tests are recorded.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells whether nothing is recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: Into<String>, S: Into<String>> FromIterator<(N, S)> for StatusMap {
    fn from_iter<I: IntoIterator<Item = (N, S)>>(pairs: I) -> Self {
        let mut map = Self::new();
        for (test, status) in pairs {
            map.insert(test, status);
        }
        map
    }
}

/// What became of one test, in the words of the `test_results` table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestStatus {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It broke outside its own assertions, or could not be collected.
    Error,
    /// It was not run on purpose.
    Skipped,
    /// It failed, as announced.
    Xfail,
    /// It passed although a failure was announced.
    Xpass,
    /// The log does not mention it.
    Missing,
    /// The log gives it a word that is no status (a parser's artefact such as `ERROR:`).
    Unknown,
}

impl TestStatus {
    /// Reads a raw status; `None` is a test that the log does not mention.
    #[must_use]
    pub fn from_raw(raw: Option<&str>) -> Self {
        match raw {
            None => Self::Missing,
            Some(PASSED) => Self::Passed,
            Some(FAILED) => Self::Failed,
            Some(ERROR) => Self::Error,
            Some(SKIPPED) => Self::Skipped,
            Some(XFAIL) => Self::Xfail,
            Some("XPASS") => Self::Xpass,
            Some(_) => Self::Unknown,
        }
    }

    /// Gives the word that tables use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Error => "error",
            Self::Skipped => "skipped",
            Self::Xfail => "xfail",
            Self::Xpass => "xpass",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
        }
    }
}

impl std::fmt::Display for TestStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_statuses_replace_earlier_ones_in_place() {
        let map: StatusMap = [("b", FAILED), ("a", PASSED), ("b", PASSED)].into_iter().collect();
        let json = serde_json::to_string(&map).unwrap();
        assert_eq!(json, r#"{"b":"PASSED","a":"PASSED"}"#);
        assert_eq!(serde_json::from_str::<StatusMap>(&json).unwrap(), map);
        assert_eq!((map.len(), map.is_empty(), map.get("a"), map.get("c")), (2, false, Some(PASSED), None));
    }

    #[test]
    fn every_status_prints_as_it_serializes() {
        for raw in [
            None,
            Some(PASSED),
            Some(FAILED),
            Some(ERROR),
            Some(SKIPPED),
            Some(XFAIL),
            Some("XPASS"),
            Some("ERROR:"),
        ] {
            let status = TestStatus::from_raw(raw);
            assert_eq!(serde_json::to_value(status).unwrap(), status.to_string());
        }
    }
}
