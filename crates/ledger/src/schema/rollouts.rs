//! Columns of `rollouts` and `faults`: scalars first, wide text last.

use serde_json::Value;
use thresher_core::{Fault, Graded, Outcome, Phase, RolloutRecord};

use super::column::{Cell, Column, Kind, nullable, required};
use super::{messages, words};

pub(super) const COLUMNS: &[Column<RolloutRecord>] = &[
    required(1, "schema_version", Kind::Int32, "Version of the table's schema.", |r, _| {
        Cell::Int(r.schema_version.into())
    }),
    required(2, "run_id", Kind::Text, "The run.", |r, _| Cell::text(r.run_id.as_str())),
    required(
        3,
        "rollout_id",
        Kind::Text,
        "The rollout: hash of task, agent, model, sampling and sample number. Unique in `rollouts`.",
        |r, _| Cell::text(r.rollout_id.as_str()),
    ),
    required(4, "shard_id", Kind::Text, "The shard that it was scheduled in.", |r, _| {
        Cell::text(r.shard_id.as_str())
    }),
    required(
        5,
        "execution_no",
        Kind::Int32,
        "Which attempt of the rollout the row comes from, from 1.",
        |r, _| Cell::Int(r.attempt.into()),
    ),
    required(6, "attempt_nonce", Kind::Text, "Random identity of that attempt.", |r, _| Cell::text(&r.nonce)),
    required(
        7,
        "group_id",
        Kind::Text,
        "Shared by rollouts that may be compared: same run, task, agent and model.",
        |r, _| Cell::owned(words::group_id(r)),
    ),
    required(8, "sample_index", Kind::Int32, "Sample number within the task, from 0.", |r, _| {
        Cell::Int(r.sample.into())
    }),
    required(9, "instance_id", Kind::Text, "The dataset's id of the task.", |r, _| {
        Cell::text(r.task.instance_id.as_str())
    }),
    required(10, "dataset", Kind::Text, "Dataset name.", |r, _| Cell::text(&r.task.dataset)),
    required(11, "dataset_revision", Kind::Text, "Fingerprint of the dataset's files.", |r, _| {
        Cell::text(r.task.dataset_fingerprint.as_str())
    }),
    required(12, "family", Kind::Text, "Row family: `r2e_gym`, `swe_bench` or `inline`.", |r, _| {
        Cell::word(r.task.family)
    }),
    required(13, "instance_sha256", Kind::Text, "Hash of the dataset row.", |r, _| {
        Cell::text(r.task.row_sha256.as_str())
    }),
    nullable(14, "repo", Kind::Text, "Repository, as the dataset has it.", |r, _| {
        Cell::texts(r.task.repo.as_deref())
    }),
    nullable(15, "base_commit", Kind::Text, "Commit of the buggy state.", |r, _| {
        Cell::texts(r.task.base_commit.as_deref())
    }),
    required(16, "image_ref", Kind::Text, "Image as the dataset names it.", |r, _| {
        Cell::text(&r.sandbox.image_ref)
    }),
    required(
        17,
        "image_digest",
        Kind::Text,
        "Digest that it was resolved to; empty where the machine itself is the image.",
        |r, _| Cell::text(&r.sandbox.image_digest),
    ),
    required(18, "scaffold", Kind::Text, "Agent name.", |r, _| Cell::text(&r.policy.agent)),
    required(19, "scaffold_version", Kind::Text, "Version of the agent's prompts and tools.", |r, _| {
        Cell::text(&r.policy.agent_version)
    }),
    required(20, "scaffold_config_sha256", Kind::Text, "Hash over prompts, tools and limits.", |r, _| {
        Cell::text(r.policy.agent_sha256.as_str())
    }),
    required(21, "tool_mode", Kind::Text, "How calls travel: `native` or `xml_text`.", |r, _| {
        Cell::text(r.policy.tool_mode.as_str())
    }),
    required(22, "model", Kind::Text, "Model name; empty for agents without a model.", |r, _| {
        Cell::text(&r.policy.model)
    }),
    required(23, "provider", Kind::Text, "Host of the endpoint, `replay`, or empty.", |r, _| {
        Cell::text(&r.policy.provider)
    }),
    nullable(24, "temperature", Kind::Float32, "Sampling temperature, if it was sent.", |r, _| {
        Cell::floats(words::sampling(r, "temperature").and_then(Value::as_f64))
    }),
    nullable(25, "top_p", Kind::Float32, "Nucleus mass, if it was sent.", |r, _| {
        Cell::floats(words::sampling(r, "top_p").and_then(Value::as_f64))
    }),
    nullable(26, "max_output_tokens", Kind::Int32, "Token limit of one reply, if it was sent.", |r, _| {
        Cell::counts(words::sampling(r, "max_output_tokens").and_then(Value::as_i64))
    }),
    nullable(27, "seed", Kind::Int64, "Sampling seed, if it was sent.", |r, _| {
        Cell::counts(words::sampling(r, "seed").and_then(Value::as_i64))
    }),
    nullable(28, "sampling_extra", Kind::Text, "Other sampling parameters, JSON.", |r, _| {
        words::sampling_extra(r).map_or(Cell::Null, Cell::owned)
    }),
    required(
        29,
        "status",
        Kind::Text,
        "`completed` (the agent submitted), `truncated` (a limit), `aborted` (it broke off), `cancelled`, or `failed` (a fault).",
        |r, _| Cell::text(words::status(r)),
    ),
    nullable(
        30,
        "exit_reason",
        Kind::Text,
        "Why the agent's part ended, for example `submitted` or `step_limit`; null where it never began or a fault broke it off.",
        |r, _| Cell::words(r.stop_reason),
    ),
    required(
        31,
        "trainable",
        Kind::Bool,
        "Whether the runner would train on it: graded without disagreement, and completed or truncated.",
        |r, _| Cell::Bool(words::trainable(r)),
    ),
    nullable(32, "error_type", Kind::Text, "Who a fault is charged to; null unless faulted.", |r, _| {
        Cell::words(fault(r).map(|fault| fault.blame))
    }),
    nullable(
        33,
        "error_retry",
        Kind::Text,
        "What to do about the fault: `now`, `later`, `elsewhere` or `never`.",
        |r, _| Cell::words(fault(r).map(|fault| fault.retry)),
    ),
    nullable(34, "error_phase", Kind::Text, "The phase that it happened in.", |r, _| {
        Cell::words(fault(r).map(|fault| fault.phase))
    }),
    nullable(35, "error_message", Kind::Text, "The evidence, for a person.", |r, _| {
        Cell::texts(fault(r).map(|fault| fault.message.as_str()))
    }),
    required(36, "n_steps", Kind::Int32, "Turns.", |r, _| Cell::Int(r.totals.steps.into())),
    required(37, "n_tool_calls", Kind::Int32, "Calls made.", |r, _| Cell::Int(r.totals.tool_calls.into())),
    required(38, "n_format_errors", Kind::Int32, "Replies without a valid call.", |r, _| {
        Cell::Int(r.totals.format_errors.into())
    }),
    required(39, "n_tool_errors", Kind::Int32, "Calls that a tool refused.", |r, _| {
        Cell::Int(r.totals.tool_errors.into())
    }),
    required(
        40,
        "prompt_tokens",
        Kind::Int64,
        "Prompt tokens over all calls, as the provider counts.",
        |r, _| Cell::count(r.totals.usage.prompt_tokens),
    ),
    required(41, "completion_tokens", Kind::Int64, "Reply tokens, likewise.", |r, _| {
        Cell::count(r.totals.usage.completion_tokens)
    }),
    required(42, "cached_tokens", Kind::Int64, "Prompt tokens that a cache served.", |r, _| {
        Cell::count(r.totals.usage.cached_tokens)
    }),
    required(43, "reasoning_tokens", Kind::Int64, "Reply tokens spent on reasoning.", |r, _| {
        Cell::count(r.totals.usage.reasoning_tokens)
    }),
    required(44, "max_context_tokens", Kind::Int64, "Largest prompt plus reply of one call.", |r, _| {
        Cell::count(r.totals.max_context_tokens)
    }),
    nullable(45, "cost_usd", Kind::Float64, "US dollars, where prices are known.", |r, _| {
        Cell::floats(r.totals.cost_usd)
    }),
    required(46, "started_at", Kind::Timestamp, "Start of the attempt.", |r, _| {
        Cell::Int(r.timings.started_at_us)
    }),
    required(47, "ended_at", Kind::Timestamp, "End of the attempt.", |r, _| Cell::Int(r.timings.ended_at_us)),
    required(48, "wall_ms", Kind::Int64, "Milliseconds between the two.", |r, _| {
        Cell::Int((r.timings.ended_at_us - r.timings.started_at_us) / 1000)
    }),
    nullable(
        49,
        "load_ms",
        Kind::Int64,
        "Milliseconds for reading the dataset row; this and the following are null for phases that were not entered.",
        |r, _| phase(r, Phase::Load),
    ),
    nullable(50, "pull_ms", Kind::Int64, "Milliseconds for resolving and pulling the image.", |r, _| {
        phase(r, Phase::Pull)
    }),
    nullable(51, "start_ms", Kind::Int64, "Milliseconds for starting the sandbox.", |r, _| {
        phase(r, Phase::Start)
    }),
    nullable(52, "setup_ms", Kind::Int64, "Milliseconds for setting the task up.", |r, _| {
        phase(r, Phase::Setup)
    }),
    nullable(53, "agent_ms", Kind::Int64, "Milliseconds of the agent's turns.", |r, _| {
        phase(r, Phase::Agent)
    }),
    nullable(54, "patch_ms", Kind::Int64, "Milliseconds for taking the patch.", |r, _| {
        phase(r, Phase::Patch)
    }),
    nullable(55, "eval_ms", Kind::Int64, "Milliseconds of grading.", |r, _| phase(r, Phase::Grade)),
    nullable(56, "commit_ms", Kind::Int64, "Milliseconds for writing the result.", |r, _| {
        phase(r, Phase::Commit)
    }),
    required(57, "llm_ms", Kind::Int64, "Milliseconds waiting for the model.", |r, _| {
        Cell::count(r.timings.llm_ms)
    }),
    required(58, "env_ms", Kind::Int64, "Milliseconds in tools.", |r, _| Cell::count(r.timings.env_ms)),
    nullable(
        59,
        "patch_sha256",
        Kind::Text,
        "Hash of `patch_bytes`; this and the following are null if there is no patch.",
        |r, _| Cell::texts(r.patch.as_ref().map(|patch| patch.sha256.as_str())),
    ),
    nullable(
        60,
        "patch_size",
        Kind::Int64,
        "Size of `patch_bytes` in bytes; 0 if nothing was changed.",
        |r, _| Cell::counts(r.patch.as_ref().map(|patch| patch.bytes.len() as u64)),
    ),
    nullable(61, "patch_files", Kind::Int32, "Files touched.", |r, _| {
        Cell::counts(r.patch.as_ref().map(|patch| patch.files))
    }),
    nullable(62, "patch_added", Kind::Int32, "Text lines added.", |r, _| {
        Cell::counts(r.patch.as_ref().map(|patch| patch.added))
    }),
    nullable(63, "patch_removed", Kind::Int32, "Text lines removed.", |r, _| {
        Cell::counts(r.patch.as_ref().map(|patch| patch.removed))
    }),
    nullable(
        64,
        "patch_lossy",
        Kind::Bool,
        "Whether `patch` is not byte-exact because the bytes are not UTF-8: then apply `patch_bytes`.",
        |r, _| {
            r.patch
                .as_ref()
                .map_or(Cell::Null, |patch| Cell::Bool(std::str::from_utf8(&patch.bytes).is_err()))
        },
    ),
    nullable(
        65,
        "touches_tests",
        Kind::Bool,
        "Whether it changes a file whose name looks like a test's.",
        |r, _| words::touches_tests(r).map_or(Cell::Null, Cell::Bool),
    ),
    nullable(
        66,
        "baseline_tree",
        Kind::Text,
        "Git tree id that the patch applies to: the work tree after set-up.",
        |r, _| Cell::texts(r.patch.as_ref().map(|patch| patch.baseline_tree.as_str())),
    ),
    nullable(67, "result_tree", Kind::Text, "Git tree id after the patch.", |r, _| {
        Cell::texts(r.patch.as_ref().map(|patch| patch.result_tree.as_str()))
    }),
    required(
        68,
        "eval_status",
        Kind::Text,
        "`evaluated`, `empty_patch`, `patch_apply_failed`, `test_timeout`, `no_test_output`, `sandbox_killed`; on a fault `infra_failure` (while grading) or `not_run`.",
        |r, _| Cell::owned(words::eval_status(r)),
    ),
    nullable(
        69,
        "harness",
        Kind::Text,
        "Whose rules graded: the task's family. Null unless graded.",
        |r, _| Cell::words(graded(r).map(|_| r.task.family)),
    ),
    nullable(
        70,
        "harness_version",
        Kind::Text,
        "The rule with its generation, for example `swebench-5.0.2`. Null unless graded.",
        |r, _| Cell::texts(graded(r).map(|graded| graded.rule.as_str())),
    ),
    nullable(
        71,
        "resolved",
        Kind::Bool,
        "Whether the task was solved (a reward of 1). Null exactly on a fault.",
        |r, _| graded(r).map_or(Cell::Null, |_| Cell::Bool(r.outcome.is_solved())),
    ),
    nullable(
        72,
        "reward",
        Kind::Float64,
        "The number used for training, 0 to 1. Null exactly on a fault.",
        |r, _| Cell::floats(r.outcome.reward()),
    ),
    nullable(
        73,
        "resolution",
        Kind::Text,
        "SWE-bench's verdict: `full`, `partial` or `no`; null where the family has none.",
        |r, _| Cell::words(graded(r).and_then(|graded| graded.resolution)),
    ),
    nullable(
        74,
        "f2p_total",
        Kind::Int32,
        "Fail-to-pass tests; null where the family has no such list.",
        |r, _| Cell::counts(graded(r).and_then(|graded| graded.fail_to_pass).map(|tally| tally.total)),
    ),
    nullable(75, "f2p_passed", Kind::Int32, "Those that were satisfied.", |r, _| {
        Cell::counts(graded(r).and_then(|graded| graded.fail_to_pass).map(|tally| tally.passed))
    }),
    nullable(76, "p2p_total", Kind::Int32, "Pass-to-pass tests; for R2E-Gym all expected tests.", |r, _| {
        Cell::counts(graded(r).and_then(|graded| graded.pass_to_pass).map(|tally| tally.total))
    }),
    nullable(77, "p2p_passed", Kind::Int32, "Those that were satisfied.", |r, _| {
        Cell::counts(graded(r).and_then(|graded| graded.pass_to_pass).map(|tally| tally.passed))
    }),
    nullable(
        78,
        "eval_flaky",
        Kind::Bool,
        "Whether a repeated grading disagreed with the first. Null on a fault.",
        |r, _| graded(r).map_or(Cell::Null, |graded| Cell::Bool(graded.flaky)),
    ),
    required(79, "sandbox_backend", Kind::Text, "`docker`, `embedded` or `process`.", |r, _| {
        Cell::text(&r.sandbox.backend)
    }),
    required(
        80,
        "isolation",
        Kind::Text,
        "`container`, `namespaces`, `user_namespaces` or `none`.",
        |r, _| Cell::text(&r.sandbox.isolation),
    ),
    required(81, "capabilities", Kind::Texts(82), "Capabilities inside the sandbox, sorted.", |r, _| {
        Cell::Texts(&r.sandbox.capabilities)
    }),
    nullable(83, "cpu_shares", Kind::Int64, "`cpu.shares` or `cpu.weight` in force.", |r, _| {
        Cell::counts(r.sandbox.cpu_shares)
    }),
    nullable(84, "cpus", Kind::Float64, "Processors by quota; null without one.", |r, _| {
        Cell::floats(r.sandbox.cpus)
    }),
    nullable(85, "memory_bytes", Kind::Int64, "Memory limit.", |r, _| Cell::counts(r.sandbox.memory_bytes)),
    nullable(86, "pids", Kind::Int32, "Process limit.", |r, _| Cell::counts(r.sandbox.pids)),
    nullable(87, "shm_bytes", Kind::Int64, "Size of `/dev/shm`.", |r, _| Cell::counts(r.sandbox.shm_bytes)),
    nullable(
        88,
        "cgroup_version",
        Kind::Int32,
        "1 or 2; null where the sandbox has no cgroup of its own.",
        |r, _| Cell::counts(r.sandbox.cgroup_version),
    ),
    required(89, "agent_network", Kind::Text, "Network while the agent worked.", |r, _| {
        Cell::text(&r.sandbox.agent_network)
    }),
    required(90, "grading_network", Kind::Text, "Network while grading.", |r, _| {
        Cell::text(&r.sandbox.grading_network)
    }),
    required(91, "kernel", Kind::Text, "Kernel release.", |r, _| Cell::text(&r.sandbox.kernel)),
    required(92, "setup_version", Kind::Text, "Version of set-up and scrub.", |r, _| {
        Cell::text(&r.sandbox.setup_version)
    }),
    required(
        93,
        "deviations",
        Kind::Texts(94),
        "What deviates from the family's own environment, in words.",
        |r, _| Cell::Texts(&r.sandbox.deviations),
    ),
    nullable(95, "log_uri", Kind::Text, "The grader's log, relative to the run's prefix; zstd.", |r, _| {
        Cell::texts(r.grader_log.as_deref())
    }),
    required(96, "runner_version", Kind::Text, "Version of the runner.", |r, _| {
        Cell::text(&r.runner_version)
    }),
    required(97, "system_prompt", Kind::Repeated, "System prompt as sent.", |r, _| {
        Cell::text(&r.policy.system_prompt)
    }),
    nullable(98, "tools", Kind::Repeated, "Tool definitions as sent, JSON; null in text mode.", |r, _| {
        Cell::texts(r.policy.tools.as_deref())
    }),
    required(99, "task_prompt", Kind::Repeated, "First user message as sent.", |r, _| {
        Cell::text(&r.policy.task_prompt)
    }),
    nullable(100, "patch", Kind::Wide, "The patch as text; see `patch_lossy`.", |r, _| {
        r.patch.as_ref().map_or(Cell::Null, |patch| Cell::Text(String::from_utf8_lossy(&patch.bytes)))
    }),
    nullable(101, "patch_bytes", Kind::Binary, "The patch, to the byte.", |r, _| {
        r.patch.as_ref().map_or(Cell::Null, |patch| Cell::Bytes(&patch.bytes))
    }),
    nullable(
        102,
        "messages",
        Kind::Wide,
        "The conversation in OpenAI chat form, JSON; null where no model was asked.",
        |r, _| messages::messages(r).map_or(Cell::Null, Cell::owned),
    ),
];

fn graded(record: &RolloutRecord) -> Option<&Graded> {
    if let Outcome::Graded(graded) = &record.outcome { Some(graded) } else { None }
}

fn fault(record: &RolloutRecord) -> Option<&Fault> {
    if let Outcome::Faulted(fault) = &record.outcome { Some(fault) } else { None }
}

fn phase(record: &RolloutRecord, phase: Phase) -> Cell<'static> {
    Cell::counts(record.timings.phases.get(&phase).copied())
}
