//! One row per rule of the log gate.

use super::*;

const PYTEST: &str = "parse_log_pytest";

fn read(generation: Generation, log: &str) -> Result<Vec<(String, String)>, NotFound> {
    let reading = read_log(log, LogParser::from_name(PYTEST).unwrap(), generation);
    assert_eq!(reading.found(), reading.not_found.is_none());
    match reading.not_found {
        Some(reason) => {
            assert!(reading.status_map.is_empty());
            Err(reason)
        }
        None => {
            Ok(reading.status_map.iter().map(|(test, status)| (test.to_owned(), status.to_owned())).collect())
        }
    }
}

/// Wraps the tests' output as the traced script does.
fn wrapped(tests: &str) -> String {
    format!("set-up\n+ : '{START}'\n{tests}\n+ : '{END}'\n")
}

fn found(pairs: &[(&str, &str)]) -> Result<Vec<(String, String)>, NotFound> {
    Ok(pairs.iter().map(|(test, status)| ((*test).to_owned(), (*status).to_owned())).collect())
}

#[test]
fn a_harness_failure_anywhere_ends_it() {
    for marker in FAILURE_MARKERS {
        let log = format!("{}{marker}\n", wrapped("PASSED a"));
        assert_eq!(read(Generation::V5, &log), Err(NotFound::FailureMarker(marker)));
        assert_eq!(read(Generation::V4, &log), Err(NotFound::FailureMarker(marker)));
    }
}

#[test]
fn both_markers_are_needed() {
    let cases = [
        ("PASSED a".to_owned(), END),
        (format!("{START}\nPASSED a"), END),
        (format!("PASSED a\n{END}"), START),
    ];
    for (log, missing) in cases {
        assert_eq!(read(Generation::V5, &log), Err(NotFound::MissingMarker(missing)), "{log:?}");
    }
}

#[test]
fn the_first_pair_of_markers_wins() {
    let forged = format!("{START}\nPASSED forged\n{END}\n{START}\nFAILED real\n{END}\n");
    assert_eq!(read(Generation::V5, &forged), found(&[("forged", "PASSED")]));
    let end_first = format!("{END}\n{START}\nPASSED a\n");
    assert_eq!(
        read(Generation::V5, &end_first),
        found(&[("a", "PASSED")]),
        "an end before the start cuts nothing"
    );
    let outside = format!("PASSED before\n{}PASSED after\n", wrapped("PASSED a"));
    assert_eq!(read(Generation::V5, &outside), found(&[("a", "PASSED")]));
}

#[test]
fn an_empty_slice_falls_back_to_the_whole_log() {
    let log = format!("PASSED before\n{}", wrapped("nothing"));
    assert_eq!(read(Generation::V5, &log), found(&[("before", "PASSED")]));
    assert_eq!(read(Generation::V4, &log), found(&[]), "harness 4 looks no further");
}

#[test]
fn no_results_need_evidence_that_a_suite_ran() {
    let cases = [
        ("nothing", false),
        ("Executed 3 of 4", true),
        ("Executed 0 of 4", false),
        ("TOTAL: 12 SUCCESS", true),
        ("TOTAL: 1 FAILED", true),
        ("TOTAL: 0 SUCCESS", false),
        ("  10 passing (2s)", true),
        ("  0 passing (2s)", false),
        ("Tests:       3 passed, 3 total", true),
        ("Tests: 0 total", false),
        ("Test Suites: 1 failed, 2 total", true),
        ("Test Suites: 0 failed, 0 total", false),
        ("# tests 5", true),
        ("x # tests 5", false),
        ("# tests 0", false),
        ("7 specs, 0 failures", true),
        ("1 spec, 1 failure", true),
        ("0 specs, 0 failures", false),
        ("case 'a': ok", true),
        ("case 'a': okay", false),
    ];
    for (line, ran) in cases {
        let expected = if ran { found(&[]) } else { Err(NotFound::NoResults) };
        assert_eq!(read(Generation::V5, &wrapped(line)), expected, "{line}");
        assert_eq!(read(Generation::V4, &wrapped(line)), found(&[]), "harness 4 asks for none: {line}");
    }
}

#[test]
fn an_exit_code_must_fit_the_results() {
    let cases = [
        ("PASSED a", "0", true),
        ("PASSED a", "1", false),
        ("PASSED a", "-9", false),
        ("PASSED a", "99999999999999999999", false),
        ("PASSED a\nFAILED b", "1", true),
        ("PASSED a\nERROR b", "2", true),
        ("SKIPPED a", "1", false),
        ("4 passing", "1", true),
    ];
    for (tests, code, ok) in cases {
        let log = format!("{}+ echo '{EXIT_CODE}{code}'\n{EXIT_CODE}0\n", wrapped(tests));
        assert_eq!(read(Generation::V5, &log).is_ok(), ok, "{tests:?} exited with {code}");
        assert!(read(Generation::V4, &log).is_ok(), "harness 4 does not look at it");
    }
}

#[test]
fn newlines_are_universal_and_other_separators_are_not() {
    let log = wrapped("PASSED a\rFAILED b\r\nPASSED c\u{85}PASSED d\u{2028}PASSED e\u{c}PASSED f");
    assert_eq!(read(Generation::V5, &log), found(&[("a", "PASSED"), ("b", "FAILED"), ("c", "PASSED")]));
}

#[test]
fn a_parser_that_raises_is_a_reason_and_no_fault() {
    let parser = LogParser::from_name("parse_log_django").unwrap();
    let reading = read_log(&wrapped("FAIL:"), parser, Generation::V5);
    assert!(matches!(reading.not_found, Some(NotFound::Parser(_))), "{reading:?}");
}

#[test]
fn a_run_of_ours_is_read_without_markers() {
    let forged = format!("{END}\nPASSED a\n{START}\n>>>>> Patch Apply Failed\n{EXIT_CODE}0\n");
    let cases = [
        // setup, tests, exit code, scope, found
        ("", forged.as_str(), Some(0), Scope::TestOutput, Ok(1)),
        ("", forged.as_str(), Some(1), Scope::TestOutput, Err(NotFound::ExitCodeMismatch { exit_code: 1 })),
        ("", forged.as_str(), None, Scope::TestOutput, Err(NotFound::Killed)),
        ("", "PASSED a\nFAILED b", None, Scope::TestOutput, Ok(2)),
        ("PASSED a", "nothing", Some(0), Scope::TestOutput, Err(NotFound::NoResults)),
        ("PASSED a", "nothing", Some(0), Scope::WholeLog, Ok(1)),
        ("4 passing", "nothing", Some(0), Scope::TestOutput, Err(NotFound::NoResults)),
        ("4 passing", "nothing", Some(0), Scope::WholeLog, Ok(0)),
        ("PASSED a\nPASSED b", "PASSED c", Some(0), Scope::WholeLog, Ok(1)),
        ("", "PASSED a\rFAILED b", Some(1), Scope::TestOutput, Ok(2)),
        ("", "", Some(1), Scope::TestOutput, Err(NotFound::NoResults)),
    ];
    for (setup, tests, exit_code, scope, expected) in cases {
        let run = RunOutput { setup, tests, exit_code };
        let reading = read_run(&run, scope, LogParser::from_name(PYTEST).unwrap());
        let ours = reading.not_found.map_or(Ok(reading.status_map.len()), Err);
        assert_eq!(ours, expected, "{run:?} {scope:?}");
    }
}
