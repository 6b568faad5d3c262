//! From a log to statuses: which part of it counts, and whether it may be graded at all.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Regex, RegexSet};
use thiserror::Error;

use crate::parser::{LogParser, ParseError};
use crate::py;
use crate::status::{ERROR, FAILED, StatusMap};

use super::Generation;

/// Text that stands before the tests' own output.
pub(crate) const START: &str = ">>>>> Start Test Output";
/// Text that stands after it.
pub(crate) const END: &str = ">>>>> End Test Output";
/// Text before the exit code of the test command.
pub(crate) const EXIT_CODE: &str = ">>>>> Test Exit Code: ";

/// Lines of the harness that say that there was no test run to grade.
const FAILURE_MARKERS: [&str; 4] =
    [">>>>> Patch Apply Failed", ">>>>> Reset Failed", ">>>>> Tests Errored", ">>>>> Tests Timed Out"];

/// What a log says, and whether it may be graded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogReading {
    /// Statuses by test; empty when the log may not be graded.
    pub status_map: StatusMap,
    /// Why the log may not be graded, or `None` when it may.
    pub not_found: Option<NotFound>,
}

impl LogReading {
    /// Tells whether the log may be graded (`found` in the harness's words).
    #[must_use]
    pub fn found(&self) -> bool {
        self.not_found.is_none()
    }

    fn graded(status_map: StatusMap) -> Self {
        Self { status_map, not_found: None }
    }

    fn refused(reason: NotFound) -> Self {
        Self { status_map: StatusMap::new(), not_found: Some(reason) }
    }
}

/// Why a log may not be graded. None of these is a fault: code under test can cause each of them.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotFound {
    /// The harness wrote that the patch did not apply, or that the tests did not run or end.
    #[error("log holds the harness's failure marker {0:?}")]
    FailureMarker(&'static str),
    /// The log does not show where the tests' output starts or ends.
    #[error("log lacks the marker {0:?}")]
    MissingMarker(&'static str),
    /// No result was found, and nothing says that a suite ran.
    #[error("no test results found")]
    NoResults,
    /// The test command failed, but no recorded test did.
    #[error("test command exited with {exit_code}, yet no test failed")]
    ExitCodeMismatch {
        /// Exit code of the test command.
        exit_code: i64,
    },
    /// The test command was killed, but no recorded test failed. Stored logs never say this.
    #[error("test command was killed, yet no test failed")]
    Killed,
    /// The parser cannot read the log; the original harness raises and writes no report.
    #[error(transparent)]
    Parser(#[from] ParseError),
}

impl NotFound {
    /// Gives a word for tables: `failure_marker`, `missing_marker`, `no_results`, `exit_code_mismatch`,
    /// `killed`, `parser`.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::FailureMarker(_) => "failure_marker",
            Self::MissingMarker(_) => "missing_marker",
            Self::NoResults => "no_results",
            Self::ExitCodeMismatch { .. } => "exit_code_mismatch",
            Self::Killed => "killed",
            Self::Parser(_) => "parser",
        }
    }
}

/// Reads a stored log as a whole: newlines, markers, results, evidence, exit code.
///
/// Bit for bit what harness 5.0.2 (or 4.1.0) does, with its weaknesses: the first markers and the first exit code
/// count, so that code that runs before the tests can forge them. Where we ran the tests, [`read_run`] is safer.
#[must_use]
pub fn read_log(text: &str, parser: LogParser, generation: Generation) -> LogReading {
    let text = py::universal_newlines(text);
    let slice = match test_slice(&text) {
        Ok(slice) => slice,
        Err(reason) => return LogReading::refused(reason),
    };
    match generation {
        Generation::V4 => settle(parser.parse_as(generation, slice).map_err(NotFound::Parser)),
        Generation::V5 => settle(read_v5(slice, &text, exit_in(&text), parser)),
    }
}

/// What one test run in a sandbox of ours printed, with boundaries that the code under test cannot forge.
#[derive(Clone, Copy, Debug)]
pub struct RunOutput<'a> {
    /// What the set-up command printed, stdout and stderr interleaved.
    pub setup: &'a str,
    /// What the test command printed, stdout and stderr interleaved.
    pub tests: &'a str,
    /// Exit code of the test command; `None` when a signal ended it. The harness does not grade a run that a deadline
    /// ended, so the caller must not either.
    pub exit_code: Option<i32>,
}

/// Where results may be found when the tests' own output holds none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Nowhere. Set-up runs code of the patch too (`pip install -e .`), which could print results.
    #[default]
    TestOutput,
    /// In the set-up's output too, as the harness does with a stored log.
    WholeLog,
}

/// Reads a run whose boundaries come from the sandbox, by the gates of harness 5.0.2 that remain: results, evidence
/// that a suite ran, exit code. No marker is searched: text such as `>>>>> End Test Output` in the output means nothing.
#[must_use]
pub fn read_run(run: &RunOutput<'_>, scope: Scope, parser: LogParser) -> LogReading {
    let tests = py::universal_newlines(run.tests);
    let whole: Cow<'_, str> = match scope {
        Scope::TestOutput => Cow::Borrowed(&*tests),
        Scope::WholeLog => format!("{}\n{tests}", py::universal_newlines(run.setup)).into(),
    };
    let exit = run.exit_code.map_or(Exit::Killed, |code| Exit::Code(code.into()));
    settle(read_v5(&tests, &whole, exit, parser))
}

fn settle(result: Result<StatusMap, NotFound>) -> LogReading {
    result.map_or_else(LogReading::refused, LogReading::graded)
}

/// Finds the text between the first start marker and the first end marker after it.
fn test_slice(text: &str) -> Result<&str, NotFound> {
    if let Some(marker) = FAILURE_MARKERS.into_iter().find(|marker| text.contains(marker)) {
        return Err(NotFound::FailureMarker(marker));
    }
    if !text.contains(END) {
        return Err(NotFound::MissingMarker(END));
    }
    let (_, rest) = text.split_once(START).ok_or(NotFound::MissingMarker(START))?;
    // An end marker that stands only before the start cuts nothing off.
    Ok(rest.split_once(END).map_or(rest, |(slice, _)| slice))
}

/// How the test command ended.
#[derive(Clone, Copy)]
enum Exit {
    /// With an exit code.
    Code(i64),
    /// By a signal.
    Killed,
    /// The log does not say.
    Unknown,
}

fn read_v5(slice: &str, whole: &str, exit: Exit, parser: LogParser) -> Result<StatusMap, NotFound> {
    let mut map = parser.parse(slice)?;
    if map.is_empty() && whole.len() != slice.len() {
        map = parser.parse(whole)?;
    }
    if map.is_empty() && !shows_that_a_suite_ran(whole) {
        return Err(NotFound::NoResults);
    }
    let has_failure = map.iter().any(|(_, status)| status == FAILED || status == ERROR);
    if has_failure || map.is_empty() {
        return Ok(map);
    }
    match exit {
        Exit::Code(0) | Exit::Unknown => Ok(map),
        Exit::Code(exit_code) => Err(NotFound::ExitCodeMismatch { exit_code }),
        Exit::Killed => Err(NotFound::Killed),
    }
}

/// Finds the first exit code that the log reports.
fn exit_in(text: &str) -> Exit {
    static CODE: LazyLock<Regex> = LazyLock::new(|| py::regex(&format!(r"{EXIT_CODE}(-?[0-9]+)")));
    // A number too long for an integer is still a failure.
    CODE.captures(text).map_or(Exit::Unknown, |found| Exit::Code(found[1].parse().unwrap_or(i64::MAX)))
}

/// Tells whether a summary of some runner reports that at least one test ran.
fn shows_that_a_suite_ran(text: &str) -> bool {
    static EVIDENCE: LazyLock<RegexSet> = LazyLock::new(|| {
        RegexSet::new([
            r"Executed 0*[1-9]\d* of \d+",
            r"TOTAL: 0*[1-9]\d* (?:SUCCESS|FAILED)",
            r"\b0*[1-9]\d* passing",
            r"Tests: +0*[1-9]\d*",
            r"Test Suites:.*\b0*[1-9]\d* total",
            r"(?m)^# tests 0*[1-9]\d*",
            r"\b0*[1-9]\d* specs?, \d+ failures?",
            r"(?m)': ok$",
        ])
        .expect("the patterns are constants that tests compile")
    });
    EVIDENCE.is_match(text)
}

#[cfg(test)]
mod tests;
