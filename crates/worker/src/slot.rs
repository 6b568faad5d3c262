//! One slot's work: a rollout from the queue to its commit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use thresher_core::fault::{Blame, Fault, Phase, Retry};
use thresher_core::plan::TaskHandle;
use thresher_core::{Outcome, RolloutRecord, Task};
use thresher_dataset::Dataset;
use thresher_ledger::{Ledger, LedgerError};
use thresher_rollout::{Engine, RolloutJob, Ungraded};
use tokio_util::sync::CancellationToken;

use crate::journal::LedgerJournal;
use crate::queue::Pending;

/// What all slots share.
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) ledger: Ledger,
    pub(crate) journal: Arc<LedgerJournal>,
    pub(crate) dataset: Arc<Dataset>,
    pub(crate) tasks: Vec<TaskHandle>,
    pub(crate) loaded: Mutex<HashMap<u32, Weak<Task>>>,
    pub(crate) cancel: CancellationToken,
}

impl Shared {
    /// Runs a rollout and commits its record: a result if it was graded, else a fault.
    pub(crate) async fn work(&self, pending: &Pending) -> Result<RolloutRecord, LedgerError> {
        let task = self.task(pending.rollout.task).await;
        let job = self.job(pending).await?;
        self.journal.begin(&job.rollout_id, job.attempt);
        let record = Box::pin(self.engine.run(job, task, &self.cancel)).await;
        match record.outcome {
            Outcome::Graded(_) => drop(self.ledger.commit(&record).await?),
            Outcome::Faulted(_) => self.ledger.save_fault(&record).await?,
        }
        Ok(record)
    }

    async fn job(&self, pending: &Pending) -> Result<RolloutJob, LedgerError> {
        let rollout = &pending.rollout.rollout_id;
        let ungraded = match pending.ungraded {
            true => self.ledger.load_ungraded::<Ungraded>(&pending.shard, rollout).await?,
            false => None,
        };
        Ok(RolloutJob {
            rollout_id: rollout.clone(),
            shard_id: pending.shard.clone(),
            instance_id: self.tasks[pending.rollout.task as usize].instance_id.clone(),
            sample: pending.rollout.sample,
            attempt: pending.attempt,
            nonce: format!("{:032x}", rand::random::<u128>()),
            ungraded: ungraded.map(|stored| stored.body),
        })
    }

    /// Makes the image of a task ready ahead of time. A failure shows itself again when the task's turn comes.
    pub(crate) async fn prefetch(&self, task: u32) {
        let prefetched = match self.task(task).await {
            Ok(task) => self.engine.prefetch(&task).await,
            Err(fault) => Err(fault),
        };
        if let Err(fault) = prefetched {
            tracing::debug!(%fault, "prefetch failed");
        }
    }

    /// Loads a task off the event loop; rollouts of one task that run together share it.
    async fn task(&self, index: u32) -> Result<Arc<Task>, Fault> {
        if let Some(task) = self.loaded().get(&index).and_then(Weak::upgrade) {
            return Ok(task);
        }
        let (dataset, handle) = (Arc::clone(&self.dataset), self.tasks[index as usize].clone());
        let loaded = tokio::task::spawn_blocking(move || dataset.load(&handle)).await;
        let task = match loaded {
            Ok(Ok(task)) => Arc::new(task),
            Ok(Err(error)) => return Err(load_fault(&error.to_string())),
            Err(panic) => return Err(load_fault(&format!("loading the row failed: {panic}"))),
        };
        let mut cache = self.loaded();
        cache.retain(|_, task| task.strong_count() > 0);
        cache.insert(index, Arc::downgrade(&task));
        Ok(task)
    }

    fn loaded(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Weak<Task>>> {
        self.loaded.lock().expect("no holder of this lock panics")
    }
}

fn load_fault(message: &str) -> Fault {
    Fault::new(Blame::Configuration, Retry::Never, Phase::Load, message)
}
