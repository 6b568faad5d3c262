//! What really happened in the processes of a case, told by nobody's heartbeat.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thresher_core::RolloutId;

/// Sees every attempt of every process. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Witness(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    /// The processes that ever began each rollout.
    began: BTreeMap<RolloutId, BTreeSet<u32>>,
    /// What each process runs.
    running: BTreeMap<u32, BTreeSet<RolloutId>>,
    /// Processes that the others may have thought gone, rightly or not.
    suspect: BTreeSet<u32>,
    /// Attempts that ran on processes when those were killed.
    cut_off: u64,
    paid_micro_usd: u64,
}

impl Witness {
    pub(crate) fn began(&self, process: u32, rollout: &RolloutId) {
        let mut seen = self.seen();
        seen.began.entry(rollout.clone()).or_default().insert(process);
        seen.running.entry(process).or_default().insert(rollout.clone());
    }

    pub(crate) fn ended(&self, process: u32, rollout: &RolloutId) {
        if let Some(running) = self.seen().running.get_mut(&process) {
            running.remove(rollout);
        }
    }

    /// An agent's turns were paid.
    pub(crate) fn paid(&self, micro_usd: u64) {
        self.seen().paid_micro_usd += micro_usd;
    }

    /// A process ended, not of its own will.
    pub(crate) fn lost(&self, process: u32) {
        let mut seen = self.seen();
        seen.suspect.insert(process);
        seen.cut_off += seen.running.remove(&process).map_or(0, |running| running.len() as u64);
    }

    /// Something is done to a process that can make the others think it gone.
    pub(crate) fn suspect(&self, process: u32) {
        self.seen().suspect.insert(process);
    }

    /// On how many processes a rollout was begun that others may have thought gone.
    pub(crate) fn suspects_of(&self, rollout: &RolloutId) -> usize {
        let seen = self.seen();
        seen.began.get(rollout).map_or(0, |processes| processes.intersection(&seen.suspect).count())
    }

    /// Millionths of a dollar that were really paid.
    pub(crate) fn paid_micro_usd(&self) -> u64 {
        self.seen().paid_micro_usd
    }

    /// Attempts that were cut off by the end of their process.
    pub(crate) fn cut_off(&self) -> u64 {
        self.seen().cut_off
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
