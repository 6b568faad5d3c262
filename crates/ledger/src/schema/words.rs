//! Values that a row derives from its record: states, ids of groups, what a patch touches.

use thresher_core::{Outcome, Phase, RolloutRecord, Sha256Hex, StopReason, patch};

/// The `status` column: `completed`, `truncated`, `aborted`, `cancelled` or `failed`.
pub(super) fn status(record: &RolloutRecord) -> &'static str {
    use StopReason as Stop;
    match (&record.outcome, record.stop_reason) {
        (Outcome::Faulted(_), _) => "failed",
        (_, None | Some(Stop::Submitted | Stop::SubmittedAtStepLimit | Stop::SubmittedAfterStepLimit)) => {
            "completed"
        }
        (
            _,
            Some(
                Stop::TokenLimit
                | Stop::StepLimit
                | Stop::TimeLimit
                | Stop::ContextOverflow
                | Stop::WallLimit
                | Stop::CostLimit,
            ),
        ) => "truncated",
        (
            _,
            Some(
                Stop::ModelError
                | Stop::ParseFailureLimit
                | Stop::StuckLoop
                | Stop::SandboxKilled
                | Stop::Error,
            ),
        ) => "aborted",
        (_, Some(Stop::Cancelled)) => "cancelled",
    }
}

/// The `trainable` column: the trajectory is whole, its verdict stands, and nothing but the agent ended it.
pub(super) fn trainable(record: &RolloutRecord) -> bool {
    let Outcome::Graded(graded) = &record.outcome else { return false };
    !graded.flaky && !record.steps.is_empty() && matches!(status(record), "completed" | "truncated")
}

/// The `eval_status` column: how grading ended, or why there is no verdict.
pub(super) fn eval_status(record: &RolloutRecord) -> String {
    match &record.outcome {
        Outcome::Graded(graded) => graded.stop.to_string(),
        Outcome::Faulted(fault) if fault.phase >= Phase::Grade => "infra_failure".to_owned(),
        Outcome::Faulted(_) => "not_run".to_owned(),
    }
}

/// The `group_id` column: rollouts that may be compared share run, task, agent and model.
pub(super) fn group_id(record: &RolloutRecord) -> String {
    let parts = [
        record.run_id.as_str(),
        record.task.instance_id.as_str(),
        record.task.row_sha256.as_str(),
        record.policy.agent_sha256.as_str(),
        &record.policy.model,
    ];
    let joined = serde_json::to_vec(&parts).expect("texts serialize");
    Sha256Hex::of(&joined).as_str()[..32].to_owned()
}

/// A sampling parameter, and `None` where it was not sent.
pub(super) fn sampling<'r>(record: &'r RolloutRecord, key: &str) -> Option<&'r serde_json::Value> {
    record.policy.sampling.get(key).filter(|value| !value.is_null())
}

/// The parameters that have columns of their own.
const OWN_COLUMNS: [&str; 4] = ["temperature", "top_p", "max_output_tokens", "seed"];

/// The other sampling parameters, as JSON; `None` if there are none.
pub(super) fn sampling_extra(record: &RolloutRecord) -> Option<String> {
    let all = record.policy.sampling.as_object()?;
    let others = all.iter().filter(|(key, value)| !OWN_COLUMNS.contains(&key.as_str()) && !is_empty(value));
    let others: serde_json::Map<_, _> = others.map(|(key, value)| (key.clone(), value.clone())).collect();
    (!others.is_empty()).then(|| serde_json::Value::Object(others).to_string())
}

fn is_empty(value: &serde_json::Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

/// Whether the patch changes a file that looks like a test; `None` without a patch that can be read.
pub(super) fn touches_tests(record: &RolloutRecord) -> Option<bool> {
    let parsed = patch::parse(&record.patch.as_ref()?.bytes).ok()?;
    Some(parsed.paths().into_iter().any(|path| is_test_path(&String::from_utf8_lossy(path))))
}

/// Folder names and file names that the test runners of common languages collect.
fn is_test_path(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    let file = parts.next().unwrap_or_default().to_ascii_lowercase();
    let stem = file.split('.').next().unwrap_or_default();
    let in_folder = parts.any(|folder| {
        matches!(
            folder.to_ascii_lowercase().as_str(),
            "test" | "tests" | "testing" | "__tests__" | "spec" | "specs"
        )
    });
    in_folder
        || matches!(stem, "conftest" | "test" | "tests")
        || stem.starts_with("test_")
        || stem.ends_with("_test")
        || stem.ends_with("_tests")
        || file.contains(".test.")
        || file.contains(".spec.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_files_are_known_by_their_names() {
        for test in ["tests/a.py", "a/test_b.py", "x/b_test.go", "src/a.test.ts", "conftest.py", "Test/x.c"] {
            assert!(is_test_path(test), "{test}");
        }
        for other in ["src/a.py", "latest/contest.py", "attest.rs", "docs/testament.md", "protest.txt"] {
            assert!(!is_test_path(other), "{other}");
        }
    }
}
