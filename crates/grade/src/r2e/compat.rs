//! The seed's own rule.

use std::sync::LazyLock;

use regex::Regex;

use crate::py;
use crate::status::{ERROR, FAILED, PASSED, StatusMap};

use super::{SUMMARY, comparable_map};

/// Removes colour and carriage returns, which the seed's runner does before it parses.
#[must_use]
pub fn clean_output(output: &str) -> String {
    static NOISE: LazyLock<Regex> = LazyLock::new(|| py::regex(r"\x1b\[[0-9;]*m|\r"));
    NOISE.replace_all(output, "").into_owned()
}

/// Parses a log as the seed does, out of the text between the first and the second mention of the summary.
///
/// A status is found anywhere in the line, `PASSED` before `FAILED` before `ERROR`. The name is what follows the first
/// `::`, its parts joined with dots; collection errors have none and share the empty name.
#[must_use]
pub fn parse_compat(log: &str) -> StatusMap {
    let section = log.split(SUMMARY).nth(1).unwrap_or_default();
    py::strip(section).split('\n').filter_map(result).collect()
}

fn result(line: &str) -> Option<(String, &'static str)> {
    let status = [PASSED, FAILED, ERROR].into_iter().find(|status| line.contains(status))?;
    let name = line.split("::").skip(1).collect::<Vec<_>>().join(".");
    let name = if status == PASSED { name } else { name.split(" - ").next().unwrap_or_default().to_owned() };
    Some((name, status))
}

/// Rewards 1 when both maps have as many names and every parsed one is expected with the same status, else 0.
///
/// The empty name is not compared, but it counts.
#[must_use]
pub fn reward_compat(parsed: &StatusMap, expected: &StatusMap) -> f64 {
    let (parsed, expected) = (comparable_map(parsed), comparable_map(expected));
    let agrees = |(name, status): (&String, &&str)| name.is_empty() || expected.get(name) == Some(status);
    let is_same = parsed.len() == expected.len() && parsed.iter().all(agrees);
    f64::from(u8::from(is_same))
}
