//! The vocabulary of Thresher and every pure decision that is not grading.
//!
//! This crate's secret is what the words mean. It holds no async code, no clock, no environment access and
//! no I/O: everything here is a value or a function of values, so every rule in it can be tested as a table.
//!
//! Naming ladder: a **Spec** says what should happen, a bare noun is a durable decision, an **Attempt** is one
//! execution, a **Record** is what an attempt left, a **Manifest** is what is final.
//!
//! The flow that the types follow:
//!
//! ```text
//! dataset row -> Task -> Shard -> Rollout = sandbox + agent + model
//!             -> Trajectory -> fresh sandbox + hidden tests -> Grade
//!             -> RolloutRecord -> result (commit) -> Parquet -> manifest
//! ```
//!
//! Invariants:
//! - A reward exists only inside [`outcome::Graded`]; a [`fault::Fault`] has none.
//! - A [`record::PatchRecord`] always names the baseline tree that it applies to.
//! - The id of a rollout is a hash of task, agent, model, sampling and sample number, so a run can be extended
//!   without renumbering; concurrency, budgets and endpoints are no part of it.

pub mod exit_code;
pub mod fault;
pub mod id;
pub mod image_counts;
pub mod outcome;
pub mod patch;
pub mod plan;
pub mod record;
pub mod run_spec;
pub mod secret;
pub mod stats;
pub mod task;
pub mod trajectory;

pub use fault::{Blame, Fault, Phase, Retry};
pub use id::{InstanceId, RolloutId, RunId, Sha256Hex, ShardId};
pub use image_counts::ImageCounts;
pub use outcome::{GradeStop, Graded, Outcome, Resolution, StopReason};
pub use record::RolloutRecord;
pub use run_spec::RunSpec;
pub use secret::Secret;
pub use task::Task;
