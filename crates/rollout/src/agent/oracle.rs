//! The agent that applies the gold patch: the upper control of a dataset. It must get a reward of 1.

use async_trait::async_trait;
use thresher_core::{StopReason, Task};

use super::{Agent, AgentError, Episode, Prompts};
use crate::workspace;

/// Applies the gold patch as `git apply` would, then submits.
pub(super) struct Oracle;

#[async_trait]
impl Agent for Oracle {
    fn version(&self) -> String {
        "oracle-1".into()
    }

    fn prompts(&self, _: &Task, _: &str) -> Prompts {
        Prompts::default()
    }

    async fn run(&self, episode: &mut Episode<'_>) -> Result<StopReason, AgentError> {
        let Some(gold) = &episode.task.gold_patch else { return Ok(StopReason::Error) };
        match workspace::apply_in_place(episode.sandbox, &episode.workdir, gold).await? {
            Ok(()) => Ok(StopReason::Submitted),
            Err(reason) => {
                tracing::warn!(instance_id = %episode.task.instance_id, %reason, "gold patch does not apply");
                Ok(StopReason::Error)
            }
        }
    }
}
