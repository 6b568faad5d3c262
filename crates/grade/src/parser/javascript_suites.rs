//! JavaScript runners whose lines must be read together with the suites around them.

use std::sync::LazyLock;

use regex::Regex;

use crate::py;
use crate::status::{FAILED, PASSED, StatusMap};

use super::lines::meaning;

/// Parses karma's spec reporter (preact) after the browser started and up to the summary.
///
/// The suite stack follows the original exactly, also where it is odd: a shallower heading pops one level and is not
/// pushed itself. A heading that pops more than was pushed makes the original raise.
pub(super) fn karma(log: &str) -> Result<StatusMap, String> {
    static LINE: LazyLock<Regex> =
        LazyLock::new(|| py::regex(r"^(?<indent>\s*)(?<word>[✔✖])?\s(?<name>.*)$"));
    let mut map = StatusMap::new();
    let mut suites: Vec<String> = Vec::new();
    let mut depth = None;
    for line in karma_lines(log) {
        let Some(found) = LINE.captures(line) else { continue };
        let name = &found["name"];
        if let Some(word) = found.name("word") {
            let status = if word.as_str() == "✔" { PASSED } else { FAILED };
            let full: Vec<&str> = suites.iter().map(String::as_str).chain([name]).collect();
            map.insert(full.join(" > "), status);
            continue;
        }
        let indent = found["indent"].chars().count();
        if indent == 0 || Some(indent) == depth {
            continue;
        }
        if depth.is_none_or(|depth| indent > depth) {
            suites.push(name.to_owned());
        } else {
            suites.pop().ok_or("a heading closes more suites than were opened")?;
        }
        depth = Some(indent);
    }
    Ok(map)
}

/// Cuts out the lines between the first start of a browser and the summary.
fn karma_lines(log: &str) -> impl Iterator<Item = &str> {
    let is_start = |line: &&str| line.contains("Starting browser");
    let lines = log.split('\n').take_while(|line| !line.starts_with("SUMMARY:"));
    lines.skip_while(move |line| !is_start(line)).filter(move |line| !is_start(line))
}

/// Parses the jest runs of calypso: each echo of the jest command opens a block, and indentation nests the suites.
pub(super) fn calypso(log: &str) -> StatusMap {
    let mut map = StatusMap::new();
    let mut suites: Vec<(&str, usize)> = Vec::new();
    for block in log.split(" ./node_modules/.bin/jest ").skip(1) {
        let ends = |line: &&str| !line.starts_with("Test Suites") && !line.starts_with("  ● ");
        for line in block.split('\n').take_while(ends) {
            let (indent, text) = (py::indent(line), py::strip(line));
            if let Some((test, status)) = calypso_result(text) {
                let suites: Vec<&str> = suites.iter().map(|(name, _)| *name).collect();
                map.insert(py::strip(&format!("{} - {test}", suites.join(" - "))), status);
            } else if indent > 0 {
                while suites.pop_if(|(_, open)| *open >= indent).is_some() {}
                suites.push((text, indent));
            }
        }
    }
    map
}

fn calypso_result(text: &str) -> Option<(&str, &'static str)> {
    static TIMING: LazyLock<Regex> = LazyLock::new(|| py::regex(r"\(\d+ms\)$"));
    let mut chars = text.chars();
    let status = meaning(chars.next()?.encode_utf8(&mut [0; 4]), &[("✓", PASSED), ("✕", FAILED)])?;
    let test = chars.as_str().strip_prefix(py::is_space).unwrap_or(chars.as_str());
    Some((TIMING.find(test).map_or(test, |timing| &test[..timing.start()]), status))
}
