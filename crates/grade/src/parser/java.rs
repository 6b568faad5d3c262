//! Build tools of the Java world.

use std::collections::VecDeque;
use std::sync::LazyLock;

use regex::Regex;

use crate::py;
use crate::status::{FAILED, PASSED, StatusMap};

use super::lines::{collect, meaning};

/// Parses Maven runs of one selected test each. Maven does not print tests that pass, so the trace of the command
/// names the test and the build's result is its status; both are queued, because their order in the log may differ.
pub(super) fn maven(log: &str) -> StatusMap {
    static SELECTOR: LazyLock<Regex> = LazyLock::new(|| py::regex(r"^.*-Dtest=(\S+)"));
    static RESULT: LazyLock<Regex> = LazyLock::new(|| py::regex(r"BUILD (SUCCESS|FAILURE)$"));
    let mut map = StatusMap::new();
    let mut selected = VecDeque::new();
    let mut unclaimed = VecDeque::new();
    for line in log.split('\n').map(py::strip) {
        selected.extend(SELECTOR.captures(line).map(|found| found[1].to_owned()));
        let Some(result) = RESULT.captures(line) else { continue };
        let status = if &result[1] == "SUCCESS" { PASSED } else { FAILED };
        match selected.pop_front() {
            Some(test) => map.insert(test, status),
            None => unclaimed.push_back(status),
        }
    }
    for (test, status) in selected.into_iter().zip(unclaimed) {
        map.insert(test, status);
    }
    map
}

/// Parses the JUnit task of Ant.
pub(super) fn ant(log: &str) -> StatusMap {
    static LINE: LazyLock<Regex> =
        LazyLock::new(|| py::regex(r"^\[junit\]\s+\[(?<word>PASS|FAIL|ERR)\]\s+(?<name>.*)$"));
    collect(log, &LINE, &[("PASS", PASSED), ("FAIL", FAILED), ("ERR", FAILED)])
}

/// Parses Gradle with a listener that prints `Class > method STATUS`, where the status may come on a later line.
pub(super) fn gradle_custom(log: &str) -> StatusMap {
    static RESULT: LazyLock<Regex> =
        LazyLock::new(|| py::regex(r"^(?<name>[^>].+)\s+(?<word>PASSED|FAILED)$"));
    static NAME: LazyLock<Regex> = LazyLock::new(|| py::regex(r"^[^>]\S*\s+>\s+\S+$"));
    let mut map = StatusMap::new();
    let mut pending = None;
    for line in log.split('\n').map(py::strip) {
        if let Some(result) = RESULT.captures(line) {
            map.insert(&result["name"], &result["word"]);
            pending = None;
        } else if NAME.is_match(line) {
            pending = Some(line);
        } else if let Some(status) = meaning(line, &[("PASSED", PASSED), ("FAILED", FAILED)])
            && let Some(test) = pending.take()
        {
            map.insert(test, status);
        }
    }
    map
}
