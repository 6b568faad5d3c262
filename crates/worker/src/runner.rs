//! What runs a rollout: the engine over a dataset; in simulations, something quicker.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use async_trait::async_trait;
use thresher_core::fault::{Blame, Fault, Phase, Retry};
use thresher_core::plan::TaskHandle;
use thresher_core::{ImageCounts, RolloutRecord, Task};
use thresher_dataset::Dataset;
use thresher_rollout::engine::EngineParts;
use thresher_rollout::{Engine, RolloutJob};
use tokio_util::sync::CancellationToken;

/// Runs rollouts. Shared by all slots of a worker.
#[async_trait]
pub trait Runner: Send + Sync {
    /// Runs one rollout to its record, which the caller commits. Broken off at the agent's next turn once `cancel` is.
    async fn run(&self, job: RolloutJob, task: &TaskHandle, cancel: &CancellationToken) -> RolloutRecord;

    /// The record of an attempt of which nothing is left but that it was begun.
    fn lost(&self, job: RolloutJob, fault: Fault) -> RolloutRecord;

    /// Makes ready what rollouts of `task` will need. A failure shows itself again when their turn comes.
    async fn prefetch(&self, task: &TaskHandle);

    /// How it came by its images so far.
    fn image_counts(&self) -> ImageCounts {
        ImageCounts::default()
    }

    /// Waits until nothing of ended rollouts is left on the machine.
    async fn settle(&self);
}

/// The engine, and the dataset that its tasks are loaded from.
pub struct EngineRunner {
    engine: Engine,
    dataset: Arc<Dataset>,
    loaded: Mutex<HashMap<u64, Weak<Task>>>,
}

impl EngineRunner {
    /// A runner of what `parts` make, over `dataset`.
    pub fn new(parts: EngineParts, dataset: Arc<Dataset>) -> Self {
        Self { engine: Engine::new(parts), dataset, loaded: Mutex::default() }
    }

    /// Loads a task off the event loop; rollouts of one task that run together share it.
    async fn task(&self, handle: &TaskHandle) -> Result<Arc<Task>, Fault> {
        if let Some(task) = self.loaded().get(&handle.row).and_then(Weak::upgrade) {
            return Ok(task);
        }
        let (dataset, wanted) = (Arc::clone(&self.dataset), handle.clone());
        let loaded = tokio::task::spawn_blocking(move || dataset.load(&wanted)).await;
        let task = match loaded {
            Ok(Ok(task)) => Arc::new(task),
            Ok(Err(error)) => return Err(load_fault(&error.to_string())),
            Err(panic) => return Err(load_fault(&format!("loading the row failed: {panic}"))),
        };
        let mut cache = self.loaded();
        cache.retain(|_, task| task.strong_count() > 0);
        cache.insert(handle.row, Arc::downgrade(&task));
        Ok(task)
    }

    fn loaded(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Weak<Task>>> {
        self.loaded.lock().expect("no holder of this lock panics")
    }
}

#[async_trait]
impl Runner for EngineRunner {
    async fn run(&self, job: RolloutJob, task: &TaskHandle, cancel: &CancellationToken) -> RolloutRecord {
        let task = self.task(task).await;
        Box::pin(self.engine.run(job, task, cancel)).await
    }

    fn lost(&self, job: RolloutJob, fault: Fault) -> RolloutRecord {
        self.engine.lost(&job, fault)
    }

    async fn prefetch(&self, task: &TaskHandle) {
        let prefetched = match self.task(task).await {
            Ok(task) => self.engine.prefetch(&task).await,
            Err(fault) => Err(fault),
        };
        if let Err(fault) = prefetched {
            tracing::debug!(%fault, "prefetch failed");
        }
    }

    fn image_counts(&self) -> ImageCounts {
        self.engine.image_counts()
    }

    async fn settle(&self) {
        self.engine.settle().await;
    }
}

fn load_fault(message: &str) -> Fault {
    Fault::new(Blame::Configuration, Retry::Never, Phase::Load, message)
}
