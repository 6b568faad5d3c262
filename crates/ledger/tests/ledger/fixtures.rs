//! Records and plans for the tests: made from numbers, so that two processes make the same.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use thresher_core::id::RolloutKey;
use thresher_core::outcome::Tally;
use thresher_core::plan::{Plan, RefusedRow, Sizing, TaskHandle};
use thresher_core::record::{
    PatchRecord, PolicyIdentity, RolloutRecord, SCHEMA_VERSION, SandboxIdentity, TaskIdentity, TestResult,
    Timings, Totals,
};
use thresher_core::task::Family;
use thresher_core::trajectory::{Observation, Step, ToolCall, ToolMode, Usage};
use thresher_core::{
    Blame, Fault, GradeStop, Graded, InstanceId, Outcome, Phase, Resolution, Retry, RolloutId, RunId,
    RunSpec, Sha256Hex, StopReason,
};
use thresher_ledger::{DatasetIdentity, Ledger};
use thresher_store::{LocalDir, Memory};

pub(crate) const RUN: &str = "test-run";

pub(crate) fn memory() -> Ledger {
    Ledger::open(Arc::new(Memory::new()), "runs/test-run", RunId::new(RUN)).unwrap()
}

pub(crate) fn local(dir: &Path) -> Ledger {
    Ledger::open(Arc::new(LocalDir::new(dir)), "", RunId::new(RUN)).unwrap()
}

pub(crate) fn spec(samples: u32) -> RunSpec {
    let json = format!(r#"{{"dataset": {{"path": "tasks.jsonl"}}, "samples": {samples}}}"#);
    serde_json::from_str(&json).unwrap()
}

pub(crate) fn dataset() -> DatasetIdentity {
    DatasetIdentity {
        name: "tasks".into(),
        family: Family::SweBench,
        fingerprint: Sha256Hex::of(b"dataset"),
        rows: 100,
    }
}

/// Tasks `0..tasks` on three images; the last row is refused.
pub(crate) fn plan(tasks: u32, samples: std::ops::Range<u32>) -> Plan {
    sized_plan(tasks, samples, &Sizing::default())
}

/// The same with known durations.
pub(crate) fn sized_plan(tasks: u32, samples: std::ops::Range<u32>, sizing: &Sizing) -> Plan {
    let handles = (0..tasks).map(|at| TaskHandle {
        instance_id: InstanceId::new(format!("task-{at:03}")),
        row_sha256: Sha256Hex::of(&at.to_le_bytes()),
        image: format!("registry/image:{}", at % 3),
        row: at.into(),
    });
    let refused = RefusedRow { row: 99, instance_id: None, reason: "its statement is empty".into() };
    Plan::sized(handles.collect(), vec![refused], samples, sizing, rollout_id)
}

fn rollout_id(task: &TaskHandle, sample: u32) -> RolloutId {
    let fixed = Sha256Hex::of(b"fixed");
    RolloutId::derive(&RolloutKey {
        instance_id: &task.instance_id,
        row_sha256: &task.row_sha256,
        agent_sha256: &fixed,
        model_sha256: &fixed,
        sample,
    })
}

/// The rollouts of a plan, each with a graded record of its own; every third is solved.
pub(crate) fn records(plan: &Plan) -> Vec<RolloutRecord> {
    let rollouts = plan.shards.iter().flat_map(|shard| shard.rollouts.iter().map(move |of| (shard, of)));
    rollouts
        .map(|(shard, rollout)| {
            let task = &plan.tasks[rollout.task as usize];
            let seed = rollout.task * 10 + rollout.sample;
            RolloutRecord {
                shard_id: shard.shard_id.clone(),
                rollout_id: rollout.rollout_id.clone(),
                sample: rollout.sample,
                task: TaskIdentity {
                    instance_id: task.instance_id.clone(),
                    row_sha256: task.row_sha256.clone(),
                    ..task_identity()
                },
                ..record(seed)
            }
        })
        .collect()
}

/// A graded record with steps, tests and a patch that is not UTF-8.
pub(crate) fn record(seed: u32) -> RolloutRecord {
    let steps: Vec<Step> = (0..seed % 4 + 1).map(step).collect();
    RolloutRecord {
        schema_version: SCHEMA_VERSION,
        run_id: RunId::new(RUN),
        shard_id: thresher_core::ShardId::new("shard"),
        rollout_id: RolloutId::new(format!("{seed:032x}")),
        attempt: 1,
        nonce: format!("nonce-{seed}"),
        task: task_identity(),
        sample: 0,
        policy: policy(seed),
        sandbox: sandbox(),
        outcome: Outcome::Graded(graded(seed.is_multiple_of(3))),
        stop_reason: Some(StopReason::Submitted),
        patch: Some(patch()),
        totals: Totals::of(&steps),
        timings: timings(seed),
        runner_version: "0.1.0".into(),
        grader_log: Some("attempts/a/b/c.grader.log.zst".into()),
        tests: tests(seed.is_multiple_of(3)),
        steps,
    }
}

/// The same rollout, faulted on its `attempt`th attempt.
pub(crate) fn faulted(record: &RolloutRecord, attempt: u32) -> RolloutRecord {
    let fault = Fault::new(Blame::Daemon, Retry::Later, Phase::Grade, "the daemon went away");
    RolloutRecord {
        attempt,
        nonce: format!("{}-fault-{attempt}", record.nonce),
        outcome: Outcome::Faulted(fault),
        stop_reason: None,
        tests: Vec::new(),
        grader_log: None,
        ..record.clone()
    }
}

fn task_identity() -> TaskIdentity {
    TaskIdentity {
        instance_id: InstanceId::new("task"),
        dataset: "tasks".into(),
        dataset_fingerprint: Sha256Hex::of(b"dataset"),
        row_sha256: Sha256Hex::of(b"row"),
        family: Family::SweBench,
        repo: Some("owner/name".into()),
        base_commit: None,
    }
}

fn policy(seed: u32) -> PolicyIdentity {
    PolicyIdentity {
        agent: "r2egym".into(),
        agent_version: "1".into(),
        agent_sha256: Sha256Hex::of(b"agent"),
        tool_mode: if seed.is_multiple_of(2) { ToolMode::Native } else { ToolMode::XmlText },
        system_prompt: "You are a programmer.".into(),
        task_prompt: format!("Fix issue {seed}: the café is closed. 🦀"),
        tools: seed.is_multiple_of(2).then(|| r#"[{"type":"function"}]"#.into()),
        model: "scripted".into(),
        provider: "replay".into(),
        sampling: serde_json::json!({ "temperature": 0.5, "top_p": null, "seed": seed, "stop": ["</s>"] }),
    }
}

fn sandbox() -> SandboxIdentity {
    SandboxIdentity {
        backend: "docker".into(),
        isolation: "container".into(),
        image_ref: "registry/image:1".into(),
        image_digest: "sha256:0".into(),
        capabilities: vec!["CHOWN".into(), "KILL".into()],
        cpu_shares: Some(1024),
        memory_bytes: Some(8 << 30),
        cgroup_version: Some(2),
        agent_network: "none".into(),
        grading_network: "full".into(),
        kernel: "6.1".into(),
        setup_version: "1".into(),
        ..SandboxIdentity::default()
    }
}

fn graded(solved: bool) -> Graded {
    Graded {
        reward: if solved { 1.0 } else { 0.0 },
        resolution: Some(if solved { Resolution::Full } else { Resolution::No }),
        stop: GradeStop::Evaluated,
        flaky: false,
        fail_to_pass: Some(Tally { total: 1, passed: solved.into() }),
        pass_to_pass: Some(Tally { total: 1, passed: 1 }),
        rule: "swebench-5.0.2".into(),
    }
}

fn patch() -> PatchRecord {
    let bytes = Bytes::from_static(
        b"diff --git a/tests/a.txt b/tests/a.txt\nindex 8c01d89..13ff2b8 100644\n--- a/tests/a.txt\n\
          +++ b/tests/a.txt\n@@ -1 +1 @@\n-caf\xc3\xa9\n+caf\xe9\n",
    );
    PatchRecord {
        sha256: Sha256Hex::of(&bytes),
        bytes,
        baseline_tree: "a".repeat(40),
        result_tree: "b".repeat(40),
        files: 1,
        added: 1,
        removed: 1,
    }
}

fn timings(seed: u32) -> Timings {
    let started_at_us = 1_750_000_000_000_000 + i64::from(seed) * 1_000_000;
    Timings {
        started_at_us,
        ended_at_us: started_at_us + 1_234_567,
        phases: BTreeMap::from([(Phase::Setup, 12), (Phase::Agent, 1000), (Phase::Grade, 200)]),
        llm_ms: 900,
        env_ms: 100,
    }
}

fn step(index: u32) -> Step {
    let last = index == 3;
    Step {
        index,
        user_message: (index == 1).then(|| "Steps remaining: 3".into()),
        reasoning: (index == 0).then(|| "Let me think.".into()),
        content: format!("Step {index}: I look. é"),
        raw_reply: "{\"choices\":[]}".into(),
        tool_calls: if last { Vec::new() } else { vec![call(index, 0), call(index, 1)] },
        observations: if last { Vec::new() } else { vec![observation(index, 0), observation(index, 1)] },
        finish_reason: Some("tool_calls".into()),
        format_error: last.then(|| "no call".into()),
        usage: Usage { prompt_tokens: 100, completion_tokens: 10, cached_tokens: 50, reasoning_tokens: 1 },
        cost_usd: Some(0.1),
        started_at_us: 1_750_000_000_000_000 + i64::from(index),
        llm_ms: 5,
        env_ms: 7,
    }
}

fn call(step: u32, at: u32) -> ToolCall {
    ToolCall {
        id: format!("call-{step}-{at}"),
        name: "execute_bash".into(),
        arguments: format!("{{\"command\":\"echo {at}\"}}"),
        arguments_valid: true,
    }
}

fn observation(step: u32, at: u32) -> Observation {
    Observation {
        tool_call_id: format!("call-{step}-{at}"),
        name: "execute_bash".into(),
        content: format!("{at}\n"),
        is_error: at == 1,
        exit_code: (at == 0).then_some(0),
        truncated_bytes: 0,
        duration_ms: 3,
    }
}

fn tests(solved: bool) -> Vec<TestResult> {
    let test = |id: &str, suite: &str, ok: bool| TestResult {
        test_id: id.into(),
        suite: suite.into(),
        expected: Some("passed".into()),
        status: if ok { "passed" } else { "failed" }.into(),
        ok,
    };
    vec![test("t::new", "f2p", solved), test("t::old", "p2p", true)]
}
