//! The Test Anything Protocol as Perl's `Test::More` and plain shell scripts print it.
//!
//! SWE-bench's `parse_log_tap` keeps the dash and the directives in a test's name; this one reads them.

use std::sync::LazyLock;

use regex::Regex;

use crate::py;
use crate::status::{FAILED, PASSED, SKIPPED, StatusMap, XFAIL};

/// Parses result lines `ok 3 - name # SKIP reason`. A line without a name is called by its number, and a line without
/// a number by its position. Lines of subtests are indented and do not count, as their parent has a line of its own.
pub(super) fn parse(log: &str) -> StatusMap {
    static LINE: LazyLock<Regex> = LazyLock::new(|| {
        py::regex(
            r"^(?<not>not )?ok\b(?:\s+(?<number>\d+))?(?:\s+-)?(?:\s+(?<name>.*?))?\s*(?:#\s*(?i:(?<directive>skip|todo))\b.*)?$",
        )
    });
    let mut map = StatusMap::new();
    for (index, found) in log.split('\n').filter_map(|line| LINE.captures(line)).enumerate() {
        let number =
            found.name("number").map_or_else(|| (index + 1).to_string(), |number| number.as_str().to_owned());
        let name =
            found.name("name").map(|name| name.as_str().replace("\\#", "#")).filter(|name| !name.is_empty());
        let directive = found.name("directive").map_or("", |directive| directive.as_str());
        let status = status(found.name("not").is_none(), &directive.to_ascii_uppercase());
        map.insert(name.unwrap_or_else(|| format!("test {number}")), status);
    }
    map
}

fn status(ok: bool, directive: &str) -> &'static str {
    match (ok, directive) {
        (true, "SKIP") => SKIPPED,
        (true, "TODO") => "XPASS",
        (false, "TODO") => XFAIL,
        (true, _) => PASSED,
        (false, _) => FAILED,
    }
}
