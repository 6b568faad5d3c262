//! What runs rollouts of the model: it waits for the image, then as long as the rollout takes.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use thresher_core::plan::TaskHandle;
use thresher_core::{Fault, RolloutRecord, RunId};
use thresher_rollout::RolloutJob;
use thresher_worker::Runner;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{PULL, Workload};
use crate::sim::fate::{Fate, Kind};
use crate::sim::record;

/// What happened on all workers.
pub(super) struct Played {
    pub(super) began: Instant,
    pub(super) pulls: AtomicU64,
    /// When each rollout ended.
    pub(super) ends: Mutex<Vec<Duration>>,
}

impl Default for Played {
    fn default() -> Self {
        Self { began: Instant::now(), pulls: AtomicU64::new(0), ends: Mutex::default() }
    }
}

/// Runs the rollouts of one worker.
pub(super) struct FleetRunner {
    run: RunId,
    workload: Arc<Workload>,
    played: Arc<Played>,
    /// The worker's images: there, or being pulled.
    images: Mutex<HashMap<u64, Arc<OnceCell<()>>>>,
}

impl FleetRunner {
    pub(super) fn new(run: RunId, workload: &Arc<Workload>, played: &Arc<Played>) -> Self {
        let (workload, played) = (Arc::clone(workload), Arc::clone(played));
        Self { run, workload, played, images: Mutex::default() }
    }

    /// Waits until the image is there; it is pulled once, whoever waits for it.
    async fn image(&self, image: u64) {
        let cell = {
            let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(images.entry(image).or_default())
        };
        let pull = async {
            self.played.pulled();
            sleep(PULL).await;
        };
        cell.get_or_init(|| pull).await;
    }
}

#[async_trait]
impl Runner for FleetRunner {
    async fn run(&self, job: RolloutJob, task: &TaskHandle, _: &CancellationToken) -> RolloutRecord {
        self.image(task.row).await;
        let agent = self.workload.rollouts(task.row as usize)[job.sample as usize];
        sleep(agent).await;
        self.played.ended();
        let (kind, grading) = (Kind::Sound, Duration::ZERO);
        let fate = Fate { kind, agent, grading, fault: None, tokens: 1, micro_usd: 1 };
        record::graded(&self.run, &job, &record::ungraded(&job, &fate, 0))
    }

    fn lost(&self, job: RolloutJob, fault: Fault) -> RolloutRecord {
        record::faulted(&self.run, &job, fault, None)
    }

    async fn prefetch(&self, task: &TaskHandle) {
        self.image(task.row).await;
    }

    async fn settle(&self) {}
}
