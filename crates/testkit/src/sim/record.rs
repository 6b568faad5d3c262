//! Records of simulated attempts: small, but with rows in every table.

use std::collections::BTreeMap;

use bytes::Bytes;
use thresher_core::outcome::Tally;
use thresher_core::record::{
    PatchRecord, PolicyIdentity, RolloutRecord, SCHEMA_VERSION, SandboxIdentity, TaskIdentity, TestResult,
    Timings, Totals,
};
use thresher_core::task::Family;
use thresher_core::trajectory::{Step, ToolMode, Usage};
use thresher_core::{
    Fault, GradeStop, Graded, Outcome, Phase, Resolution, RolloutId, RunId, Sha256Hex, StopReason,
};
use thresher_rollout::{RolloutJob, Ungraded};

use super::fate::{Fate, reward};

/// The finished trajectory of an attempt.
pub(crate) fn ungraded(job: &RolloutJob, fate: &Fate, began_us: i64) -> Ungraded {
    Ungraded {
        nonce: job.nonce.clone(),
        policy: policy(),
        sandbox: SandboxIdentity { backend: "simulated".to_owned(), ..SandboxIdentity::default() },
        stop_reason: StopReason::Submitted,
        patch: Some(patch(&job.rollout_id)),
        steps: vec![step(fate)],
        timings: timings(fate, began_us),
    }
}

/// The record of an attempt whose trajectory was graded.
pub(crate) fn graded(run: &RunId, job: &RolloutJob, ungraded: &Ungraded) -> RolloutRecord {
    let reward = reward(&job.rollout_id);
    let solved = reward > 0.5;
    RolloutRecord {
        outcome: Outcome::Graded(Graded {
            reward,
            resolution: Some(if solved { Resolution::Full } else { Resolution::No }),
            stop: GradeStop::Evaluated,
            flaky: false,
            fail_to_pass: Some(Tally { total: 1, passed: solved.into() }),
            pass_to_pass: None,
            rule: "simulated".to_owned(),
        }),
        tests: vec![TestResult {
            test_id: "t".to_owned(),
            suite: "f2p".to_owned(),
            expected: None,
            status: if solved { "passed" } else { "failed" }.to_owned(),
            ok: solved,
        }],
        ..with(run, job, ungraded)
    }
}

/// The record of an attempt that faulted, with the trajectory if it was finished.
pub(crate) fn faulted(
    run: &RunId,
    job: &RolloutJob,
    fault: Fault,
    ungraded: Option<&Ungraded>,
) -> RolloutRecord {
    match ungraded {
        Some(ungraded) => RolloutRecord { outcome: Outcome::Faulted(fault), ..with(run, job, ungraded) },
        None => RolloutRecord {
            schema_version: SCHEMA_VERSION,
            run_id: run.clone(),
            shard_id: job.shard_id.clone(),
            rollout_id: job.rollout_id.clone(),
            attempt: job.attempt,
            nonce: job.nonce.clone(),
            task: task(job),
            sample: job.sample,
            policy: policy(),
            sandbox: SandboxIdentity::default(),
            outcome: Outcome::Faulted(fault),
            stop_reason: None,
            patch: None,
            totals: Totals::default(),
            timings: Timings::default(),
            runner_version: "simulated".to_owned(),
            grader_log: None,
            steps: Vec::new(),
            tests: Vec::new(),
        },
    }
}

/// The record of an attempt that faulted after the turns of `begun`, which were not stored.
pub(crate) fn unfinished(run: &RunId, job: &RolloutJob, fault: Fault, begun: &Ungraded) -> RolloutRecord {
    RolloutRecord {
        totals: Totals::of(&begun.steps),
        steps: begun.steps.clone(),
        ..faulted(run, job, fault, None)
    }
}

fn with(run: &RunId, job: &RolloutJob, ungraded: &Ungraded) -> RolloutRecord {
    let fault = Fault::new(
        thresher_core::Blame::Worker,
        thresher_core::Retry::Now,
        Phase::Agent,
        "replaced by its caller",
    );
    RolloutRecord {
        policy: ungraded.policy.clone(),
        sandbox: ungraded.sandbox.clone(),
        stop_reason: Some(ungraded.stop_reason),
        patch: ungraded.patch.clone(),
        totals: Totals::of(&ungraded.steps),
        timings: ungraded.timings.clone(),
        steps: ungraded.steps.clone(),
        ..faulted(run, job, fault, None)
    }
}

fn task(job: &RolloutJob) -> TaskIdentity {
    TaskIdentity {
        instance_id: job.instance_id.clone(),
        dataset: "tasks".to_owned(),
        dataset_fingerprint: Sha256Hex::new("dataset"),
        row_sha256: Sha256Hex::new("row"),
        family: Family::SweBench,
        repo: None,
        base_commit: None,
    }
}

fn policy() -> PolicyIdentity {
    PolicyIdentity {
        agent: "simulated".to_owned(),
        agent_version: "1".to_owned(),
        agent_sha256: Sha256Hex::new("agent"),
        tool_mode: ToolMode::Native,
        system_prompt: String::new(),
        task_prompt: String::new(),
        tools: None,
        model: "simulated".to_owned(),
        provider: String::new(),
        sampling: serde_json::Value::Null,
    }
}

fn patch(rollout: &RolloutId) -> PatchRecord {
    let bytes = Bytes::copy_from_slice(rollout.as_str().as_bytes());
    PatchRecord {
        sha256: Sha256Hex::new("patch"),
        bytes,
        baseline_tree: String::new(),
        result_tree: String::new(),
        files: 1,
        added: 1,
        removed: 0,
    }
}

fn step(fate: &Fate) -> Step {
    Step {
        content: "done".to_owned(),
        usage: Usage { prompt_tokens: fate.tokens, ..Usage::default() },
        cost_usd: Some(fate.micro_usd as f64 / 1e6),
        ..Step::default()
    }
}

fn timings(fate: &Fate, began_us: i64) -> Timings {
    Timings {
        started_at_us: began_us,
        ended_at_us: began_us + (fate.agent + fate.grading).as_micros() as i64,
        phases: BTreeMap::from([(Phase::Agent, fate.agent.as_millis() as u64)]),
        ..Timings::default()
    }
}
