//! Where a rollout leaves things before it has ended: implemented by the worker over the ledger.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thresher_core::outcome::StopReason;
use thresher_core::record::{PatchRecord, PolicyIdentity, SandboxIdentity, Timings};
use thresher_core::trajectory::Step;
use thresher_core::{Fault, RolloutId};

/// A finished trajectory that is not graded yet. It is stored before grading begins, so that a runner that is
/// killed in between only has to grade.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ungraded {
    /// Random identity of the attempt that made it.
    pub nonce: String,
    /// Who worked and how.
    pub policy: PolicyIdentity,
    /// Where the agent worked.
    pub sandbox: SandboxIdentity,
    /// Why the agent's part ended.
    pub stop_reason: StopReason,
    /// The patch; `None` where the sandbox died under the agent or the change is too large to be kept.
    pub patch: Option<PatchRecord>,
    /// The turns.
    pub steps: Vec<Step>,
    /// Times so far.
    pub timings: Timings,
}

/// Something that a progress view wants to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// The rollout entered a phase.
    Phase(thresher_core::Phase),
    /// The agent took a turn: turns so far, tokens and dollars of this turn.
    Step {
        /// Turns so far.
        steps: u32,
        /// Tokens of this turn, prompt and reply.
        tokens: u64,
        /// Cost of this turn.
        cost_usd: Option<f64>,
    },
}

/// Takes what must outlive the process.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Stores a finished trajectory before it is graded.
    async fn ungraded(&self, rollout: &RolloutId, ungraded: &Ungraded) -> Result<(), Fault>;

    /// Stores a grader's log and returns its path relative to the run's prefix.
    async fn grader_log(&self, rollout: &RolloutId, nonce: &str, log: &[u8]) -> Result<String, Fault>;

    /// The digest that the run has locked `image` to; `None` if nobody has yet.
    async fn locked_image(&self, image: &str) -> Result<Option<String>, Fault>;

    /// Locks `image` to `digest`, unless somebody was first; returns what counts.
    async fn lock_image(&self, image: &str, digest: &str) -> Result<String, Fault>;

    /// Hears of progress. Must not block.
    fn progress(&self, rollout: &RolloutId, progress: Progress);
}
