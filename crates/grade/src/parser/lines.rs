//! Formats with one result on a line, and the helper that reads them.

use std::sync::LazyLock;

use regex::Regex;

use crate::py;
use crate::status::{FAILED, PASSED, SKIPPED, StatusMap};

/// Words of a format and the statuses that they mean. A word that is not listed records nothing.
pub(super) type Words = &'static [(&'static str, &'static str)];

/// Collects the groups `name` and `word` of every stripped line that the pattern matches.
pub(super) fn collect(log: &str, pattern: &Regex, words: Words) -> StatusMap {
    let found = log.split('\n').filter_map(|line| pattern.captures(py::strip(line)));
    found.filter_map(|found| Some((found["name"].to_owned(), meaning(&found["word"], words)?))).collect()
}

/// Looks a word up.
pub(super) fn meaning(word: &str, words: Words) -> Option<&'static str> {
    words.iter().find(|(known, _)| *known == word).map(|(_, status)| *status)
}

/// Parses `go test -v`. Subtests count, because lines are stripped; package lines do not.
pub(super) fn gotest(log: &str) -> StatusMap {
    static LINE: LazyLock<Regex> =
        LazyLock::new(|| py::regex(r"^--- (?<word>PASS|FAIL|SKIP): (?<name>.+) \(.+\)$"));
    collect(log, &LINE, &[("PASS", PASSED), ("FAIL", FAILED), ("SKIP", SKIPPED)])
}

/// Parses `cargo test`. Ignored tests and names with spaces (doctests) are not recorded.
pub(super) fn cargo(log: &str) -> StatusMap {
    static LINE: LazyLock<Regex> =
        LazyLock::new(|| py::regex(r"^test\s+(?<name>\S+)\s+\.\.\.\s+(?<word>\w+)$"));
    collect(log, &LINE, &[("ok", PASSED), ("FAILED", FAILED)])
}

/// Parses `phpunit --testdox`, where a heading names the suite of the lines after it. Lines are not stripped.
pub(super) fn phpunit(log: &str) -> StatusMap {
    static SUITE: LazyLock<Regex> = LazyLock::new(|| py::regex(r"^(\w.+) \(.+\)$"));
    static TEST: LazyLock<Regex> = LazyLock::new(|| py::regex(r"^\s*(?<word>[✔✘↩])\s*(?<name>.*)$"));
    let words: Words = &[("✔", PASSED), ("✘", FAILED), ("↩", SKIPPED)];
    let mut map = StatusMap::new();
    // The word that the original prints for a suite that it has not seen yet.
    let mut suite = "None".to_owned();
    for line in log.split('\n') {
        if let Some(heading) = SUITE.captures(line) {
            heading[1].clone_into(&mut suite);
        } else if let Some(test) = TEST.captures(line)
            && let Some(status) = meaning(&test["word"], words)
        {
            map.insert(format!("{suite} > {}", &test["name"]), status);
        }
    }
    map
}
