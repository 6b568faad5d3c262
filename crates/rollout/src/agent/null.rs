//! The agent that does nothing: the lower control of a dataset. It must get a reward of 0.

use async_trait::async_trait;
use thresher_core::{StopReason, Task};

use super::{Agent, AgentError, Episode, Prompts};

/// Submits at once.
pub(super) struct Null;

#[async_trait]
impl Agent for Null {
    fn version(&self) -> String {
        "null-1".into()
    }

    fn prompts(&self, _: &Task, _: &str) -> Prompts {
        Prompts::default()
    }

    async fn run(&self, _: &mut Episode<'_>) -> Result<StopReason, AgentError> {
        Ok(StopReason::Submitted)
    }
}
