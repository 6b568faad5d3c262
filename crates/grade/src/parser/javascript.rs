//! JavaScript runners with one result on a line.

use std::sync::LazyLock;

use regex::Regex;

use crate::py;
use crate::status::{FAILED, PASSED, SKIPPED, StatusMap};

use super::lines::{Words, collect, meaning};

/// Parses `jest --verbose`.
pub(super) fn jest(log: &str) -> StatusMap {
    static LINE: LazyLock<Regex> =
        LazyLock::new(|| py::regex(r"^(?<word>[✓✕○])\s(?<name>.+?)(?:\s\(\d+\s*m?s\))?$"));
    let words: Words = &[("✓", PASSED), ("✕", FAILED), ("○", SKIPPED)];
    let found = log.split('\n').filter_map(|line| LINE.captures(py::strip(line)));
    found
        .filter_map(|found| Some((py::strip(&found["name"]).to_owned(), meaning(&found["word"], words)?)))
        .collect()
}

/// Parses jest's JSON after the row's own script turned it into lines `[PASSED] name`.
pub(super) fn jest_json(log: &str) -> StatusMap {
    static LINE: LazyLock<Regex> = LazyLock::new(|| py::regex(r"^\[(?<word>PASSED|FAILED)\]\s(?<name>.+)$"));
    collect(log, &LINE, &[("PASSED", PASSED), ("FAILED", FAILED)])
}

/// Parses vitest's verbose reporter.
pub(super) fn vitest(log: &str) -> StatusMap {
    static LINE: LazyLock<Regex> =
        LazyLock::new(|| py::regex(r"^(?<word>[✓×↓])\s(?<name>.+?)(?:\s(?:\d+\s*m?s?|\[skipped\]))?$"));
    collect(log, &LINE, &[("✓", PASSED), ("×", FAILED), ("↓", SKIPPED)])
}

/// Parses TAP as SWE-bench does: everything after the number is the name, dash and directives included.
pub(super) fn tap(log: &str) -> StatusMap {
    static LINE: LazyLock<Regex> = LazyLock::new(|| py::regex(r"^(?<word>ok|not ok) \d+ (?<name>.+)$"));
    collect(log, &LINE, &[("ok", PASSED), ("not ok", FAILED)])
}

/// Parses results of whole files, `PASS path (1.2 s)`; the timing and what follows it are dropped.
pub(super) fn test_files(log: &str) -> StatusMap {
    static TIMED: LazyLock<[Regex; 3]> = LazyLock::new(|| {
        [r"^(.*)\s\([\d.]+ms\)", r"^(.*)\s\([\d.]+\ss\)", r"^(.*)\s\([\d.]+s\)"].map(py::regex)
    });
    let untimed = |path: &str| {
        let timed = TIMED.iter().find_map(|pattern| pattern.captures(path));
        timed.map_or_else(|| path.to_owned(), |found| found[1].to_owned())
    };
    file_results(log).map(|(path, status)| (untimed(path), status)).collect()
}

/// Parses results of whole files where a file may be run again: failures are read first, so that a pass wins. A timing
/// is dropped only at the end of the line.
pub(super) fn test_files_passed_wins(log: &str) -> StatusMap {
    static TIMING: LazyLock<Regex> = LazyLock::new(|| py::regex(r"\s\([\d.]+(?:ms|\ss|s)\)$"));
    let results = |wanted: &'static str| file_results(log).filter(move |(_, status)| *status == wanted);
    let results = results(FAILED).chain(results(PASSED));
    results.map(|(path, status)| (TIMING.replace(path, "").into_owned(), status)).collect()
}

/// Finds lines `PASS path` and `FAIL path`, with any white space after the word.
fn file_results(log: &str) -> impl Iterator<Item = (&str, &'static str)> {
    log.split('\n').filter_map(|line| {
        let word = line.get(..4)?;
        let status = meaning(word, &[("PASS", PASSED), ("FAIL", FAILED)])?;
        Some((line[4..].strip_prefix(py::is_space)?, status))
    })
}
