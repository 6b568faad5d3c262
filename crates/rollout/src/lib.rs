//! One rollout, from task to record.
//!
//! The secret of this crate is how an agent, a model, a sandbox and a grading run are put together. Start with
//! [`engine`], which tells one rollout from top to bottom; everything else is a part of that story:
//! [`environment`] makes an image fit for agents once, `workspace` sets a sandbox up and takes the patch,
//! `agent` holds the policies, `grading` runs the hidden tests.
//!
//! Invariants:
//! - [`engine::Engine::run`] returns a record, never an error: every attempt leaves a row.
//! - A fault needs evidence from outside the sandbox; what the agent or its patch did is graded.
//! - Hidden tests are only ever in a grading sandbox, and the patch that is graded is the stored bytes.

pub mod agent;
mod blobs;
pub mod clock;
mod draft;
pub mod engine;
pub mod environment;
mod episode;
mod grading;
pub mod journal;
pub mod llm;
mod workspace;

pub use clock::Clock;
pub use engine::{Engine, RolloutJob};
pub use journal::{Journal, Ungraded};
