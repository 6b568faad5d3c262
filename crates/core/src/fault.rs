//! Faults: what infrastructure did to a rollout.
//!
//! A fault needs evidence from **outside** the sandbox: the daemon does not answer, the registry refuses, the
//! model endpoint is down, the node's disk is full. What the code under test can cause by itself (a test
//! timeout, a killed process, no test output) is never a fault: otherwise a patch could escape a reward of 0.
//!
//! | what happened | blame | retry |
//! |---|---|---|
//! | the Docker daemon went away while tests ran | `Daemon` | `Later` |
//! | the registry answered 429 | `Registry` | `Later` |
//! | the image does not exist | `Image` | `Never` |
//! | 503 from the model until the retry budget was spent | `Model` | `Later` |
//! | 401 from the model | `Configuration` | `Never` |
//! | no space left on the node | `Disk` | `Elsewhere` |
//! | the worker was killed | `Worker` | `Now` |

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who acted: the part of the infrastructure that a fault is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// The container engine.
    Daemon,
    /// The image registry.
    Registry,
    /// The image itself: absent, broken, or without what its family promises.
    Image,
    /// The model endpoint.
    Model,
    /// The node's disk.
    Disk,
    /// The node: kernel limits, memory outside the sandbox, a control that fails.
    Node,
    /// The object store of results.
    Store,
    /// The worker process itself.
    Worker,
    /// What the user configured: a wrong key, an unknown model.
    Configuration,
}

/// What to do about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// Try again at once.
    Now,
    /// Try again after a pause: the cause is expected to pass.
    Later,
    /// Try again on another node.
    Elsewhere,
    /// Trying again cannot help.
    Never,
}

/// The part of a rollout during which something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Reading the dataset row.
    Load,
    /// Resolving and pulling the image.
    Pull,
    /// Starting the sandbox.
    Start,
    /// Setting the task up in it.
    Setup,
    /// The agent's turns.
    Agent,
    /// Taking the patch.
    Patch,
    /// The grading run.
    Grade,
    /// Writing the result.
    Commit,
}

/// An infrastructure fault. It carries no reward: the rollout says nothing about the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// Who acted.
    pub blame: Blame,
    /// What to do.
    pub retry: Retry,
    /// When it happened.
    pub phase: Phase,
    /// The evidence, for a person: what was seen outside the sandbox. Never holds a secret.
    pub message: String,
}

impl Fault {
    /// Makes a fault.
    pub fn new(blame: Blame, retry: Retry, phase: Phase, message: impl Into<String>) -> Self {
        Self { blame, retry, phase, message: message.into() }
    }

    /// The same fault, seen in `phase`.
    pub fn during(self, phase: Phase) -> Self {
        Self { phase, ..self }
    }
}

macro_rules! snake_case_display {
    ($($name:ident),*) => {$(
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&$crate::fault::snake_case(&format!("{self:?}")))
            }
        }
    )*};
}
snake_case_display!(Blame, Retry, Phase);

/// Turns a variant's name into the snake_case word that Parquet columns hold.
pub(crate) fn snake_case(variant: &str) -> String {
    let mut word = String::with_capacity(variant.len() + 4);
    for (at, letter) in variant.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            word.push('_');
        }
        word.push(letter.to_ascii_lowercase());
    }
    word
}

pub(crate) use snake_case_display;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_and_serde_use_the_same_word() {
        for blame in [Blame::Daemon, Blame::Configuration] {
            assert_eq!(format!("\"{blame}\""), serde_json::to_string(&blame).unwrap());
        }
        assert_eq!(snake_case("SubmittedAtStepLimit"), "submitted_at_step_limit");
    }
}
