//! One row per rule of names, predicates and resolution.

use super::*;

fn map(pairs: &[(&str, &str)]) -> StatusMap {
    pairs.iter().map(|&(test, status)| (test, status)).collect()
}

#[test]
fn truncated_ids_are_resolved_when_candidates_agree() {
    let map = map(&[
        ("t[a", "FAILED"),
        ("t[a b]", "PASSED"),
        ("u[x y]", "PASSED"),
        ("u[x z]", "XFAIL"),
        ("v[x y]", "PASSED"),
        ("v[x z]", "FAILED"),
        ("w[x y]", "SKIPPED"),
        ("w[x z]", "FAILED"),
        ("plain_longer", "PASSED"),
    ]);
    let cases = [
        ("t[a", Some("FAILED")),
        ("u[x", Some("PASSED")),
        ("v[x", None),
        ("w[x", Some("SKIPPED")),
        ("plain", None),
        ("plain_longer", Some("PASSED")),
        ("t[a]", None),
        ("x[", None),
        ("u[[x]", None),
    ];
    for (test, expected) in cases {
        assert_eq!(resolve_name(&map, test, Generation::V5), expected, "{test}");
    }
    assert_eq!(resolve_name(&map, "u[x", Generation::V4), None, "harness 4 knows exact names only");
}

#[test]
fn statuses_count_by_list_type_and_generation() {
    use EvalType::{FailOnly, PassAndFail};
    use Generation::{V4, V5};
    let (yes, no, neither) = (Some(true), Some(false), None);
    // Status; then F2P and P2P in harness 5, F2P and P2P in harness 4, and either list when only failures are read.
    let cases = [
        (Some("PASSED"), [yes, yes, yes, yes, yes]),
        (Some("XFAIL"), [yes, yes, yes, yes, yes]),
        (Some("FAILED"), [no, no, no, no, no]),
        (Some("ERROR"), [no, no, no, no, yes]),
        (Some("SKIPPED"), [no, yes, neither, neither, yes]),
        (Some("ERROR:"), [neither, neither, neither, neither, yes]),
        (Some("XPASS"), [neither, neither, neither, neither, yes]),
        (None, [no, no, no, no, yes]),
    ];
    for (status, expected) in cases {
        let map: StatusMap = status.map(|status| ("t", status)).into_iter().collect();
        let judge = |list, eval_type, generation| succeeded(&map, "t", list, eval_type, generation);
        let ours = [
            judge(List::FailToPass, PassAndFail, V5),
            judge(List::PassToPass, PassAndFail, V5),
            judge(List::FailToPass, PassAndFail, V4),
            judge(List::PassToPass, PassAndFail, V4),
            judge(List::FailToPass, FailOnly, V5),
        ];
        assert_eq!(ours, expected, "{status:?}");
    }
}

#[test]
fn fail_only_looks_at_exact_names() {
    let map = map(&[("t[a b]", "FAILED")]);
    assert_eq!(succeeded(&map, "t[a", List::FailToPass, EvalType::FailOnly, Generation::V5), Some(true));
}

#[test]
fn resolutions_follow_from_the_lists() {
    use Resolution::{Full, No, Partial};
    let statuses = map(&[("p", "PASSED"), ("f", "FAILED"), ("s", "SKIPPED"), ("odd", "ERROR:")]);
    let cases: [(&[&str], &[&str], Resolution, Resolution); 9] = [
        // F2P, P2P, harness 5, harness 4
        (&["p"], &["p"], Full, Full),
        (&[], &[], Full, Full),
        (&["p"], &["f"], No, No),
        (&["p", "f"], &["p"], Partial, Partial),
        (&["f"], &["p"], No, No),
        (&["p", "f"], &["f"], No, No),
        // A skipped test vanished in harness 4.
        (&["s"], &["p"], No, Full),
        (&["p"], &["s"], Full, Full),
        (&["odd"], &["odd"], Full, Full),
    ];
    for (f2p, p2p, v5, v4) in cases {
        let owned = |tests: &[&str]| tests.iter().map(|test| (*test).to_owned()).collect();
        let lists = TestLists { fail_to_pass: owned(f2p), pass_to_pass: owned(p2p) };
        let resolve = |generation| report(&statuses, &lists, EvalType::PassAndFail, generation).resolution;
        assert_eq!((resolve(Generation::V5), resolve(Generation::V4)), (v5, v4), "{f2p:?} {p2p:?}");
    }
}

#[test]
fn lists_keep_their_order_and_doubles() {
    let statuses = map(&[("a", "PASSED"), ("b", "FAILED")]);
    let tests = ["b", "a", "c", "a"].map(str::to_owned).to_vec();
    let lists = TestLists { fail_to_pass: tests, pass_to_pass: vec![] };
    let verdict = report(&statuses, &lists, EvalType::PassAndFail, Generation::V5).fail_to_pass;
    assert_eq!(
        (verdict.success, verdict.failure),
        (vec!["a".into(), "a".into()], vec!["b".into(), "c".into()])
    );
}

#[test]
fn resolutions_print_both_ways() {
    let words =
        [Resolution::Full, Resolution::Partial, Resolution::No].map(|it| (it.to_string(), it.short()));
    assert_eq!(
        words,
        [
            ("RESOLVED_FULL".into(), "FULL"),
            ("RESOLVED_PARTIAL".into(), "PARTIAL"),
            ("RESOLVED_NO".into(), "NO")
        ]
    );
    assert_eq!(serde_json::to_value(Resolution::Full).unwrap(), "RESOLVED_FULL");
}
