//! The rollout's journal over the ledger.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use thresher_core::fault::{Blame, Fault, Phase, Retry};
use thresher_core::{RolloutId, ShardId};
use thresher_ledger::{Ledger, LedgerError};
use thresher_rollout::journal::Progress;
use thresher_rollout::{Journal, Ungraded};

use crate::event::{Event, Observer};

/// Writes to the ledger and passes progress on.
pub(crate) struct LedgerJournal {
    ledger: Ledger,
    observer: Arc<dyn Observer>,
    shards: HashMap<RolloutId, ShardId>,
    attempts: std::sync::Mutex<HashMap<RolloutId, u32>>,
}

impl LedgerJournal {
    pub(crate) fn new(
        ledger: Ledger,
        observer: Arc<dyn Observer>,
        shards: HashMap<RolloutId, ShardId>,
    ) -> Self {
        Self { ledger, observer, shards, attempts: std::sync::Mutex::default() }
    }

    /// Notes the number of the attempt that begins, for what is stored in its name.
    pub(crate) fn begin(&self, rollout: &RolloutId, attempt: u32) {
        self.attempts.lock().expect("no holder of this lock panics").insert(rollout.clone(), attempt);
    }

    fn shard(&self, rollout: &RolloutId) -> &ShardId {
        self.shards.get(rollout).expect("only planned rollouts are run")
    }

    fn attempt(&self, rollout: &RolloutId) -> u32 {
        *self.attempts.lock().expect("no holder of this lock panics").get(rollout).unwrap_or(&1)
    }
}

#[async_trait]
impl Journal for LedgerJournal {
    async fn ungraded(&self, rollout: &RolloutId, ungraded: &Ungraded) -> Result<(), Fault> {
        let (shard, attempt) = (self.shard(rollout), self.attempt(rollout));
        let saved = self.ledger.save_ungraded(shard, rollout, attempt, &ungraded.nonce, ungraded).await;
        saved.map_err(|error| store_fault(&error))
    }

    async fn grader_log(&self, rollout: &RolloutId, nonce: &str, log: &[u8]) -> Result<String, Fault> {
        let saved = self.ledger.save_grader_log(self.shard(rollout), rollout, nonce, log).await;
        saved.map_err(|error| store_fault(&error))
    }

    fn progress(&self, rollout: &RolloutId, progress: Progress) {
        let rollout = rollout.clone();
        self.observer.hear(match progress {
            Progress::Phase(phase) => Event::Entered { rollout, phase },
            Progress::Step { steps, tokens, cost_usd } => Event::Stepped { rollout, steps, tokens, cost_usd },
        });
    }
}

/// The fault that a failing store is.
pub(crate) fn store_fault(error: &LedgerError) -> Fault {
    Fault::new(Blame::Store, Retry::Later, Phase::Commit, format!("result store: {error}"))
}
