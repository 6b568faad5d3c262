//! The Python repositories with a format of their own.

use std::sync::LazyLock;

use regex::Regex;

use crate::py;
use crate::status::{ERROR, FAILED, PASSED, StatusMap};

use super::pytest;

/// Parses matplotlib's pytest logs: parameters that print as an enum's name become its number.
pub(super) fn matplotlib(log: &str) -> StatusMap {
    pytest::plain(&log.replace("MouseButton.LEFT", "1").replace("MouseButton.RIGHT", "3"))
}

/// Parses seaborn's pytest logs, where only passes and failures are recorded.
pub(super) fn seaborn(log: &str) -> StatusMap {
    log.split('\n').filter_map(seaborn_line).collect()
}

fn seaborn_line(line: &str) -> Option<(&str, &str)> {
    let tokens = py::tokens(line);
    let [first, second, ..] = tokens[..] else { return None };
    if line.starts_with(FAILED) {
        Some((second, FAILED))
    } else if line.contains(" PASSED ") {
        (second == PASSED).then_some((first, PASSED))
    } else {
        line.starts_with(PASSED).then_some((second, PASSED))
    }
}

/// Parses the logs of sympy's own runner: headings of failures first, then the verbose lines, which win.
pub(super) fn sympy(log: &str) -> StatusMap {
    let mut map: StatusMap = log.split('\n').flat_map(sympy_headings).map(|test| (test, FAILED)).collect();
    for line in log.split('\n').map(py::strip).filter(|line| line.starts_with("test_")) {
        let outcomes = [(" E", ERROR), (" F", FAILED), (" ok", PASSED)];
        let outcome = outcomes.iter().find(|(suffix, _)| line.ends_with(suffix));
        if let (Some((_, status)), Some(test)) = (outcome, py::tokens(line).first()) {
            map.insert(*test, *status);
        }
    }
    map
}

/// Finds the headings `____ path/test_x.py:test_y ____`. The underscores may be absent, as in the original.
fn sympy_headings(line: &str) -> Vec<String> {
    static HEADING: LazyLock<Regex> = LazyLock::new(|| py::regex(r"_* (.*)\.py:(.*) _*"));
    if !line.contains(".py:") {
        return Vec::new();
    }
    HEADING.captures_iter(line).map(|found| format!("{}.py:{}", &found[1], &found[2])).collect()
}
