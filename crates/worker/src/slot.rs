//! One slot's work: a rollout from the queue to its commit.

use std::sync::Arc;

use thresher_core::plan::TaskHandle;
use thresher_core::{Outcome, RolloutRecord};
use thresher_ledger::{Commit, Ledger, LedgerError};
use thresher_rollout::{RolloutJob, Ungraded};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::journal::LedgerJournal;
use crate::queue::Pending;
use crate::runner::Runner;

/// What all slots share.
pub(crate) struct Shared {
    pub(crate) runner: Arc<dyn Runner>,
    pub(crate) ledger: Ledger,
    pub(crate) journal: Arc<LedgerJournal>,
}

/// An attempt that ended.
pub(crate) struct Done {
    pub(crate) pending: Pending,
    pub(crate) record: RolloutRecord,
    /// When it began.
    pub(crate) began: Instant,
    /// Whether its record is the rollout's result; `None` for a fault, which is no result.
    pub(crate) commit: Option<Commit>,
}

impl Shared {
    /// Runs an attempt and stores its record: as the rollout's result if it was graded, else as a fault.
    pub(crate) async fn work(
        &self,
        pending: Pending,
        nonce: String,
        task: TaskHandle,
        cancel: CancellationToken,
    ) -> Result<Done, LedgerError> {
        let began = Instant::now();
        let ungraded = match pending.ungraded {
            true => {
                let rollout = &pending.rollout.rollout_id;
                self.ledger.load_ungraded::<Ungraded>(&pending.shard, rollout).await?
            }
            false => None,
        };
        let job = RolloutJob { ungraded: ungraded.map(|stored| stored.body), ..job(&pending, nonce, &task) };
        self.journal.begin(&job);
        let record = self.runner.run(job, &task, &cancel).await;
        let log = self.journal.end(&record.nonce);
        let commit = match record.outcome {
            Outcome::Graded(_) => Some(self.ledger.commit(&record, log.as_deref()).await?),
            Outcome::Faulted(_) => {
                self.ledger.save_fault(&record, log.as_deref()).await?;
                None
            }
        };
        Ok(Done { pending, record, began, commit })
    }
}

/// The job of an attempt that begins anew.
pub(crate) fn job(pending: &Pending, nonce: String, task: &TaskHandle) -> RolloutJob {
    RolloutJob {
        rollout_id: pending.rollout.rollout_id.clone(),
        shard_id: pending.shard.clone(),
        instance_id: task.instance_id.clone(),
        sample: pending.rollout.sample,
        attempt: pending.attempt,
        nonce,
        ungraded: None,
    }
}
