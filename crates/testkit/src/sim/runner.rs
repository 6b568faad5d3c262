//! What runs rollouts in the simulation.

use std::sync::Arc;

use async_trait::async_trait;
use thresher_core::plan::TaskHandle;
use thresher_core::{Blame, Fault, Phase, Retry, RolloutRecord, RunId};
use thresher_rollout::{Journal, RolloutJob, Ungraded};
use thresher_worker::Runner;
use tokio_util::sync::CancellationToken;

use super::fate::{Fate, Instant, Kind, RolloutFaults};
use super::link::Link;
use super::record;
use super::witness::Witness;

/// Runs rollouts as their fate wants it, within one process.
pub(crate) struct SimRunner {
    pub(crate) run: RunId,
    pub(crate) faults: RolloutFaults,
    pub(crate) link: Link,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) witness: Witness,
    /// Of the process, for the times in records.
    pub(crate) now_us: i64,
}

#[async_trait]
impl Runner for SimRunner {
    async fn run(&self, job: RolloutJob, _: &TaskHandle, cancel: &CancellationToken) -> RolloutRecord {
        let fate = self.faults.fate(&job.rollout_id, job.attempt);
        self.witness.began(self.link.process, &job.rollout_id);
        let record = self.attempt(&job, &fate, cancel).await;
        self.witness.ended(self.link.process, &job.rollout_id);
        record
    }

    fn lost(&self, job: RolloutJob, fault: Fault) -> RolloutRecord {
        record::faulted(&self.run, &job, fault, None)
    }

    async fn prefetch(&self, _: &TaskHandle) {}

    async fn settle(&self) {}
}

impl SimRunner {
    async fn attempt(&self, job: &RolloutJob, fate: &Fate, cancel: &CancellationToken) -> RolloutRecord {
        let stored = match &job.ungraded {
            Some(ungraded) => ungraded.clone(),
            None => match self.work(job, fate, cancel).await {
                Ok(ungraded) => ungraded,
                Err(fault) => return record::faulted(&self.run, job, fault, None),
            },
        };
        self.link.sleep(fate.grading).await;
        match &fate.fault {
            Some((fault, Instant::AfterUngraded)) => {
                record::faulted(&self.run, job, fault.clone(), Some(&stored))
            }
            _ => record::graded(&self.run, job, &stored),
        }
    }

    /// The agent's part.
    async fn work(&self, job: &RolloutJob, fate: &Fate, cancel: &CancellationToken) -> Result<Ungraded, Fault> {
        if fate.kind == Kind::Poison {
            self.link.sleep(fate.agent / 2).await;
            self.link.kill();
            return std::future::pending().await;
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => {
                return Err(Fault::new(Blame::Worker, Retry::Now, Phase::Agent, "broken off"));
            }
            () = self.link.sleep(fate.agent) => {}
        }
        self.witness.paid(fate.micro_usd);
        if let Some((fault, Instant::BeforeUngraded)) = &fate.fault {
            return Err(fault.clone());
        }
        let ungraded = record::ungraded(job, fate, self.now_us);
        self.journal.ungraded(&job.rollout_id, &ungraded).await?;
        Ok(ungraded)
    }
}
