//! The policies: who turns observations into actions. One file per agent, one line in [`by_name`].

mod null;
mod oracle;
mod r2egym;

use async_trait::async_trait;
use thresher_core::run_spec::{AgentName, AgentSpec};
use thresher_core::{Fault, Sha256Hex, StopReason, Task};
use thresher_sandbox::SandboxError;

pub use crate::episode::Episode;

/// A policy. It is stateless: what belongs to one rollout lives in the [`Episode`].
#[async_trait]
pub trait Agent: Send + Sync {
    /// Version of its prompts and tools; changes whenever what the model sees changes.
    fn version(&self) -> String;

    /// The prompts and tools that it would use for `task`, for the record. All empty for agents without a model.
    fn prompts(&self, task: &Task, workdir: &str) -> Prompts;

    /// Works until it stops. The stop reason is the agent's; errors are the environment's.
    async fn run(&self, episode: &mut Episode<'_>) -> Result<StopReason, AgentError>;
}

/// What a model is told at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompts {
    /// System prompt.
    pub system: String,
    /// First user message.
    pub task: String,
    /// Tool definitions as JSON text; `None` in text mode and without a model.
    pub tools: Option<String>,
}

/// Why an agent could not go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The sandbox failed. Whether that is a fault depends on evidence from outside.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The model endpoint failed, with evidence.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The turn could not be written to the node's disk.
    #[error("failed to record a step: {0}")]
    Record(#[from] std::io::Error),
}

/// The registry of agents.
pub fn by_name(spec: &AgentSpec) -> Box<dyn Agent> {
    match spec.name {
        AgentName::R2egym => Box::new(r2egym::R2eGym::new(spec.tool_mode)),
        AgentName::Oracle => Box::new(oracle::Oracle),
        AgentName::Null => Box::new(null::Null),
    }
}

/// Hash over everything that makes the agent what it is: its version and its spec (limits and tool mode).
pub fn identity_sha256(spec: &AgentSpec) -> Sha256Hex {
    let version = by_name(spec).version();
    let json = serde_json::to_vec(&(version, spec)).expect("a spec of plain values serializes");
    Sha256Hex::of(&json)
}
