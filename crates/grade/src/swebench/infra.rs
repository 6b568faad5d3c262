//! Signs in a log that the environment, not the patch, was at fault. Advice only: they never change a verdict, because
//! code under test can print each of them.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

/// How much a sign says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InfraTier {
    /// Probably the environment.
    Environment,
    /// The environment or the patch.
    Ambiguous,
}

/// A sign, in SWE-bench's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InfraLabel {
    /// A browser did not start.
    BrowserLaunchFailed,
    /// There is no X display.
    DisplayUnavailable,
    /// Memory ran out.
    OutOfMemory,
    /// The container daemon did not answer.
    ContainerUnavailable,
    /// No name could be resolved.
    NetworkUnreachable,
    /// A module is not installed, or the patch broke its import.
    MissingModule,
    /// Nothing was collected, or the patch broke collection.
    NoTestsCollected,
    /// The deadline passed, or the patch hangs.
    TestsTimedOut,
}

use InfraLabel::{
    BrowserLaunchFailed, ContainerUnavailable, DisplayUnavailable, MissingModule, NetworkUnreachable,
    NoTestsCollected, OutOfMemory, TestsTimedOut,
};

/// Signs in the order in which the first match counts.
const SIGNS: [(InfraLabel, &str); 8] = [
    (BrowserLaunchFailed, "Failed to launch|Failed to connect to the bus"),
    (DisplayUnavailable, "cannot open display|Missing X server|unable to open X display"),
    (OutOfMemory, "Cannot allocate memory|OutOfMemoryError|^Killed$"),
    (ContainerUnavailable, "Error response from daemon|Cannot connect to the Docker daemon"),
    (NetworkUnreachable, "Could not resolve host|Temporary failure in name resolution"),
    (MissingModule, "Cannot find module|MODULE_NOT_FOUND|ModuleNotFoundError"),
    (NoTestsCollected, "no tests ran|collected 0 items"),
    (TestsTimedOut, r"Timeout error: [\d.]+ seconds exceeded"),
];

impl InfraLabel {
    /// Tells how much the sign says.
    #[must_use]
    pub fn tier(self) -> InfraTier {
        match self {
            BrowserLaunchFailed | DisplayUnavailable | OutOfMemory | ContainerUnavailable
            | NetworkUnreachable => InfraTier::Environment,
            MissingModule | NoTestsCollected | TestsTimedOut => InfraTier::Ambiguous,
        }
    }

    /// Gives SWE-bench's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            BrowserLaunchFailed => "browser_launch_failed",
            DisplayUnavailable => "display_unavailable",
            OutOfMemory => "out_of_memory",
            ContainerUnavailable => "container_unavailable",
            NetworkUnreachable => "network_unreachable",
            MissingModule => "missing_module",
            NoTestsCollected => "no_tests_collected",
            TestsTimedOut => "tests_timed_out",
        }
    }
}

/// Finds the first sign, by the order of the table and not of the log.
#[must_use]
pub fn classify_infra(log: &str) -> Option<InfraLabel> {
    static PATTERNS: LazyLock<Vec<(InfraLabel, Regex)>> = LazyLock::new(|| {
        let compile =
            |pattern| Regex::new(&format!("(?m){pattern}")).expect("the signs are constants under test");
        SIGNS.iter().map(|(label, pattern)| (*label, compile(pattern))).collect()
    });
    PATTERNS.iter().find(|(_, pattern)| pattern.is_match(log)).map(|(label, _)| *label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sign_of_the_table_wins() {
        let cases = [
            ("", None),
            ("x Killed y", None),
            ("a\nKilled\nb", Some(OutOfMemory)),
            ("Timeout error: 1800 seconds exceeded.", Some(TestsTimedOut)),
            ("Timeout error: some seconds exceeded.", None),
            ("collected 0 items / 1 error", Some(NoTestsCollected)),
            ("ModuleNotFoundError: x\nfatal: Could not resolve host: y", Some(NetworkUnreachable)),
            ("no tests ran in 0.1s\nE ModuleNotFoundError", Some(MissingModule)),
            ("java.lang.OutOfMemoryError\nFailed to launch the browser", Some(BrowserLaunchFailed)),
            ("_tkinter: cannot open display", Some(DisplayUnavailable)),
            ("Error response from daemon: no such container", Some(ContainerUnavailable)),
        ];
        for (log, expected) in cases {
            assert_eq!(classify_infra(log), expected, "{log:?}");
        }
    }

    #[test]
    fn labels_print_as_they_serialize() {
        for (label, _) in SIGNS {
            assert_eq!(serde_json::to_value(label).unwrap(), label.as_str());
        }
        assert_eq!(
            (OutOfMemory.tier(), MissingModule.tier()),
            (InfraTier::Environment, InfraTier::Ambiguous)
        );
    }
}
