//! Test runners of C and C++ projects.

use std::sync::LazyLock;

use regex::Regex;
use roxmltree::{Document, Node};

use crate::py;
use crate::status::{FAILED, PASSED, SKIPPED, StatusMap};

use super::lines::{Words, collect, meaning};

/// Parses the Tcl runner of redis and valkey. A failure's line ends in the file of the test, which is dropped.
pub(super) fn redis(log: &str) -> StatusMap {
    static LINE: LazyLock<Regex> =
        LazyLock::new(|| py::regex(r"^\[(?<word>ok|err|skip|ignore)\]:\s(?<name>.+?)(?:\s\(\d+\s*m?s\))?$"));
    static FILE: LazyLock<Regex> = LazyLock::new(|| py::regex(r"\s+in\s+\S+$"));
    let words: Words = &[("ok", PASSED), ("err", FAILED), ("skip", SKIPPED), ("ignore", SKIPPED)];
    let mut map = StatusMap::new();
    for found in log.split('\n').filter_map(|line| LINE.captures(py::strip(line))) {
        let Some(status) = meaning(&found["word"], words) else { continue };
        let name = if status == FAILED { FILE.replace(&found["name"], "") } else { found["name"].into() };
        map.insert(name, status);
    }
    map
}

/// Parses the runner of Automake, which jq uses.
pub(super) fn jq(log: &str) -> StatusMap {
    static LINE: LazyLock<Regex> = LazyLock::new(|| py::regex(r"^(?<word>PASS|FAIL):\s(?<name>.+)$"));
    collect(log, &LINE, &[("PASS", PASSED), ("FAIL", FAILED)])
}

/// Parses micropython's runner.
pub(super) fn micropython(log: &str) -> StatusMap {
    static LINE: LazyLock<Regex> = LazyLock::new(|| py::regex(r"^(?<word>pass|FAIL|skip)\s+(?<name>.+)$"));
    collect(log, &LINE, &[("pass", PASSED), ("FAIL", FAILED), ("skip", SKIPPED)])
}

/// Parses GoogleTest, also behind ctest's `N: ` prefix.
pub(super) fn googletest(log: &str) -> StatusMap {
    static LINE: LazyLock<Regex> =
        LazyLock::new(|| py::regex(r"^.*\[\s*(?<word>OK|FAILED)\s*\]\s(?<name>.*)\s\(.*\)$"));
    collect(log, &LINE, &[("OK", PASSED), ("FAILED", FAILED)])
}

/// Parses doctest's XML reporter: a subcase passed when no expression in it failed, also when there is none.
pub(super) fn doctest(log: &str) -> Result<StatusMap, String> {
    const END: &str = "</doctest>";
    let Some(start) = log.find("<doctest") else { return Ok(StatusMap::new()) };
    let length = log[start..].find(END).ok_or("the doctest report has no end")?;
    let report = &log[start..start + length + END.len()];
    let document =
        Document::parse(report).map_err(|error| format!("the doctest report is no XML: {error}"))?;
    let cases = document.root_element().descendants().filter(|node| node.has_tag_name("TestCase"));
    Ok(cases.flat_map(subcases).collect())
}

fn subcases<'a>(case: Node<'a, 'a>) -> impl Iterator<Item = (String, &'static str)> {
    let name = |node: Node<'a, 'a>| node.attribute("name").unwrap_or("None");
    let subcases = case.descendants().filter(|node| node.has_tag_name("SubCase"));
    subcases.map(move |subcase| {
        let mut expressions = subcase.descendants().filter(|node| node.has_tag_name("Expression"));
        let passed = expressions.all(|expression| expression.attribute("success") == Some("true"));
        (format!("{} > {}", name(case), name(subcase)), if passed { PASSED } else { FAILED })
    })
}
