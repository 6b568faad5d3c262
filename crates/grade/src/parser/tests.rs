//! One table per parser: a log, and the whole map that it gives.

use super::*;
use crate::swebench::Generation;

/// A parser's name, a log, and the statuses that it must give, in order.
type Row = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

fn check(rows: &[Row]) {
    for (name, log, expected) in rows {
        let map = LogParser::from_name(name).unwrap().parse(log).unwrap();
        let ours: Vec<(&str, &str)> = map.iter().collect();
        assert_eq!(ours, *expected, "{name} on {log:?}");
    }
}

#[test]
fn pytest_summary_lines() {
    check(&[
        ("parse_log_pytest", "", &[]),
        (
            "parse_log_pytest",
            "PASSED a.py::t\nFAILED a.py::u - assert 1 == 2\nXFAIL b::v\nERROR c.py",
            &[("a.py::t", "PASSED"), ("a.py::u", "FAILED"), ("b::v", "XFAIL"), ("c.py", "ERROR")],
        ),
        // A failure whose message holds another status stays a failure.
        ("parse_log_pytest", "FAILED a::t - assert 'PASSED a::t'", &[("a::t", "FAILED")]),
        // Ids with spaces are cut; those that are cut alike overwrite one another in place.
        (
            "parse_log_pytest",
            "PASSED a::t[x y]\nPASSED b\nFAILED a::t[x z]",
            &[("a::t[x", "FAILED"), ("b", "PASSED")],
        ),
        // No word boundary after the status, and the first word is stored as it stands.
        (
            "parse_log_pytest",
            "ERROR: not found: x\nFAILEDish id\nERRORS here",
            &[("not", "ERROR:"), ("id", "FAILEDish"), ("here", "ERRORS")],
        ),
        (
            "parse_log_pytest",
            "XPASS a::t\n PASSED b\nSKIPPED [2] a.py:1: why\nSKIPPED [x] c\nPASSED\nFAILED -",
            &[("[x]", "SKIPPED"), ("-", "FAILED")],
        ),
        // An artefact that two rows of pytest's own repository expect.
        ("parse_log_flask", "a::t PASSED [ 50%]\nPASSED [100%]", &[("[100%]", "PASSED")]),
    ]);
}

#[test]
fn pytest_options_lose_their_directories() {
    check(&[(
        "parse_log_requests",
        "PASSED t[/a/b/c]\nPASSED u[//a/b]\nPASSED v[/a/*]tail\nPASSED w[a/b]\nPASSED x]a[\nFAILED y[/p/q - r",
        &[
            ("t[/c]", "PASSED"),
            ("u[//a/b]", "PASSED"),
            ("v[/a/*]", "PASSED"),
            ("w[a/b]", "PASSED"),
            ("x]a[", "PASSED"),
            ("y[/p/q", "FAILED"),
        ],
    )]);
    check(&[("parse_log_pylint", "PASSED t[/a/b][c]", &[("t[/b][c]", "PASSED")])]);
}

#[test]
fn pytest_v2_reads_colours_spaces_and_both_orders() {
    check(&[
        (
            "parse_log_astropy",
            "\u{1b}[32mPASSED\u{1b}[0m a::\u{1b}[1mt\u{1b}[0m[x y]",
            &[("a::t[x y]", "PASSED")],
        ),
        (
            "parse_log_sphinx",
            "FAILED a::t[x y] - assert - 2\nPASSED a::u - b",
            &[("a::t[x y]", "FAILED"), ("a::u - b", "PASSED")],
        ),
        (
            "parse_log_scikit",
            "a::t[x y] PASSED\na.py::u SKIPPED\nPASSED\nSKIPPED [1] a.py:2: no",
            &[("a::t[x y]", "PASSED"), ("a.py::u", "SKIPPED")],
        ),
        // Tabs vanish instead of separating; colours of several numbers stay.
        (
            "parse_log_astropy",
            "PASSED\ta b\nPASSED \u{1b}[1;31mc",
            &[("b", "PASSEDa"), ("[1;31mc", "PASSED")],
        ),
        ("parse_log_astropy", "collected 0 items / 1 ERROR", &[("collected 0 items / 1", "ERROR")]),
    ]);
}

#[test]
fn pytest_v2_of_harness_4_cuts_ids() {
    let parser = LogParser::from_name("parse_log_astropy").unwrap();
    let log = "FAILED a::t[x y] - assert\na::u[x y] PASSED\nb::v PASSED";
    let map = parser.parse_as(Generation::V4, log).unwrap();
    let ours: Vec<(&str, &str)> = map.iter().collect();
    assert_eq!(ours, [("a::t[x", "FAILED"), ("a::u[x", "y]"), ("b::v", "PASSED")]);
    let plain = LogParser::from_name("parse_log_pytest").unwrap();
    assert_eq!(plain.parse_as(Generation::V4, log), plain.parse(log));
}

#[test]
fn python_repositories_with_formats_of_their_own() {
    check(&[
        ("parse_log_matplotlib", "PASSED t[MouseButton.LEFT-MouseButton.RIGHT]", &[("t[1-3]", "PASSED")]),
        (
            "parse_log_seaborn",
            "FAILED a::t - no\na::u PASSED [ 1%]\nx PASSED y z\np q PASSED r\nPASSED a::w\nSKIPPED s t\nFAILED",
            &[("a::t", "FAILED"), ("a::u", "PASSED"), ("x", "PASSED"), ("a::w", "PASSED")],
        ),
        (
            "parse_log_sympy",
            "test_a ok\n  test_b[slow] F\ntest_c E\ntest_d f\ntest_e X\nother ok\n____ sympy/x/test_x.py:test_b ____\n",
            &[
                ("sympy/x/test_x.py:test_b", "FAILED"),
                ("test_a", "PASSED"),
                ("test_b[slow]", "FAILED"),
                ("test_c", "ERROR"),
            ],
        ),
        (
            "swegym_pydantic",
            "FAILED [ 50%] a::t - no\nFAILED b::u\nPASSED c::v",
            &[("a::t", "FAILED"), ("b::u", "FAILED"), ("c::v", "PASSED")],
        ),
        (
            "swesmith_pytest",
            "a::t PASSED [ 1%]\nPASSED b::u\nc::v\tFAILED",
            &[("a::t", "PASSED"), ("c::v", "FAILED")],
        ),
    ]);
}

#[test]
fn django_results() {
    check(&[
        (
            "parse_log_django",
            "test_a (m.C) ... ok\nA docstring. ... OK\ntest_b (m.C) ...  OK",
            &[("test_a (m.C)", "PASSED"), ("A docstring.", "PASSED"), ("test_b (m.C)", "PASSED")],
        ),
        (
            "parse_log_django",
            "  test_s (m.C) ... skipped 'why'\ntest_f (m.C) ... FAIL\ntest_e (m.C) ... ERROR",
            &[("test_s (m.C)", "SKIPPED"), ("test_f (m.C)", "FAILED"), ("test_e (m.C)", "ERROR")],
        ),
        // The summary repeats a failure under the bare name.
        (
            "parse_log_django",
            "FAIL: test_f (m.C)\nERROR: test_e (m.C)",
            &[("test_f", "FAILED"), ("test_e", "ERROR")],
        ),
        (
            "parse_log_django",
            "x --version is equivalent to version ... noise",
            &[("--version is equivalent to version", "PASSED")],
        ),
        (
            "parse_log_django",
            "Applying sites.0002_alter_domain_unique...test_no_migrations (m.C) ... ok",
            &[("test_no_migrations (m.C)", "PASSED")],
        ),
        ("parse_log_django", "a ... b ... ok", &[("a ... b", "PASSED")]),
    ]);
}

#[test]
fn django_results_that_output_tore_apart() {
    check(&[
        // A late `ok` is credited to the last test that was announced, which is never forgotten.
        ("parse_log_django", "test_a (m.C) ... printed text\nmore\nok", &[("test_a (m.C)", "PASSED")]),
        ("parse_log_django", "test_a (m.C) ... FAIL\nokay then", &[("test_a (m.C)", "PASSED")]),
        ("parse_log_django", "ok\ntest_a ...ok", &[]),
        (
            "parse_log_django",
            "test_a (m.C) ... Testing against Django installed in '/x'\nno, (0 silenced).\nok\n",
            &[("test_a (m.C)", "PASSED")],
        ),
        ("parse_log_django", "test_a ... Internal Server Error: /a/b/\nok", &[("test_a", "PASSED")]),
        (
            "parse_log_django",
            "test_a ... System check identified no issues (0 silenced)\nok",
            &[("test_a", "PASSED")],
        ),
        // Whatever else follows the announcement, a failure elsewhere in the log is overridden by these.
        (
            "parse_log_django",
            "FAIL: test_a\ntest_a ... System check identified no issues (0 silenced)\nok",
            &[("test_a", "PASSED")],
        ),
    ]);
    let parser = LogParser::from_name("parse_log_django").unwrap();
    for heading in ["FAIL:", "ERROR: "] {
        assert!(matches!(parser.parse(heading), Err(ParseError::Malformed { .. })), "{heading:?}");
    }
}

#[test]
fn compiled_languages() {
    check(&[
        (
            "parse_log_gotest",
            "--- PASS: TestA (0.00s)\n    --- FAIL: TestA/b c (1.2s)\n--- SKIP: T (0s)\nok  pkg 1s\n--- PASS: U",
            &[("TestA", "PASSED"), ("TestA/b c", "FAILED"), ("T", "SKIPPED")],
        ),
        (
            "parse_log_cargo",
            "test a::b ... ok\ntest c ... FAILED\ntest d ... ignored\ntest e - should panic ... ok\n  test f ... ok",
            &[("a::b", "PASSED"), ("c", "FAILED"), ("f", "PASSED")],
        ),
        (
            "parse_log_redis",
            "[ok]: A b (12 ms)\n[err]: C d in tests/unit/x.tcl\n[skip]: E\n[ignore]: F\n[exception]: G",
            &[("A b", "PASSED"), ("C d", "FAILED"), ("E", "SKIPPED"), ("F", "SKIPPED")],
        ),
        ("parse_log_jq", "PASS: tests/a\n FAIL: b\nSKIP: c", &[("tests/a", "PASSED"), ("b", "FAILED")]),
        (
            "parse_log_micropython_test",
            "pass  a.py\nFAIL b.py\nskip  c.py\nlfail d",
            &[("a.py", "PASSED"), ("b.py", "FAILED"), ("c.py", "SKIPPED")],
        ),
        (
            "parse_log_googletest",
            "[       OK ] A.b (0 ms)\n3: [  FAILED  ] C.d (1 ms)\n[  FAILED  ] C.d\n[ RUN      ] E.f",
            &[("A.b", "PASSED"), ("C.d", "FAILED")],
        ),
    ]);
}

#[test]
fn doctest_reports() {
    check(&[
        ("parse_log_doctest", "no report", &[]),
        (
            "parse_log_doctest",
            r#"noise <doctest binary="x"><TestSuite><TestCase name="a &amp; b"><SubCase name="s"/><SubCase name="t"><SubCase
            name="u"><Expression success="true"/><Expression success="false"/></SubCase></SubCase></TestCase>
            <TestCase name="empty"/></TestSuite></doctest> noise </doctest>"#,
            &[("a & b > s", "PASSED"), ("a & b > t", "FAILED"), ("a & b > u", "FAILED")],
        ),
    ]);
    let parser = LogParser::from_name("parse_log_doctest").unwrap();
    for log in ["<doctest><TestCase>", "<doctest><a></b></doctest>"] {
        assert!(matches!(parser.parse(log), Err(ParseError::Malformed { .. })), "{log:?}");
    }
}

#[test]
fn java_builds() {
    check(&[
        (
            "parse_log_maven",
            "+ mvn test -Dtest=A#a -q\n[INFO] BUILD SUCCESS\n+ mvn test -Dtest=B\n+ mvn -Dtest=C\n[INFO] BUILD FAILURE\n[INFO] BUILD SUCCESS",
            &[("A#a", "PASSED"), ("B", "FAILED"), ("C", "PASSED")],
        ),
        // A result before its command is kept for the end.
        ("parse_log_maven", "BUILD FAILURE\nmvn -Dtest=A\nmvn -Dtest=B", &[("A", "FAILED")]),
        (
            "parse_log_ant",
            "  [junit] [PASS] a\n[junit] [FAIL] b c\n[junit] [ERR] d\n[javac] [PASS] e",
            &[("a", "PASSED"), ("b c", "FAILED"), ("d", "FAILED")],
        ),
        (
            "parse_log_gradle_custom",
            "A > b PASSED\nA > c\nwarning: text of a compiler\nFAILED\nPASSED\n> Task :x FAILED\nBUILD FAILED\nA > d\nA > e PASSED\nFAILED",
            &[("A > b", "PASSED"), ("A > c", "FAILED"), ("BUILD", "FAILED"), ("A > e", "PASSED")],
        ),
    ]);
}

#[test]
fn ruby_and_php() {
    check(&[
        (
            "parse_log_minitest",
            "A#test_b. = 0.01 s = .\nA#c: d. e. = 1.00 s = F\nA#f = 1 s = .",
            &[("A#test_b", "PASSED"), ("A#c: d. e", "FAILED")],
        ),
        (
            "parse_log_cucumber",
            "Feature a ....\nFeature b ..F.\n...",
            &[("Feature a", "PASSED"), ("Feature b", "FAILED")],
        ),
        (
            "parse_log_ruby_unit",
            "test: a: b:\t.: (0.1)\n  c:  F\nd: E\ne: O\nf: Foo",
            &[("a: b", "PASSED"), ("c", "FAILED"), ("d", "FAILED"), ("e", "SKIPPED")],
        ),
        (
            "parse_log_rspec_transformed_json",
            "a - b - passed\nc - failed\nd - pending",
            &[("a - b", "PASSED"), ("c", "FAILED")],
        ),
        (
            "parse_log_phpunit",
            " ✔ Orphan\nA b (App\\A)\n ✔ One two\n ✘ Three\n ↩ Four\n (x)\nTotals (3 tests)\n✔Five",
            &[
                ("None > Orphan", "PASSED"),
                ("A b > One two", "PASSED"),
                ("A b > Three", "FAILED"),
                ("A b > Four", "SKIPPED"),
                ("Totals > Five", "PASSED"),
            ],
        ),
    ]);
}

#[test]
fn javascript_lines() {
    check(&[
        (
            "parse_log_jest",
            "  ✓ a b (12 ms)\n✕ c\n○ skipped d\n✓e",
            &[("a b", "PASSED"), ("c", "FAILED"), ("skipped d", "SKIPPED")],
        ),
        (
            "parse_log_jest_json",
            "[PASSED] a b\n[FAILED] c\n[PENDING] d",
            &[("a b", "PASSED"), ("c", "FAILED")],
        ),
        (
            "parse_log_vitest",
            " ✓ f.ts > a 12ms\n × b\n ↓ c [skipped]\n ✓ d 7",
            &[("f.ts > a", "PASSED"), ("b", "FAILED"), ("c", "SKIPPED"), ("d", "PASSED")],
        ),
        (
            "parse_log_tap",
            "ok 1 - a\nnot ok 2 b # TODO c\n  ok 3 d\nok 4",
            &[("- a", "PASSED"), ("b # TODO c", "FAILED"), ("d", "PASSED")],
        ),
        (
            "parse_log_react_pdf",
            "PASS a.js (1.2 s)\nPASS b.js (3ms) tail\nFAIL c.js (2s)\nFAIL d e\n PASS f\nPASSED g",
            &[("a.js", "PASSED"), ("b.js", "PASSED"), ("c.js", "FAILED"), ("d e", "FAILED")],
        ),
        ("parse_log_carbon", "PASS a\nFAIL a", &[("a", "FAILED")]),
        (
            "parse_log_grommet",
            "PASS a (1 s)\nFAIL a\nFAIL b (3ms) x",
            &[("a", "PASSED"), ("b (3ms) x", "FAILED")],
        ),
    ]);
}

#[test]
fn javascript_suites_nest() {
    check(&[
        (
            "parse_log_karma",
            "✔ early\nStarting browser Chrome\n  suite\n    ✔ a\n    inner\n      ✖ b\n  next\n    ✔ c\nSUMMARY:\n✔ late",
            // The shallower heading `next` only pops, and is not pushed.
            &[("suite > a", "PASSED"), ("suite > inner > b", "FAILED"), ("suite > c", "PASSED")],
        ),
        (
            "parse_log_calypso",
            "+ x ./node_modules/.bin/jest a\nPASS a.js\n  outer\n    inner\n      ✓ one (3ms)\n      ✕ two (3ms) more\n    other\n      ✓ three\nTest Suites: 1\n  ignored\n      ✓ four\n+ ./node_modules/.bin/jest b\n  outer\n    ✓ five",
            &[
                ("outer - inner - one", "PASSED"),
                ("outer - inner - two (3ms) more", "FAILED"),
                ("outer - other - three", "PASSED"),
                ("outer - five", "PASSED"),
            ],
        ),
    ]);
    let karma = LogParser::from_name("parse_log_karma").unwrap();
    assert!(karma.parse("Starting browser\n    a\n   b\n  c").is_err(), "a heading too many is closed");
}

#[test]
fn javascript_failures_only() {
    check(&[
        (
            "parse_log_chart_js",
            "\u{1b}[31mChrome 1.2 (Linux 0.0) a b FAILED\u{1b}[39m\nChrome 1.2 (Linux 0.0): Executed 1 of 2",
            &[("a b ", "FAILED")],
        ),
        ("parse_log_marked", "1) a b \n 2) c\n10) d", &[("a b", "FAILED"), ("d", "FAILED")]),
        (
            "parse_log_p5js",
            "  1) outer\n       inner\n         does it:\n     Error\n  2) flat\nflat:\nobject {\n 3) in data:\n}\n<a><a>4) x:</a></a>\n 5) last:",
            &[("outer:inner:does it", "FAILED"), ("last", "FAILED")],
        ),
    ]);
    let long = format!(" 1) {}:", "x".repeat(1_001));
    assert!(
        LogParser::from_name("parse_log_p5js").unwrap().parse(&long).unwrap().is_empty(),
        "titles are bounded"
    );
}

#[test]
fn ordinary_tap() {
    check(&[
        (
            "tap",
            "TAP version 13\n1..9\nok 1 - adds\nnot ok 2 - subtracts\n#   Failed test\nok 3 no dash\nok 4\nok - unnumbered\nok 6 # skip no tool\n\
             ok 7 - s # SKIP why\nnot ok 8 - t # TODO later\nok 9 - u # todo\n    ok 1 - of a subtest\nokay\nBail out!\nok 10 - issue #12 \\# here",
            &[
                ("adds", "PASSED"),
                ("subtracts", "FAILED"),
                ("no dash", "PASSED"),
                ("test 4", "PASSED"),
                ("unnumbered", "PASSED"),
                ("test 6", "SKIPPED"),
                ("s", "SKIPPED"),
                ("t", "XFAIL"),
                ("u", "XPASS"),
                ("issue #12 # here", "PASSED"),
            ],
        ),
        ("tap", "ok\nnot ok", &[("test 1", "PASSED"), ("test 2", "FAILED")]),
    ]);
}

#[test]
fn names_are_found_or_explained() {
    assert_eq!(LogParser::from_name("parse_log_django").unwrap().name(), "parse_log_django");
    let unknown = LogParser::from_name("parse_log_jango").unwrap_err();
    assert_eq!(
        unknown.to_string(),
        r#"unknown log parser "parse_log_jango"; did you mean "parse_log_django"?"#
    );
    let unsupported = LogParser::from_name("parse_log_quarto_cli").unwrap_err();
    assert!(unsupported.to_string().contains("known but not supported"), "{unsupported}");
    let registry = registry::ENTRIES.iter().filter(|entry| entry.name.starts_with("parse_log_")).count();
    assert_eq!(registry, 57, "the registry of harness 5.0.2");
    let mut names: Vec<&str> = registry::ENTRIES.iter().map(|entry| entry.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), registry::ENTRIES.len(), "names are unique");
}

#[test]
fn some_parsers_choose_by_instance() {
    let cases = [
        ("parse_log_jekyll", "jekyll__jekyll-9141", Some("parse_log_minitest")),
        ("parse_log_jekyll", "jekyll__jekyll-8761", Some("parse_log_cucumber")),
        ("parse_log_jekyll", "jekyll__jekyll-1", None),
        ("parse_log_immutable_js", "immutable-js__immutable-js-2006", Some("parse_log_jest")),
        ("parse_log_immutable_js", "immutable-js__immutable-js-2005", Some("parse_log_jest_json")),
        ("parse_log_cargo", "a__b-1", Some("parse_log_cargo")),
    ];
    for (name, instance, expected) in cases {
        let parser = LogParser::for_instance(name, instance);
        assert_eq!(parser.as_ref().ok().map(LogParser::name), expected, "{name} {instance}");
    }
    let unbound = LogParser::from_name("parse_log_jekyll").unwrap();
    assert_eq!(unbound.parse("a"), Err(ParseError::NeedsInstance { parser: "parse_log_jekyll" }));
}

#[test]
fn repositories_have_parsers() {
    let cases = [
        ("django/django", Some("parse_log_django")),
        ("Project-MONAI/MONAI", Some("parse_log_pytest")),
        ("pydantic/pydantic", Some("swegym_pydantic")),
        ("pvlib/pvlib-python", Some("parse_log_pvlib")),
        ("django", None),
    ];
    for (repo, expected) in cases {
        assert_eq!(LogParser::for_repo(repo).map(|parser| parser.name()), expected, "{repo}");
    }
}

#[test]
fn no_log_makes_a_parser_panic() {
    let awkward = [
        "",
        "\n",
        "\u{1b}[",
        "PASSED",
        "FAILED - ",
        "FAIL:",
        "ok",
        "a ... ",
        " ... ok",
        "[junit]",
        "1)",
        "1) :",
        "<a></a>",
        "✓",
        "✔",
        "PASS",
        "PASS\u{a0}x",
        "é",
        "PASé x",
        "Starting browser\n\u{1c} x",
        " ./node_modules/.bin/jest ✓",
        "<doctest",
        "[](",
        "t[",
        "BUILD SUCCESS",
        "a - ",
        ": '>>>>> Start Test Output'",
        "\0",
        "{\n}",
        "]\n[",
        "- - -",
        "::::",
    ];
    for name in LogParser::names() {
        let parser = LogParser::from_name(name).unwrap();
        for log in awkward.iter().flat_map(|log| [(*log).to_owned(), format!("{log} {log}\n{log}")]) {
            for generation in [Generation::V4, Generation::V5] {
                let again = (parser.parse_as(generation, &log), parser.parse_as(generation, &log));
                assert_eq!(again.0, again.1, "{name} {log:?}");
            }
        }
    }
}
