//! Test runners of Ruby projects.

use std::sync::LazyLock;

use regex::Regex;

use crate::py;
use crate::status::{FAILED, PASSED, SKIPPED, StatusMap};

use super::lines::collect;

/// Parses minitest's verbose lines `Class#test. = 0.01 s = .`.
pub(super) fn minitest(log: &str) -> StatusMap {
    static LINE: LazyLock<Regex> = LazyLock::new(|| py::regex(r"^(?<name>.+)\. .*=.*(?<word>\.|F|E).*$"));
    collect(log, &LINE, &[(".", PASSED), ("F", FAILED), ("E", FAILED)])
}

/// Parses cucumber's progress format: the last mark of a feature's dots decides.
pub(super) fn cucumber(log: &str) -> StatusMap {
    static LINE: LazyLock<Regex> = LazyLock::new(|| py::regex(r"^(?<name>.*) \.+(?<word>\.|F)"));
    collect(log, &LINE, &[(".", PASSED), ("F", FAILED)])
}

/// Parses test-unit's verbose lines `test: name: .`; an omission is a skip.
pub(super) fn ruby_unit(log: &str) -> StatusMap {
    static LINE: LazyLock<Regex> =
        LazyLock::new(|| py::regex(r"^(?:test: )?(?<name>.+):\s+(?<word>\.|E\b|F\b|O\b)"));
    collect(log, &LINE, &[(".", PASSED), ("E", FAILED), ("F", FAILED), ("O", SKIPPED)])
}

/// Parses RSpec's JSON after the row's own script turned it into lines; pending examples are not recorded.
pub(super) fn rspec_transformed_json(log: &str) -> StatusMap {
    static LINE: LazyLock<Regex> = LazyLock::new(|| py::regex(r"^(?<name>.+) - (?<word>passed|failed)"));
    collect(log, &LINE, &[("passed", PASSED), ("failed", FAILED)])
}
