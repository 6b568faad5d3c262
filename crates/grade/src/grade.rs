//! The result that every benchmark family gives: one reward, and one verdict per test.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::r2e;
use crate::status::{PASSED, StatusMap, TestStatus};
use crate::swebench::{self, EvalType, Generation, List, LogReading, Resolution};
use crate::test_list::TestLists;

/// Why a test is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suite {
    /// It must go from failing to passing.
    F2p,
    /// It must keep passing.
    P2p,
    /// It must do what it did on the fixed commit (R2E-Gym's expected map).
    Regression,
    /// It was run, but decides nothing.
    Other,
}

impl Suite {
    /// Gives the word that tables use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F2p => "f2p",
            Self::P2p => "p2p",
            Self::Regression => "regression",
            Self::Other => "other",
        }
    }
}

/// The verdict on one test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestVerdict {
    /// The test's name, as the row has it; as the log has it when the row has none.
    pub test_id: String,
    /// Why it is looked at.
    pub suite: Suite,
    /// The raw status that was wanted; `None` when nothing was.
    pub expected: Option<String>,
    /// What became of it.
    pub status: TestStatus,
    /// Whether the rules count it as a success. A test that decides nothing is always one.
    pub ok: bool,
}

/// How many tests of a list did what was wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Tests in the list.
    pub total: usize,
    /// Tests of it that are a success.
    pub passed: usize,
}

/// The verdict on one test run. The reward is 1 when everything that was wanted happened, else 0; there is no third.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grade {
    /// 0 or 1.
    pub reward: f64,
    /// SWE-bench's resolution; `None` for other families and for a log that could not be graded.
    pub resolution: Option<Resolution>,
    /// Whether the log held results that may be graded.
    pub found: bool,
    /// Why it did not.
    pub reason_not_found: Option<String>,
    /// Tests that had to go from failing to passing.
    pub f2p: Tally,
    /// Tests that had to keep passing.
    pub p2p: Tally,
    /// One verdict per test: the listed ones in the order of their lists, then all others in the order of the log.
    pub tests: Vec<TestVerdict>,
}

impl Grade {
    /// Grades a SWE-bench reading (from [`swebench::read_log`] or [`swebench::read_run`]) against the lists of its row.
    ///
    /// A log that may not be graded gets reward 0, no resolution, and all its listed tests are missing.
    #[must_use]
    pub fn swebench(
        reading: &LogReading,
        lists: &TestLists,
        eval_type: EvalType,
        generation: Generation,
    ) -> Self {
        let map = &reading.status_map;
        let verdict = |test: &String, list| listed(reading, test, list, eval_type, generation);
        let f2p: Vec<_> = lists.fail_to_pass.iter().map(|test| verdict(test, List::FailToPass)).collect();
        let p2p: Vec<_> = lists.pass_to_pass.iter().map(|test| verdict(test, List::PassToPass)).collect();
        let resolution =
            reading.found().then(|| swebench::report(map, lists, eval_type, generation).resolution);
        let (f2p_tally, p2p_tally) = (tally(&f2p), tally(&p2p));
        let mut tests: Vec<TestVerdict> = f2p.into_iter().chain(p2p).collect();
        tests.extend(others(map, &tests));
        Self {
            reward: reward(resolution == Some(Resolution::Full)),
            resolution,
            found: reading.found(),
            reason_not_found: reading.not_found.as_ref().map(ToString::to_string),
            f2p: f2p_tally,
            p2p: p2p_tally,
            tests,
        }
    }

    /// Grades an R2E-Gym run by the seed's own rule, bit for bit. The log is the output as it came.
    #[must_use]
    pub fn r2e_compat(log: &str, expected: &StatusMap) -> Self {
        let parsed = r2e::parse_compat(&r2e::clean_output(log));
        let tests = r2e::compare(&r2e::comparable_map(&parsed), &r2e::comparable_map(expected));
        Self::r2e(r2e::reward_compat(&parsed, expected), !parsed.is_empty(), tests)
    }

    /// Grades an R2E-Gym run by the strict rule. The log is the output as it came.
    #[must_use]
    pub fn r2e_strict(log: &str, expected: &StatusMap) -> Self {
        let reading = r2e::parse_strict(log, expected);
        let tests = reading.compare(expected);
        let all_agree = tests.iter().all(r2e::Comparison::agrees);
        Self::r2e(reward(all_agree), !reading.status_map.is_empty(), tests)
    }

    fn r2e(reward: f64, found: bool, tests: Vec<r2e::Comparison>) -> Self {
        Self {
            reward,
            resolution: None,
            found,
            reason_not_found: (!found).then(|| "no test summary found".to_owned()),
            f2p: Tally::default(),
            p2p: Tally::default(),
            tests: tests.into_iter().map(TestVerdict::from).collect(),
        }
    }
}

impl From<r2e::Comparison> for TestVerdict {
    fn from(test: r2e::Comparison) -> Self {
        Self {
            ok: test.agrees(),
            suite: Suite::Regression,
            status: TestStatus::from_raw(test.found.as_deref()),
            test_id: test.test,
            expected: test.expected,
        }
    }
}

/// Judges a listed test. In a log that may not be graded it is missing and no success, whatever silence means.
fn listed(
    reading: &LogReading,
    test: &str,
    list: List,
    eval_type: EvalType,
    generation: Generation,
) -> TestVerdict {
    let map = &reading.status_map;
    TestVerdict {
        test_id: test.to_owned(),
        suite: if list == List::FailToPass { Suite::F2p } else { Suite::P2p },
        expected: Some(PASSED.to_owned()),
        status: TestStatus::from_raw(swebench::resolve_name(map, test, generation)),
        ok: reading.found() && swebench::succeeded(map, test, list, eval_type, generation) == Some(true),
    }
}

/// Lists the tests of a log that no list names.
fn others(map: &StatusMap, listed: &[TestVerdict]) -> Vec<TestVerdict> {
    let listed: HashSet<&str> = listed.iter().map(|test| test.test_id.as_str()).collect();
    let others = map.iter().filter(|(name, _)| !listed.contains(name));
    let verdict = |(name, status): (&str, &str)| TestVerdict {
        test_id: name.to_owned(),
        suite: Suite::Other,
        expected: None,
        status: TestStatus::from_raw(Some(status)),
        ok: true,
    };
    others.map(verdict).collect()
}

fn tally(tests: &[TestVerdict]) -> Tally {
    Tally { total: tests.len(), passed: tests.iter().filter(|test| test.ok).count() }
}

fn reward(deserved: bool) -> f64 {
    f64::from(u8::from(deserved))
}

#[cfg(test)]
mod tests;
