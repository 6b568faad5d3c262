//! One row per rule of both rewards.

use super::*;
use crate::status::StatusMap;

const HEADING: &str = "=========================== short test summary info ============================";

fn log(summary: &str) -> String {
    format!("output of tests\n{HEADING}\n{summary}\n======= 2 passed in 0.1s =======\n")
}

fn map(pairs: &[(&str, &str)]) -> StatusMap {
    pairs.iter().map(|&(test, status)| (test, status)).collect()
}

#[test]
fn the_seed_finds_statuses_anywhere_in_a_line() {
    let cases: [(&str, &[(&str, &str)]); 9] = [
        ("PASSED a.py::C::t", &[("C.t", "PASSED")]),
        ("FAILED a.py::t - assert x", &[("t", "FAILED")]),
        ("PASSED a.py::t[a - b]", &[("t[a - b]", "PASSED")]),
        // A failing line whose message holds PASSED passes, and keeps its message.
        ("FAILED a.py::t - got PASSED", &[("t - got PASSED", "PASSED")]),
        ("ERROR a.py::t - FAILED", &[("t", "FAILED")]),
        ("ERROR a.py", &[("", "ERROR")]),
        ("SKIPPED [1] a.py::t\nXFAIL b::u\nXPASS c::v", &[]),
        ("PASSED a.py::t\nFAILED b.py::t", &[("t", "FAILED")]),
        ("  x FAILED y::z  ", &[("z", "FAILED")]),
    ];
    for (summary, expected) in cases {
        assert_eq!(parse_compat(&format!("a\n{SUMMARY}\n{summary}")), map(expected), "{summary:?}");
    }
}

#[test]
fn the_seed_reads_between_the_first_two_mentions() {
    assert!(parse_compat("PASSED a::t").is_empty(), "no summary");
    let forged = format!("{SUMMARY}\nPASSED a::t\n{SUMMARY}\nFAILED a::t\n");
    assert_eq!(parse_compat(&forged), map(&[("t", "PASSED")]));
    assert_eq!(
        parse_compat(&format!("{SUMMARY} PASSED a::t")),
        map(&[("t", "PASSED")]),
        "even on the same line"
    );
}

#[test]
fn the_seed_compares_sizes_and_parsed_names() {
    type Pairs = &'static [(&'static str, &'static str)];
    let cases: [(Pairs, Pairs, f64); 11] = [
        (&[("a", "PASSED")], &[("a", "PASSED")], 1.0),
        (&[("a", "FAILED")], &[("a", "FAILED")], 1.0),
        (&[("a", "PASSED")], &[("a", "FAILED")], 0.0),
        (&[("a", "PASSED")], &[("a", "PASSED"), ("b", "PASSED")], 0.0),
        (&[("a", "PASSED"), ("b", "PASSED")], &[("a", "PASSED")], 0.0),
        (&[("a", "PASSED")], &[("b", "PASSED")], 0.0),
        (&[], &[], 1.0),
        (&[], &[("a", "PASSED")], 0.0),
        // The empty name counts but is not compared.
        (&[("", "ERROR"), ("a", "PASSED")], &[("b", "PASSED"), ("a", "PASSED")], 1.0),
        // Colour codes go and names are cut on both sides; more than one number in a code stays.
        (&[("\u{1b}[1mt\u{1b}[0m", "PASSED")], &[("t - x", "PASSED")], 1.0),
        (&[("\u{1b}[1;31mt", "PASSED")], &[("t", "PASSED")], 0.0),
    ];
    for (parsed, expected, reward) in cases {
        assert_eq!(reward_compat(&map(parsed), &map(expected)), reward, "{parsed:?} {expected:?}");
    }
    // Names that are cut alike collapse; the last in the order of names, not of the log, stays.
    let parsed = map(&[("t - b", "PASSED"), ("t - a", "FAILED")]);
    assert_eq!(reward_compat(&parsed, &map(&[("t", "PASSED")])), 1.0);
}

#[test]
fn runner_noise_is_removed() {
    assert_eq!(clean_output("\u{1b}[1;31mA\u{1b}[0m\r\n\u{1b}[mB\u{1b}[2K"), "A\nB\u{1b}[2K");
}

#[test]
fn strict_statuses_are_the_first_word() {
    type Pairs = &'static [(&'static str, &'static str)];
    // Summary, names that are expected, statuses.
    let cases: [(&str, Pairs, Pairs); 10] = [
        ("PASSED a.py::C::t", &[], &[("C.t", "PASSED")]),
        ("FAILED a.py::t - got PASSED", &[("t", "PASSED")], &[("t", "FAILED")]),
        ("FAILED a.py::t[a - b] - no", &[("t[a - b]", "PASSED")], &[("t[a - b]", "FAILED")]),
        ("FAILED a.py::t[a - b] - no", &[("t[a", "FAILED")], &[("t[a", "FAILED")]),
        (
            "FAILED a.py::t[a - b] - no",
            &[("t[a", "FAILED"), ("t[a - b]", "PASSED")],
            &[("t[a - b]", "FAILED")],
        ),
        ("FAILED a.py::t[a - b] - no", &[], &[("t[a", "FAILED")]),
        ("PASSED a.py::t[a - b]", &[], &[("t[a - b]", "PASSED")]),
        ("ERROR a.py - ImportError", &[], &[("", "ERROR")]),
        ("x PASSED a::t\nPASSEDa::t\nSKIPPED [1] a::t\nXFAIL a::u", &[], &[]),
        ("\u{1b}[32mPASSED\u{1b}[0m a::\u{1b}[1mt\u{1b}[0m\r", &[], &[("t", "PASSED")]),
    ];
    for (summary, expected, statuses) in cases {
        let reading = parse_strict(&log(summary), &map(expected));
        assert_eq!((reading.status_map, reading.sections), (map(statuses), 1), "{summary:?}");
    }
}

#[test]
fn strict_sections_are_anchored_and_the_last_counts() {
    let nothing = map(&[]);
    let inline = format!("print: {SUMMARY}\nPASSED a::t\n{}", log("FAILED a::t"));
    assert_eq!(
        parse_strict(&inline, &nothing),
        StrictReading { status_map: map(&[("t", "FAILED")]), sections: 1 }
    );
    let printed = format!("{HEADING}\nPASSED a::t\n{}", log("FAILED a::t"));
    assert_eq!(
        parse_strict(&printed, &nothing),
        StrictReading { status_map: map(&[("t", "FAILED")]), sections: 2 }
    );
    assert_eq!(parse_strict("PASSED a::t", &nothing), StrictReading::default());
    let after = format!("{}PASSED a::late\n", log("PASSED a::t"));
    assert_eq!(
        parse_strict(&after, &nothing).status_map,
        map(&[("t", "PASSED")]),
        "nothing counts after the totals"
    );
}

#[test]
fn every_difference_is_named() {
    let expected = map(&[("\u{1b}[1ma\u{1b}[0m", "PASSED"), ("b", "FAILED"), ("c", "PASSED")]);
    let reading = parse_strict(&log("PASSED x::a\nPASSED x::b\nPASSED x::d"), &expected);
    let differing: Vec<_> = reading.compare(&expected).into_iter().filter(|test| !test.agrees()).collect();
    let comparison = |test: &str, expected: Option<&str>, found: Option<&str>| Comparison {
        test: test.to_owned(),
        expected: expected.map(str::to_owned),
        found: found.map(str::to_owned),
    };
    assert_eq!(
        differing,
        [
            comparison("b", Some("FAILED"), Some("PASSED")),
            comparison("c", Some("PASSED"), None),
            comparison("d", None, Some("PASSED")),
        ]
    );
}

#[test]
fn expected_cells_are_decoded_or_refused() {
    assert_eq!(decode_expected(r#"{"a": "PASSED"}"#).unwrap(), map(&[("a", "PASSED")]));
    assert!(matches!(decode_expected("{}"), Err(ExpectedError::Empty)));
    for cell in ["", "[]", r#"{"a": 1}"#] {
        assert!(matches!(decode_expected(cell), Err(ExpectedError::NotAMap(_))), "{cell:?}");
    }
}
