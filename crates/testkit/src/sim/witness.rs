//! What really happened in the processes of a case, told by nobody's heartbeat.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Sees what is done to processes and what their agents are paid. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Witness(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    /// Processes that the others may have thought gone, rightly or not, with how many attempts each time.
    suspect: BTreeMap<u32, u64>,
    paid_micro_usd: u64,
}

impl Witness {
    /// An agent's turns were paid.
    pub(crate) fn paid(&self, micro_usd: u64) {
        self.seen().paid_micro_usd += micro_usd;
    }

    /// The others may think a process with so many slots gone, since it ended or cannot be heard.
    pub(crate) fn suspect(&self, process: u32, slots: usize) {
        *self.seen().suspect.entry(process).or_default() += slots as u64;
    }

    /// Whether the others ever had a reason to think a process gone.
    pub(crate) fn is_suspect(&self, process: u32) -> bool {
        self.seen().suspect.contains_key(&process)
    }

    /// Millionths of a dollar that were really paid.
    pub(crate) fn paid_micro_usd(&self) -> u64 {
        self.seen().paid_micro_usd
    }

    /// At most so many attempts were in flight on workers when those were lost.
    pub(crate) fn exposed(&self) -> u64 {
        self.seen().suspect.values().sum()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
