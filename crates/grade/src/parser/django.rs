//! Django's test runner, whose verbose lines are torn apart by whatever the tests print.

use std::sync::LazyLock;

use regex::Regex;

use crate::py;
use crate::status::{ERROR, FAILED, PASSED, SKIPPED, StatusMap};

/// A test whose name holds its own output, so that no line of it looks like a result.
const VERSION_TEST: &str = "--version is equivalent to version";
/// Output of a migration that runs into the name of the test after it.
const MIGRATION_NOISE: &str = "Applying sites.0002_alter_domain_unique...test_no_migrations";

/// Parses line by line, then once more over the whole text for results that other output pushed to a line of their own.
pub(super) fn parse(log: &str) -> Result<StatusMap, String> {
    let mut reader = Reader::default();
    for line in log.split('\n') {
        reader.read(py::strip(line))?;
    }
    reader.credit_interrupted(log);
    Ok(reader.map)
}

#[derive(Default)]
struct Reader<'a> {
    map: StatusMap,
    /// The last test that was announced; a line that starts with `ok` is credited to it, however late.
    announced: Option<&'a str>,
}

impl<'a> Reader<'a> {
    /// Applies every rule to a stripped line. The rules are independent and their order matters: later ones override.
    fn read(&mut self, line: &'a str) -> Result<(), String> {
        if line.contains(VERSION_TEST) {
            self.map.insert(VERSION_TEST, PASSED);
        }
        if let Some((test, _)) = line.split_once(" ... ") {
            self.announced = Some(test);
        }
        let line = self.read_passed(line);
        if let Some((test, _)) = line.split_once(" ... skipped") {
            self.map.insert(test, SKIPPED);
        }
        self.read_not_passed(line, " ... FAIL", "FAIL:", FAILED)?;
        self.read_not_passed(line, " ... ERROR", "ERROR:", ERROR)?;
        if let Some(test) = self.announced.filter(|_| line.starts_with("ok")) {
            self.map.insert(test, PASSED);
        }
        Ok(())
    }

    /// Records a pass and returns the line for the rules after it, without the noise if there was any.
    fn read_passed(&mut self, line: &'a str) -> &'a str {
        let suffixes = [" ... ok", " ... OK", " ...  OK"];
        let Some(suffix) = suffixes.into_iter().find(|suffix| line.ends_with(suffix)) else { return line };
        let is_noisy = line.starts_with(MIGRATION_NOISE);
        let rest = line.split_once("...").map(|(_, rest)| py::strip(rest)).filter(|_| is_noisy);
        let line = rest.unwrap_or(line);
        self.map.insert(line.strip_suffix(suffix).unwrap_or(line), PASSED);
        line
    }

    /// Records a result line (`name ... FAIL`) and a heading of the summary (`FAIL: name (module)`).
    fn read_not_passed(
        &mut self,
        line: &str,
        suffix: &str,
        heading: &str,
        status: &str,
    ) -> Result<(), String> {
        if line.ends_with(suffix) {
            self.map.insert(line.split(suffix).next().unwrap_or(line), status);
        }
        if line.starts_with(heading) {
            let tokens = py::tokens(line);
            let test = tokens.get(1).ok_or_else(|| format!("a line holds {heading:?} and no test name"))?;
            self.map.insert(*test, status);
        }
        Ok(())
    }

    /// Credits tests whose `ok` follows a line of one of three known interruptions.
    fn credit_interrupted(&mut self, log: &str) {
        static INTERRUPTIONS: LazyLock<[Regex; 3]> = LazyLock::new(|| {
            [
                r"(?m)^(.*?)\s\.\.\.\sTesting against Django installed in (?s:.*?) silenced\)\.\nok$",
                r"(?m)^(.*?)\s\.\.\.\sInternal Server Error: /.*/\nok$",
                r"(?m)^(.*?)\s\.\.\.\sSystem check identified no issues \(0 silenced\)\nok$",
            ]
            .map(py::regex)
        });
        for interruption in &*INTERRUPTIONS {
            for found in interruption.captures_iter(log) {
                self.map.insert(&found[1], PASSED);
            }
        }
    }
}
