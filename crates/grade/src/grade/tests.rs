//! The uniform result, for each family.

use super::*;
use crate::parser::LogParser;
use crate::swebench::{RunOutput, Scope, read_run};

fn lists() -> TestLists {
    let owned = |tests: &[&str]| tests.iter().map(|test| (*test).to_owned()).collect();
    TestLists { fail_to_pass: owned(&["a", "b[x"]), pass_to_pass: owned(&["c", "d"]) }
}

fn grade(tests: &str, exit_code: i32, eval_type: EvalType) -> Grade {
    let run = RunOutput { setup: "", tests, exit_code: Some(exit_code) };
    let reading = read_run(&run, Scope::TestOutput, LogParser::from_name("parse_log_pytest").unwrap());
    Grade::swebench(&reading, &lists(), eval_type, Generation::V5)
}

/// Prints a grade in one line for comparison: numbers, then each test.
fn line(grade: &Grade) -> String {
    let tests: Vec<String> = grade
        .tests
        .iter()
        .map(|test| {
            let mark = if test.ok { "+" } else { "-" };
            format!("{mark}{}:{}={}", test.suite.as_str(), test.test_id, test.status)
        })
        .collect();
    let resolution = grade.resolution.map_or("null", Resolution::short);
    let tally = |tally: Tally| format!("{}/{}", tally.passed, tally.total);
    format!("{} {resolution} {} {} {}", grade.reward, tally(grade.f2p), tally(grade.p2p), tests.join(" "))
}

#[test]
fn swebench_grades() {
    use EvalType::{FailOnly, PassAndFail};
    let cases = [
        (
            "PASSED a\nPASSED b[x y]\nPASSED c\nSKIPPED d\nXFAIL e",
            0,
            PassAndFail,
            "1 FULL 2/2 2/2 +f2p:a=passed +f2p:b[x=passed +p2p:c=passed +p2p:d=skipped +other:e=xfail",
        ),
        (
            "PASSED a\nFAILED b[x\nPASSED c\nPASSED d",
            1,
            PassAndFail,
            "0 PARTIAL 1/2 2/2 +f2p:a=passed -f2p:b[x=failed +p2p:c=passed +p2p:d=passed",
        ),
        (
            "PASSED a\nSKIPPED b[x\nFAILED c",
            1,
            PassAndFail,
            "0 NO 1/2 0/2 +f2p:a=passed -f2p:b[x=skipped -p2p:c=failed -p2p:d=missing",
        ),
        (
            "nothing",
            0,
            PassAndFail,
            "0 null 0/2 0/2 -f2p:a=missing -f2p:b[x=missing -p2p:c=missing -p2p:d=missing",
        ),
        (
            "PASSED a\nPASSED b[x\nPASSED c\nPASSED d",
            139,
            PassAndFail,
            "0 null 0/2 0/2 -f2p:a=missing -f2p:b[x=missing -p2p:c=missing -p2p:d=missing",
        ),
        (
            "FAILED e",
            1,
            FailOnly,
            "1 FULL 2/2 2/2 +f2p:a=missing +f2p:b[x=missing +p2p:c=missing +p2p:d=missing +other:e=failed",
        ),
        // Where silence means success, a log that may not be graded must still not succeed.
        (
            "nothing",
            0,
            FailOnly,
            "0 null 0/2 0/2 -f2p:a=missing -f2p:b[x=missing -p2p:c=missing -p2p:d=missing",
        ),
    ];
    for (tests, exit_code, eval_type, expected) in cases {
        let grade = grade(tests, exit_code, eval_type);
        assert_eq!(line(&grade), expected, "{tests:?}");
        assert_eq!(grade.found, grade.reason_not_found.is_none());
    }
}

#[test]
fn reasons_are_readable() {
    let reason = grade("PASSED a", 3, EvalType::PassAndFail).reason_not_found.unwrap();
    assert_eq!(reason, "test command exited with 3, yet no test failed");
}

#[test]
fn r2e_grades_by_both_rules() {
    let heading = "=== short test summary info ===";
    let expected: StatusMap = [("t", "PASSED"), ("u", "FAILED")].into_iter().collect();
    // Summary, compat, strict.
    let cases = [
        (
            "PASSED a::t\nFAILED a::u - no",
            "1 null 0/0 0/0 +regression:t=passed +regression:u=failed",
            "1 null 0/0 0/0 +regression:t=passed +regression:u=failed",
        ),
        (
            "FAILED a::t - PASSED\nFAILED a::u",
            "1 null 0/0 0/0 +regression:t=passed +regression:u=failed",
            "0 null 0/0 0/0 -regression:t=failed +regression:u=failed",
        ),
        (
            "PASSED a::t\nFAILED a::u\nPASSED a::v",
            "0 null 0/0 0/0 +regression:t=passed +regression:u=failed -regression:v=passed",
            "0 null 0/0 0/0 +regression:t=passed +regression:u=failed -regression:v=passed",
        ),
    ];
    for (summary, compat, strict) in cases {
        let log = format!("{heading}\n{summary}\n");
        let ours = (line(&Grade::r2e_compat(&log, &expected)), line(&Grade::r2e_strict(&log, &expected)));
        assert_eq!(ours, (compat.to_owned(), strict.to_owned()), "{summary:?}");
    }
    for grade in [Grade::r2e_compat("", &expected), Grade::r2e_strict("", &expected)] {
        assert_eq!((grade.reward, grade.found, grade.reason_not_found.is_some()), (0.0, false, true));
    }
}

#[test]
fn grades_serialize_with_the_words_of_the_tables() {
    let json =
        serde_json::to_value(grade("PASSED a\nPASSED b[x\nPASSED c\nPASSED d", 0, EvalType::PassAndFail))
            .unwrap();
    assert_eq!(json["reward"], 1.0);
    assert_eq!(json["resolution"], "RESOLVED_FULL");
    assert_eq!(json["f2p"], serde_json::json!({"total": 2, "passed": 2}));
    let first = serde_json::json!({"test_id": "a", "suite": "f2p", "expected": "PASSED", "status": "passed", "ok": true});
    assert_eq!(json["tests"][0], first);
    let suites = [Suite::F2p, Suite::P2p, Suite::Regression, Suite::Other];
    assert!(suites.iter().all(|suite| serde_json::to_value(suite).unwrap() == suite.as_str()));
}
