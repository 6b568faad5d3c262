//! Takes a run's shards and finishes them.
//!
//! The secret of this crate is in which order, how many at a time and how often rollouts are tried, and how the workers
//! of a run, on any number of machines, share it through nothing but its prefix in the store. [`Worker::run`] claims
//! shards, runs their rollouts in slots and commits their records. Nothing here decides a result: a rollout's result is
//! whatever the ledger took first, so that a wrong guess about who is alive costs work, and nothing else.
//!
//! Invariants:
//! - A rollout whose result is committed is never run again.
//! - Before a rollout begins, a heartbeat that lists it is stored and its cap is reserved in the budget.
//! - A drain admits nothing new; what is left of a worker that has ended is a run that any other can go on with.
//! - A failing store stops the worker; what is committed stays committed.

mod book;
mod event;
mod hold;
mod journal;
mod outage;
mod pulse;
mod purse;
mod queue;
mod retry;
mod runner;
mod slot;
mod watch;
mod worker;

pub use event::{Event, Observer};
pub use runner::{EngineRunner, Runner};
pub use worker::{MakeRunner, OnDrain, StopCause, Worker, WorkerError, WorkerParts, WorkerReport};
