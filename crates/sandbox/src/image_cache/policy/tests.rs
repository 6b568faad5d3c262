//! The decision as tables.

use super::super::fill::Share;
use super::*;

const MARKS: WaterMarks = WaterMarks { high_percent: 80, low_percent: 60, limit_bytes: None };

fn fill(used: u64) -> Option<Fill> {
    Some(Fill { bytes: Share { used, total: 1_000 }, inodes: Share { used: 10, total: 100 } })
}

#[test]
fn nothing_goes_below_the_high_mark_and_enough_above_it() {
    let limited = WaterMarks { limit_bytes: Some(400), ..MARKS };
    let inodes = Some(Fill { inodes: Share { used: 81, total: 100 }, ..fill(1).unwrap() });
    for (case, marks, fill, stored, need, wanted) in [
        ("at the high mark", MARKS, fill(800), 500, Need::Growth, 0),
        ("above it", MARKS, fill(801), 500, Need::Growth, 201),
        ("no room, though the disk has some", MARKS, fill(100), 500, Need::Failure, 1),
        ("no room, between the marks", MARKS, fill(700), 500, Need::Failure, 100),
        ("the inodes are used up", MARKS, inodes, 810, Need::Growth, 210),
        ("at the limit", limited, fill(1), 400, Need::Growth, 0),
        ("above the limit", limited, fill(1), 401, Need::Growth, 101),
        ("no room, above the limit's low mark", limited, fill(1), 350, Need::Failure, 50),
        ("disk and limit", limited, fill(900), 401, Need::Growth, 300),
        ("a disk that cannot be seen", MARKS, None, 500, Need::Growth, 0),
        ("a disk that cannot be seen, and a limit", limited, None, 500, Need::Growth, 200),
    ] {
        assert_eq!(excess(marks, fill, stored, need), wanted, "{case}");
    }
}

/// An entry of layers of 10 bytes each.
fn entry(name: &str, last_use: u64, layers: &[&str]) -> Entry {
    let parts = layers.iter().map(|layer| ((*layer).to_owned(), 10)).collect();
    Entry { name: name.into(), base: None, parts, last_use, in_use: false }
}

fn used(entry: Entry) -> Entry {
    Entry { in_use: true, ..entry }
}

fn over(base: &str, entry: Entry) -> Entry {
    Entry { base: Some(base.into()), ..entry }
}

#[test]
fn the_least_recently_used_go_and_never_what_is_in_use() {
    let (a, b, c) = (entry("a", 1, &["1"]), entry("b", 2, &["2"]), entry("c", 3, &["3"]));
    let derived = |last_use| over("a", entry("a'", last_use, &["1", "1'"]));
    let cases: [(&str, Vec<Entry>, u64, &[&str]); 13] = [
        ("nothing to free", vec![a.clone(), b.clone()], 0, &[]),
        ("the oldest, wherever it is listed", vec![c.clone(), a.clone(), b.clone()], 1, &["a"]),
        ("as many as it takes", vec![c.clone(), a.clone(), b.clone()], 11, &["a", "b"]),
        ("all that may go", vec![a.clone(), used(b.clone()), c.clone()], 1_000, &["a", "c"]),
        ("the oldest is in use", vec![used(a.clone()), b.clone(), c.clone()], 1, &["b"]),
        ("all are in use", vec![used(a.clone()), used(b.clone())], 1, &[]),
        ("what was derived goes before its base", vec![a.clone(), derived(1), b.clone()], 11, &["a'", "a"]),
        ("a base is as recent as what was derived", vec![a.clone(), derived(9), b.clone()], 1, &["b"]),
        ("an old derived layer alone", vec![entry("a", 8, &["1"]), derived(1), b.clone()], 1, &["a'"]),
        ("a base of what is in use", vec![a.clone(), used(derived(1)), b.clone()], 1, &["b"]),
        (
            "what shares all it has with others in use frees nothing",
            vec![entry("x", 1, &["s"]), used(entry("y", 2, &["s", "t"])), b.clone()],
            1,
            &["b"],
        ),
        (
            "what is shared is freed with its last user",
            vec![entry("x", 1, &["s"]), entry("y", 2, &["s"]), entry("z", 3, &["z"])],
            10,
            &["x", "y"],
        ),
        ("a base that names itself", vec![over("a", a.clone()), b.clone()], 1, &["a"]),
    ];
    for (case, entries, excess, wanted) in cases {
        assert_eq!(victims(&entries, excess), wanted, "{case}");
    }
}

#[test]
fn shared_parts_are_counted_once() {
    assert_eq!(stored(&[entry("x", 1, &["s", "t"]), entry("y", 2, &["s"])]), 20);
    assert_eq!(victims(&[entry("x", 1, &["s", "s"])], 5), ["x"]);
}
