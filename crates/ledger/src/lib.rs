//! Everything under a run's prefix.
//!
//! This crate's secret is how a run is kept: which objects there are, in which order they are written, and what
//! their bytes mean. [`Ledger`] is the run; [`Reader`] is a view of it at one position of its log.
//!
//! Invariants:
//! - A rollout's result is decided by one create-if-absent write and never changes.
//! - A fault never stands in a result's place, and has no reward in any table.
//! - A Parquet file is part of the run exactly if the log says so; a reader never sees a rollout twice.
//! - Whatever instant the writer is killed at, the same calls afterwards bring the run to the same end.
#![doc = include_str!("../PROTOCOL.md")]

mod attempt;
mod checkpoint;
mod claim;
mod codec;
mod compact;
mod control;
mod data;
mod error;
mod follow;
mod gc;
mod heartbeat;
mod ids;
mod image_lock;
mod layout;
mod ledger;
mod lock;
mod log;
mod log_state;
mod log_summary;
mod manifest;
mod pack;
mod packer;
mod plan;
mod reader;
mod register;
mod result;
mod schema;
mod summary;
mod table_file;
mod tranche;

pub use attempt::{AttemptCounts, Attempts, FaultSeen, Ungraded, capped_log};
pub use claim::{Claim, Claiming, LostAttempt, Release, Standing};
pub use codec::PROTOCOL;
pub use compact::{CompactOptions, Compacted};
pub use control::{Control, RunState};
pub use error::LedgerError;
pub use follow::{Follower, NewRows, Position};
pub use gc::{Deleted, GcOptions, GcReport};
pub use heartbeat::{DoneCounts, Heartbeat, InFlight, Incarnation, UnpackedCounts, WorkerState};
pub use ids::IdSource;
pub use image_lock::ImageLock;
pub use ledger::Ledger;
pub use lock::{LockError, RunLock};
pub use log_summary::{LogSummary, PackedTotals};
pub use manifest::{Manifest, ManifestFile, OutcomeCounts};
pub use pack::{PackOptions, PackWhen, Packed};
pub use packer::{Packer, PackerOptions};
pub use plan::{DatasetIdentity, PlanOutline, StoredPlan};
pub use reader::Reader;
pub use result::{Commit, CommittedResult, Stored};
pub use schema::{Table, document as schema_document};
pub use summary::RolloutSummary;
pub use tranche::{Amount, Drawn, Limits, Wish, micro_usd};
