//! The two ends of a rollout attempt: graded, with a reward, or faulted, without one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fault::{Fault, snake_case_display};

/// Why the agent's part of a rollout ended. The first seven are R2E-Gym's exit reasons under clearer names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The agent said it was done within its soft step limit (`agent`).
    Submitted,
    /// It said so exactly at the soft limit (`max_step_limit`).
    SubmittedAtStepLimit,
    /// It said so after the soft limit (`agent_max_step_limit`).
    SubmittedAfterStepLimit,
    /// A model call used as many tokens as allowed (`token_limit`).
    TokenLimit,
    /// The hard step limit was reached (`abs_step_limit`).
    StepLimit,
    /// The summed time of its steps was used up (`traj_time_limit`).
    TimeLimit,
    /// The model refused or broke off the conversation for a reason of its own (`llm_query_error`).
    ModelError,
    /// The conversation no longer fits the model's context.
    ContextOverflow,
    /// The rollout's wall-clock deadline passed.
    WallLimit,
    /// The rollout's cost cap was reached.
    CostLimit,
    /// Too many replies in a row held no valid call.
    ParseFailureLimit,
    /// The agent repeated itself.
    StuckLoop,
    /// The sandbox ended under the agent, with no evidence of an outside cause.
    SandboxKilled,
    /// The run was stopped.
    Cancelled,
    /// The agent could not be run at all, for a reason within the task (for example an oracle without a gold patch).
    Error,
}

impl StopReason {
    /// The name that R2E-Gym's trajectories use, or `None` where it has no such reason.
    pub fn r2e_name(self) -> Option<&'static str> {
        match self {
            Self::Submitted => Some("agent"),
            Self::SubmittedAtStepLimit => Some("max_step_limit"),
            Self::SubmittedAfterStepLimit => Some("agent_max_step_limit"),
            Self::TokenLimit => Some("token_limit"),
            Self::StepLimit => Some("abs_step_limit"),
            Self::TimeLimit => Some("traj_time_limit"),
            Self::ModelError => Some("llm_query_error"),
            _ => None,
        }
    }
}

/// How a grading run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GradeStop {
    /// The tests ran and their output was understood.
    Evaluated,
    /// The patch is empty; the tests were run on the unchanged tree all the same.
    EmptyPatch,
    /// The patch does not apply to the baseline that it was made against.
    PatchApplyFailed,
    /// The tests did not end in time, twice.
    TestTimeout,
    /// The tests printed nothing that could be understood, twice.
    NoTestOutput,
    /// The sandbox died while testing, twice, with no evidence of an outside cause.
    SandboxKilled,
}

/// SWE-bench's verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// All fail-to-pass and pass-to-pass tests are satisfied.
    Full,
    /// Some fail-to-pass tests pass, and nothing broke.
    Partial,
    /// Anything else.
    No,
}

snake_case_display!(StopReason, GradeStop, Resolution);

/// A verdict. The only place where a reward exists.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Graded {
    /// The number used for training, in 0..=1.
    pub reward: f64,
    /// SWE-bench's verdict, where the family has one.
    pub resolution: Option<Resolution>,
    /// How the grading run ended.
    pub stop: GradeStop,
    /// Whether a repeated grading disagreed with the first.
    pub flaky: bool,
    /// Fail-to-pass tests: how many there are and how many passed; `None` where the family has no such list.
    pub fail_to_pass: Option<Tally>,
    /// Pass-to-pass tests, likewise; for R2E-Gym all expected tests.
    pub pass_to_pass: Option<Tally>,
    /// The rule that gave the verdict, with its generation, for example `swebench-5.0.2` or `r2e-strict-1`.
    pub rule: String,
}

/// Passed out of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many tests are on the list.
    pub total: u32,
    /// How many of them were satisfied.
    pub passed: u32,
}

/// The end of a rollout attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Outcome {
    /// A verdict, with its reward.
    Graded(Graded),
    /// Infrastructure failed; there is no reward.
    Faulted(Fault),
}

impl Outcome {
    /// The reward, or `None` for a fault: never 0 as a placeholder.
    pub fn reward(&self) -> Option<f64> {
        match self {
            Self::Graded(graded) => Some(graded.reward),
            Self::Faulted(_) => None,
        }
    }

    /// Whether the task was solved: a reward of 1.
    pub fn is_solved(&self) -> bool {
        self.reward().is_some_and(|reward| reward >= 1.0)
    }
}
