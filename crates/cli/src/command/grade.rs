//! `thresher grade`: the verdict on a stored log.

use std::io::Read as _;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;
use thresher_core::exit_code;
use thresher_core::run_spec::DatasetSpec;
use thresher_core::task::TestSpec;
use thresher_core::{InstanceId, Task};
use thresher_dataset::Dataset;
use thresher_grade::swebench::{self, EvalType, Generation};
use thresher_grade::{Grade, LogParser, StatusMap, TestLists, r2e};

use super::{print, print_json};
use crate::args::GradeArgs;
use crate::exit::{Failure, WithCode as _};
use crate::table;

/// The verdict, as `--json` prints it.
#[derive(Serialize)]
struct Verdict {
    instance_id: InstanceId,
    status_map: StatusMap,
    found: bool,
    reason_not_found: Option<String>,
    resolution: Option<&'static str>,
    reward: f64,
    tests: Vec<thresher_grade::TestVerdict>,
}

/// Grades the log.
pub(super) fn run(args: &GradeArgs) -> Result<i32, Failure> {
    let task = load(args)?;
    let log = read_log(args)?;
    let verdict = grade(&task, &log, args.compat)?;
    if args.json {
        print_json(&verdict)?
    } else {
        print(&text(&verdict))?
    }
    Ok(exit_code::OK)
}

fn load(args: &GradeArgs) -> Result<Task, Failure> {
    let spec: DatasetSpec = serde_json::from_value(json!({ "path": args.dataset }))?;
    let dataset = Dataset::open(&spec, std::path::Path::new(".")).code(exit_code::DATA)?;
    let handle = dataset.find(&InstanceId::new(&args.instance)).code(exit_code::DATA)?;
    dataset.load(&handle).code(exit_code::DATA)
}

/// Reads the log as bytes: real logs hold invalid UTF-8, which is replaced as the harness does.
fn read_log(args: &GradeArgs) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    if args.log.as_os_str() == "-" {
        std::io::stdin().lock().read_to_end(&mut bytes)?;
    } else {
        bytes = std::fs::read(&args.log)
            .with_context(|| format!("failed to read log {}", args.log.display()))
            .code(exit_code::USAGE)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn grade(task: &Task, log: &str, compat: bool) -> Result<Verdict, Failure> {
    let (status_map, grade) = match &task.tests {
        TestSpec::R2eGym { expected } => {
            let expected: StatusMap =
                expected.iter().map(|(name, status)| (name.clone(), status.clone())).collect();
            if compat {
                (r2e::parse_compat(&r2e::clean_output(log)), Grade::r2e_compat(log, &expected))
            } else {
                (r2e::parse_strict(log, &expected).status_map, Grade::r2e_strict(log, &expected))
            }
        }
        TestSpec::SweBench { log_parser, fail_only, fail_to_pass, pass_to_pass, .. } => {
            let parser = LogParser::for_instance(log_parser, task.instance_id.as_str())?;
            let lists = TestLists { fail_to_pass: fail_to_pass.clone(), pass_to_pass: pass_to_pass.clone() };
            let kind = if *fail_only { EvalType::FailOnly } else { EvalType::PassAndFail };
            let reading = swebench::read_log(log, parser, Generation::V5);
            let grade = Grade::swebench(&reading, &lists, kind, Generation::V5);
            (reading.status_map, grade)
        }
        TestSpec::Inline { log_parser, fail_to_pass, pass_to_pass, .. } => {
            let parser = LogParser::from_name(log_parser)?;
            let lists = TestLists { fail_to_pass: fail_to_pass.clone(), pass_to_pass: pass_to_pass.clone() };
            let run = swebench::RunOutput { setup: "", tests: log, exit_code: exit_code(log) };
            let reading = swebench::read_run(&run, swebench::Scope::TestOutput, parser);
            let grade = Grade::swebench(&reading, &lists, EvalType::PassAndFail, Generation::V5);
            (reading.status_map, grade)
        }
    };
    Ok(Verdict {
        instance_id: task.instance_id.clone(),
        status_map,
        found: grade.found,
        reason_not_found: grade.reason_not_found,
        resolution: grade.resolution.map(swebench::Resolution::short),
        reward: grade.reward,
        tests: grade.tests,
    })
}

/// How the tests ended, where the log is one that a run has kept; any other log is taken to be whole. `None` if they
/// were killed.
fn exit_code(log: &str) -> Option<i32> {
    let Some(end) = log.lines().rev().find_map(|line| line.strip_prefix("##### tests ended: ")) else {
        return Some(0);
    };
    end.strip_prefix("Exited(")?.strip_suffix(')')?.parse().ok()
}

fn text(verdict: &Verdict) -> String {
    let mut rows = table::new(["test", "suite", "status", "ok"]);
    for test in verdict.tests.iter().filter(|test| test.suite != thresher_grade::Suite::Other) {
        let ok = if test.ok { "yes" } else { "NO" };
        rows.add_row([test.test_id.as_str(), test.suite.as_str(), test.status.as_str(), ok]);
    }
    let found = match &verdict.reason_not_found {
        Some(reason) => format!("no ({reason})"),
        None => format!("yes, {} tests in the log", verdict.status_map.len()),
    };
    let resolution = verdict.resolution.unwrap_or("-");
    format!(
        "{rows}\n\ninstance    {}\nfound       {found}\nresolution  {resolution}\nreward      {}",
        verdict.instance_id, verdict.reward
    )
}
