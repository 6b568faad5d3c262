//! Verdicts on real logs, held against what SWE-bench 5.0.2 and R2E-Gym said about them.
//!
//! The logs are third-party text and not part of this repository. The folder that holds them is named by the variable
//! `THRESHER_TEST_DATA`; without it these tests say that they were skipped.

#![cfg(test)]

mod data;

use std::collections::BTreeMap;

use serde_json::Value;
use thresher_grade::swebench::{
    EvalType, Generation, InfraLabel, InfraTier, InstanceReport, PatchState, RunOutput, Scope,
    classify_infra, read_log, read_run, report,
};
use thresher_grade::{
    EvalScript, Grade, LogParser, StatusMap, TestStatus, needs_network, network_uses, r2e, runs_locale_gen,
};

use data::{Case, Row};

#[test]
fn stored_logs_get_the_verdicts_of_harness_5() {
    let Some(root) = data::root("stored_logs_get_the_verdicts_of_harness_5") else { return };
    let rows = data::rows(&root);
    let cases: Vec<Case> =
        ["verified_logs_mit", "local_runs"].iter().flat_map(|name| data::cases(&root, name)).collect();
    assert!(cases.len() >= 122, "only {} cases", cases.len());
    let differences: Vec<String> = cases.iter().filter_map(|case| difference(case, &rows)).collect();
    assert!(
        differences.is_empty(),
        "{} of {} differ:\n{}",
        differences.len(),
        cases.len(),
        differences.join("\n")
    );
}

/// Says how our verdict on a case differs from the recorded one, in anything.
fn difference(case: &Case, rows: &BTreeMap<(String, String), Row>) -> Option<String> {
    let row = &rows[&(case.dataset.clone(), case.instance_id.clone())];
    assert_eq!(row.log_parser, case.log_parser, "{}", case.case_id);
    let parser = LogParser::for_instance(&case.log_parser, &case.instance_id).unwrap();
    let reading = read_log(&case.log, parser, Generation::V5);
    let verdict =
        reading.found().then(|| report(&reading.status_map, &row.lists, row.eval_type, Generation::V5));
    let ours = (
        serde_json::to_value(&reading.status_map).unwrap(),
        reading.found(),
        verdict.as_ref().map(|verdict| verdict.resolution.to_string()),
        serde_json::to_value(InstanceReport::new(
            PatchState::Present,
            verdict.as_ref(),
            classify_infra(&case.log),
        ))
        .unwrap(),
    );
    let theirs = (case.status_map.clone(), case.found, case.resolution.clone(), case.report.clone());
    let grade = Grade::swebench(&reading, &row.lists, row.eval_type, Generation::V5);
    assert_eq!(grade.reward == 1.0, case.resolution.as_deref() == Some("RESOLVED_FULL"), "{}", case.case_id);
    (ours != theirs).then(|| {
        format!("{}: found {} {:?}, expected {} {:?}", case.case_id, ours.1, ours.2, theirs.1, theirs.2)
    })
}

/// Cutting the tests' output out of a stored log and reading it as a run of ours must not change a verdict. No log
/// here is refused for its exit code.
#[test]
fn runs_of_a_sandbox_get_the_same_verdicts() {
    let Some(root) = data::root("runs_of_a_sandbox_get_the_same_verdicts") else { return };
    for case in ["verified_logs_mit", "local_runs"].iter().flat_map(|name| data::cases(&root, name)) {
        let log = case.log.replace("\r\n", "\n");
        let (setup, rest) = log.split_once(">>>>> Start Test Output").unwrap();
        let Some((tests, _)) = rest.split_once(">>>>> End Test Output") else { continue };
        let parser = LogParser::for_instance(&case.log_parser, &case.instance_id).unwrap();
        for scope in [Scope::TestOutput, Scope::WholeLog] {
            let reading = read_run(&RunOutput { setup, tests, exit_code: Some(0) }, scope, parser);
            let ours = (serde_json::to_value(&reading.status_map).unwrap(), reading.found());
            assert_eq!(ours, (case.status_map.clone(), case.found), "{} {scope:?}", case.case_id);
        }
    }
}

#[test]
fn logs_of_older_harnesses_parse() {
    let Some(root) = data::root("logs_of_older_harnesses_parse") else { return };
    let logs = data::json_lines(&root.join("logs/legacy_eval_logs_2024.jsonl.zst"));
    assert!(logs.len() >= 36);
    let mut statuses = 0;
    for log in &logs {
        let (path, text) = (log["source_path"].as_str().unwrap(), log["log"].as_str().unwrap());
        let repo = path.rsplit('/').next().unwrap().split("__").collect::<Vec<_>>();
        let parser = repo.get(1).and_then(|name| {
            LogParser::for_repo(&format!(
                "{}/{}",
                repo[0],
                name.rsplit_once('-').map_or(*name, |(name, _)| name)
            ))
        });
        // Every parser must survive every log; the one of the log's own repository must also find something.
        for name in LogParser::names() {
            drop(LogParser::from_name(name).unwrap().parse(text));
        }
        statuses += parser.map_or(0, |parser| parser.parse(text).map_or(0, |map| map.len()));
        assert!(
            !read_log(text, LogParser::from_name("parse_log_pytest").unwrap(), Generation::V5).found(),
            "no markers"
        );
    }
    assert!(statuses > 0, "no log's repository was recognized");
}

#[test]
fn a_raw_django_log_with_torn_lines_parses() {
    let Some(root) = data::root("a_raw_django_log_with_torn_lines_parses") else { return };
    let log = std::fs::read_to_string(root.join("logs/django_16950_log_output.txt")).unwrap();
    let map = LogParser::for_repo("django/django").unwrap().parse(&log).unwrap();
    let row = &data::rows(&root)[&("SWE-bench_Verified_test".to_owned(), "django__django-16950".to_owned())];
    let missing: Vec<&String> = row
        .lists
        .fail_to_pass
        .iter()
        .chain(&row.lists.pass_to_pass)
        .filter(|test| map.get(test).is_none())
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn swe_smith_reports_agree_with_its_parser() {
    let Some(root) = data::root("swe_smith_reports_agree_with_its_parser") else { return };
    let folder = root.join("logs/swesmith");
    let mut checked = 0;
    for report_path in data::files(&folder, "__report.json") {
        let report: Value = serde_json::from_str(&data::text(&report_path)).unwrap();
        let name = report_path.file_name().unwrap().to_str().unwrap();
        let stem = name.split("__report.json").next().unwrap();
        let Some(log_path) = data::files(&folder, "__test_output.txt")
            .into_iter()
            .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&format!("{stem}__")))
        else {
            continue;
        };
        let log = data::text(&log_path);
        let Some(status) = report["tests_status"].as_object() else { continue };
        let map = LogParser::from_name("swesmith_pytest").unwrap().parse(&log).unwrap();
        for list in ["FAIL_TO_PASS", "PASS_TO_PASS"] {
            for test in status[list]["success"].as_array().unwrap() {
                let test = test.as_str().unwrap();
                let status = TestStatus::from_raw(map.get(test));
                assert!(matches!(status, TestStatus::Passed | TestStatus::Xfail), "{stem} {test}: {status}");
                checked += 1;
            }
        }
    }
    assert!(checked > 100, "only {checked} tests compared");
}

#[test]
fn a_raw_go_log_parses() {
    let Some(root) = data::root("a_raw_go_log_parses") else { return };
    let log = data::text(&data::files(&root.join("logs/swesmith"), "gin-gonic").remove(0));
    let map = LogParser::from_name("parse_log_gotest").unwrap().parse(&log).unwrap();
    assert!(map.len() > 50 && map.iter().any(|(_, status)| status == "PASSED"), "{}", map.len());
}

/// Rows whose own stored log does not give their expected map: their tests depend on file permissions, on timing, or
/// on the home directory. They show that a row must be validated before it is used, not that the rules are wrong.
const NOT_REPRODUCIBLE: [&str; 3] = ["aiohttp_01ed1894", "aiohttp_1c1c0ea3", "aiohttp_20d5f6e5"];

#[test]
fn logs_of_fixed_commits_give_their_expected_maps() {
    let Some(root) = data::root("logs_of_fixed_commits_give_their_expected_maps") else { return };
    let rows = data::r2e_rows(&root);
    assert!(rows.len() >= 23, "only {} rows", rows.len());
    for (name, expected, fixed_log, broken_log) in &rows {
        let expected = r2e::decode_expected(expected).unwrap();
        let reproducible = !NOT_REPRODUCIBLE.iter().any(|row| name.contains(row));
        for grade in [Grade::r2e_compat as fn(&str, &StatusMap) -> Grade, Grade::r2e_strict] {
            let fixed = grade(fixed_log, &expected);
            let differing: Vec<_> = fixed.tests.iter().filter(|test| !test.ok).collect();
            assert_eq!(fixed.reward == 1.0, reproducible, "{name}: {differing:?}");
            assert_eq!(grade(broken_log, &expected).reward, 0.0, "{name} before the fix");
        }
    }
}

/// Every script of every row splits at its markers; the parts hold the script's lines and nothing is lost.
#[test]
fn every_evaluation_script_splits() {
    let Some(root) = data::root("every_evaluation_script_splits") else { return };
    let rows = data::rows(&root);
    assert!(rows.len() >= 1_400);
    let (mut locale_gen, mut setups_with_network) = (0, 0);
    for ((dataset, id), row) in &rows {
        let script = EvalScript::new(row.eval_script.as_str());
        let parts = script.split("/state");
        let (setup, teardown) = (parts.setup.expect(id), parts.teardown.expect(id));
        let lines: Vec<&str> = row.eval_script.lines().collect();
        let at = |marker: &str| lines.iter().position(|line| line.contains(marker)).unwrap();
        let (start, end) = (at(">>>>> Start Test Output"), at(">>>>> End Test Output"));
        assert!(setup.starts_with(&(lines[..start].join("\n") + "\n")), "{dataset} {id}");
        assert!(parts.test.ends_with(&format!("\n{}\n", lines[start + 1..end].join("\n"))), "{dataset} {id}");
        assert!(teardown.ends_with(&format!("\n{}\n", lines[end + 1..].join("\n"))), "{dataset} {id}");
        // Chart.js installs its packages between the markers.
        let uses = network_uses(&parts.test);
        assert_eq!(uses.is_empty(), !id.starts_with("chartjs__"), "{dataset} {id}: {uses:?}");
        assert_eq!(script.with_exit_code().lines().count(), lines.len() + 2, "{dataset} {id}");
        setups_with_network += usize::from(needs_network(&setup));
        locale_gen += usize::from(runs_locale_gen(&setup));
    }
    assert!(setups_with_network >= 1_047, "only {setups_with_network} set-ups install something");
    assert!(locale_gen >= 167, "only {locale_gen} scripts run locale-gen");
}

#[test]
fn every_parser_of_every_row_is_known() {
    let Some(root) = data::root("every_parser_of_every_row_is_known") else { return };
    for ((dataset, id), row) in &data::rows(&root) {
        assert!(LogParser::for_instance(&row.log_parser, id).is_ok(), "{dataset} {id} {}", row.log_parser);
        if dataset.contains("Multi") {
            continue;
        }
        let by_repo = LogParser::for_repo(&row.repo).map(|parser| parser.name());
        assert_eq!(by_repo, Some(row.log_parser.as_str()), "{dataset} {id}");
        assert_eq!(row.eval_type, EvalType::PassAndFail);
    }
}

#[test]
fn resolved_logs_show_no_broken_environment() {
    let Some(root) = data::root("resolved_logs_show_no_broken_environment") else { return };
    let cases = ["verified_logs_mit", "local_runs"].map(|name| data::cases(&root, name)).concat();
    let resolved = cases.iter().filter(|case| case.resolution.as_deref() == Some("RESOLVED_FULL"));
    for case in resolved {
        let tier = classify_infra(&case.log).map(InfraLabel::tier);
        assert_ne!(tier, Some(InfraTier::Environment), "{}", case.case_id);
    }
}
