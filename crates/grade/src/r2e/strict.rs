//! This project's rule: pytest's own result lines, compared test by test.

use std::collections::HashSet;
use std::sync::LazyLock;

use indexmap::IndexMap;
use regex::Regex;

use crate::py;
use crate::status::{ERROR, FAILED, PASSED, StatusMap};

use super::{SUMMARY, clean_output, plain_map};

/// What the strict rule read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StrictReading {
    /// Statuses by test, named as the expected map names them.
    pub status_map: StatusMap,
    /// How many headings of a summary the log holds. More than one means that a test printed one: the last counts,
    /// and the run deserves a look.
    pub sections: usize,
}

impl StrictReading {
    /// Compares every test. The strict reward is 1 when all of them agree.
    #[must_use]
    pub fn compare(&self, expected: &StatusMap) -> Vec<Comparison> {
        compare(&plain_map(&self.status_map), &plain_map(expected))
    }
}

/// Parses the last summary section of a log: the section starts with a line that is a heading and ends with the line
/// of totals, and a result line starts with its status.
///
/// Nothing in a line shows where the test's name ends and the message of its failure begins, so the names of
/// `expected` are asked first; otherwise the name of a failure ends at the first ` - `.
#[must_use]
pub fn parse_strict(log: &str, expected: &StatusMap) -> StrictReading {
    static HEADING: LazyLock<Regex> = LazyLock::new(|| py::regex(&format!(r"^=+ {SUMMARY} =+$")));
    let log = clean_output(log);
    let lines: Vec<&str> = log.split('\n').map(py::strip).collect();
    let headings: Vec<usize> = (0..lines.len()).filter(|&at| HEADING.is_match(lines[at])).collect();
    let Some(&last) = headings.last() else { return StrictReading::default() };
    let expected = plain_map(expected);
    let known: HashSet<&str> = expected.keys().map(String::as_str).collect();
    let section = lines[last + 1..].iter().take_while(|line| !line.starts_with("=="));
    let status_map = section.filter_map(|line| result(line, &known)).collect();
    StrictReading { status_map, sections: headings.len() }
}

fn result(line: &str, known: &HashSet<&str>) -> Option<(String, &'static str)> {
    let (word, rest) = line.split_once(' ')?;
    let status = [PASSED, FAILED, ERROR].into_iter().find(|status| *status == word)?;
    let (_, text) = rest.split_once("::").unwrap_or_default();
    let text = text.replace("::", ".");
    let (start, _) = text.split_once(" - ").filter(|_| status != PASSED).unwrap_or((&text, ""));
    Some((longest_known(&text, known).unwrap_or(start).to_owned(), status))
}

/// Finds the longest beginning of `text` that is a known name and ends where a message may begin.
fn longest_known<'a>(text: &'a str, known: &HashSet<&str>) -> Option<&'a str> {
    let ends = text.match_indices(" - ").map(|(end, _)| end).chain([text.len()]);
    ends.map(|end| &text[..end]).filter(|name| known.contains(name)).last()
}

/// One test of the parsed or the expected map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Name of the test.
    pub test: String,
    /// Status on the fixed commit; `None` when the test is not expected at all.
    pub expected: Option<String>,
    /// Status in the log; `None` when the log does not mention it.
    pub found: Option<String>,
}

impl Comparison {
    /// Tells whether the log has what was expected.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.found == self.expected
    }
}

/// Sets two maps side by side: expected tests first, then those that the log has in addition.
pub(crate) fn compare(parsed: &IndexMap<String, &str>, expected: &IndexMap<String, &str>) -> Vec<Comparison> {
    let unexpected = parsed.keys().filter(|name| !expected.contains_key(*name));
    let owned = |status: Option<&&str>| status.map(|status| (*status).to_owned());
    let comparison = |test: &String| Comparison {
        test: test.clone(),
        expected: owned(expected.get(test)),
        found: owned(parsed.get(test)),
    };
    expected.keys().chain(unexpected).map(comparison).collect()
}
