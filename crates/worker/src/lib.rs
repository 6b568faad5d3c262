//! Takes a run's shards and finishes them.
//!
//! The secret of this crate is in which order, how many at a time and how often rollouts are tried. [`Worker::run`]
//! holds a number of slots; each slot takes the next rollout, runs it and commits its record. Nothing here decides a
//! result: a rollout's result is whatever the ledger took first.
//!
//! Invariants:
//! - A rollout whose result is committed is never run again.
//! - A drain admits nothing new and finishes what runs.
//! - A failing store stops the worker; what is committed stays committed.

mod budget;
mod event;
mod journal;
mod queue;
mod retry;
mod slot;
mod worker;

pub use event::{Event, Observer};
pub use worker::{StopCause, Worker, WorkerError, WorkerParts, WorkerReport};
