//! The rollout's journal over the ledger.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use thresher_core::fault::{Blame, Fault, Phase, Retry};
use thresher_core::{RolloutId, ShardId};
use thresher_ledger::{Ledger, LedgerError, capped_log};
use thresher_rollout::journal::Progress;
use thresher_rollout::{Journal, RolloutJob, Ungraded};

use crate::event::{Event, Observer};

/// Writes to the ledger and passes progress on. A grader's log waits here for the record that it is stored with.
pub(crate) struct LedgerJournal {
    ledger: Ledger,
    observer: Arc<dyn Observer>,
    /// By nonce: a worker that was thought gone can get a shard back while an attempt of its own still runs in it.
    running: Mutex<HashMap<String, Running>>,
}

/// What belongs to an attempt while it runs.
#[derive(Debug)]
struct Running {
    shard: ShardId,
    attempt: u32,
    grader_log: Option<Vec<u8>>,
}

impl LedgerJournal {
    pub(crate) fn new(ledger: Ledger, observer: Arc<dyn Observer>) -> Self {
        Self { ledger, observer, running: Mutex::default() }
    }

    /// Notes which attempt begins, for what is stored in its name.
    pub(crate) fn begin(&self, job: &RolloutJob) {
        let running = Running { shard: job.shard_id.clone(), attempt: job.attempt, grader_log: None };
        self.running().insert(job.nonce.clone(), running);
    }

    /// Forgets an attempt that ended, and gives the log of its grading run, if there was one.
    pub(crate) fn end(&self, nonce: &str) -> Option<Vec<u8>> {
        self.running().remove(nonce)?.grader_log
    }

    fn with<T>(&self, nonce: &str, use_it: impl FnOnce(&mut Running) -> T) -> T {
        let mut running = self.running();
        use_it(running.get_mut(nonce).expect("only attempts that have begun are written of"))
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, Running>> {
        self.running.lock().expect("no holder of this lock panics")
    }
}

#[async_trait]
impl Journal for LedgerJournal {
    async fn ungraded(&self, rollout: &RolloutId, ungraded: &Ungraded) -> Result<(), Fault> {
        let (shard, attempt) = self.with(&ungraded.nonce, |running| (running.shard.clone(), running.attempt));
        let saved = self.ledger.save_ungraded(&shard, rollout, attempt, &ungraded.nonce, ungraded).await;
        saved.map_err(|error| store_fault(&error))
    }

    async fn grader_log(&self, rollout: &RolloutId, nonce: &str, log: &[u8]) -> Result<String, Fault> {
        let log = capped_log(log).into_owned();
        // The ledger puts the object's own path into the record once it is known which object that is.
        Ok(self.with(nonce, |running| {
            running.grader_log = Some(log);
            format!("results/{}/{rollout}", running.shard)
        }))
    }

    async fn locked_image(&self, image: &str) -> Result<Option<String>, Fault> {
        let lock = self.ledger.locked_image(image).await.map_err(|error| lock_fault(&error))?;
        Ok(lock.map(|lock| lock.digest))
    }

    async fn lock_image(&self, image: &str, digest: &str) -> Result<String, Fault> {
        let lock = self.ledger.lock_image(image, digest).await.map_err(|error| lock_fault(&error))?;
        Ok(lock.digest)
    }

    fn progress(&self, rollout: &RolloutId, progress: Progress) {
        let rollout = rollout.clone();
        self.observer.hear(match progress {
            Progress::Phase(phase) => Event::Entered { rollout, phase },
            Progress::Step { steps, tokens, cost_usd } => Event::Stepped { rollout, steps, tokens, cost_usd },
        });
    }
}

fn lock_fault(error: &LedgerError) -> Fault {
    store_fault(error).during(Phase::Pull)
}

/// The fault that a failing store is.
fn store_fault(error: &LedgerError) -> Fault {
    Fault::new(Blame::Store, Retry::Later, Phase::Commit, format!("result store: {error}"))
}
