//! The pytest family: result lines of pytest's short summary and of its verbose mode.
//!
//! "Starts with a status" is a bare prefix test in all of them: `ERRORS` and `ERROR:` count, and the first word of the
//! line is stored as the status whatever it is.

use std::sync::LazyLock;

use regex::Regex;

use crate::py;
use crate::status::{ERROR, FAILED, PASSED, SKIPPED, StatusMap, XFAIL};

/// The statuses, in the order in which prefixes and suffixes are tried.
const STATUSES: [&str; 5] = [FAILED, PASSED, SKIPPED, ERROR, XFAIL];

/// Parses summary lines `STATUS id`; an id with spaces is cut at the first.
pub(super) fn plain(log: &str) -> StatusMap {
    log.split('\n').filter_map(result_line).collect()
}

/// Parses as [`plain`], then shortens a parameter that is an absolute path to its last segment.
pub(super) fn with_options(log: &str) -> StatusMap {
    let results = log.split('\n').filter_map(result_line);
    results.map(|(test, status)| (without_directories(&test).unwrap_or(test), status)).collect()
}

/// Parses colourful output, ids with spaces, and both orders of status and id.
pub(super) fn v2(log: &str) -> StatusMap {
    log.split('\n').filter_map(|line| v2_line(&without_colours(line))).collect()
}

/// Parses as [`v2`] did in SWE-bench 4: ids are cut at the first space.
pub(super) fn v2_single_token(log: &str) -> StatusMap {
    log.split('\n').filter_map(|line| v2_single_token_line(&without_colours(line))).collect()
}

/// Parses pydantic's logs as SWE-Gym does: [`v2_single_token`] after dropping the progress that stands between
/// `FAILED` and the id.
pub(super) fn swegym_pydantic(log: &str) -> StatusMap {
    static PROGRESS: LazyLock<Regex> = LazyLock::new(|| py::regex(r"^FAILED\s*\[.*?\]"));
    let line = |line: &str| v2_single_token_line(&PROGRESS.replace(&without_colours(line), FAILED));
    log.split('\n').filter_map(line).collect()
}

/// Parses verbose lines `id STATUS`, the default of SWE-smith.
pub(super) fn swesmith(log: &str) -> StatusMap {
    static LINE: LazyLock<Regex> =
        LazyLock::new(|| py::regex(r"^(?<name>\S+)\s+(?<status>FAILED|PASSED|SKIPPED|ERROR|XFAIL)"));
    let results = log.split('\n').filter_map(|line| LINE.captures(line));
    results.map(|found| (found["name"].to_owned(), found["status"].to_owned())).collect()
}

/// Reads one line of the short summary. Pytest's artefact `PASSED [100%]` is a result on purpose: there are dataset
/// rows that expect the id `[100%]`.
pub(super) fn result_line(line: &str) -> Option<(String, String)> {
    if !starts_with_status(line) {
        return None;
    }
    let line = if line.starts_with(FAILED) { line.replace(" - ", " ") } else { line.to_owned() };
    match py::tokens(&line)[..] {
        [status, test, ..] if !is_skip_count(status, test) => Some((test.to_owned(), status.to_owned())),
        _ => None,
    }
}

fn v2_line(line: &str) -> Option<(String, String)> {
    let line = line.split(" - ").next().filter(|_| line.starts_with(FAILED)).unwrap_or(line);
    let tokens = py::tokens(line);
    match &tokens[..] {
        [_] | [] => None,
        [status, test, ..] if starts_with_status(line) => {
            (!is_skip_count(status, test)).then(|| (tokens[1..].join(" "), (*status).to_owned()))
        }
        [test @ .., status] if ends_with_status(line) => Some((test.join(" "), (*status).to_owned())),
        _ => None,
    }
}

fn v2_single_token_line(line: &str) -> Option<(String, String)> {
    let starts = starts_with_status(line);
    let line = if line.starts_with(FAILED) { line.replace(" - ", " ") } else { line.to_owned() };
    match py::tokens(&line)[..] {
        [status, test, ..] if starts => Some((test.to_owned(), status.to_owned())),
        [test, status, ..] if ends_with_status(&line) => Some((test.to_owned(), status.to_owned())),
        _ => None,
    }
}

fn starts_with_status(line: &str) -> bool {
    STATUSES.iter().any(|status| line.starts_with(status))
}

fn ends_with_status(line: &str) -> bool {
    STATUSES.iter().any(|status| line.ends_with(status))
}

/// Tells whether a line `SKIPPED [3] file.py:1: reason` sums several skips up instead of naming a test.
fn is_skip_count(status: &str, test: &str) -> bool {
    let count = test.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    status == SKIPPED
        && count.is_some_and(|count| !count.is_empty() && count.chars().all(|c| c.is_ascii_digit()))
}

/// Rewrites `main[/a/b/c]` to `main[/c]` and drops what follows the last bracket; `None` when there is no parameter.
fn without_directories(test: &str) -> Option<String> {
    let open = test.find('[')?;
    let close = test.rfind(']').filter(|&close| close > open)?;
    let option = &test[open + 1..close];
    let is_path = option.starts_with('/') && !option.starts_with("//") && !option.contains('*');
    let last = option.rsplit('/').next().filter(|_| is_path);
    let option = last.map_or_else(|| option.to_owned(), |last| format!("/{last}"));
    Some(format!("{}[{option}]", &test[..open]))
}

/// Removes single-number colour codes and then all control characters, tabs and escapes included.
fn without_colours(line: &str) -> String {
    static COLOUR: LazyLock<Regex> = LazyLock::new(|| py::regex(r"\[\d+m"));
    COLOUR.replace_all(line, "").chars().filter(|c| !('\u{1}'..='\u{1f}').contains(c)).collect()
}
