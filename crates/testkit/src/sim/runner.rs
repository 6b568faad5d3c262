//! What runs rollouts in the simulation.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use thresher_core::plan::TaskHandle;
use thresher_core::{Blame, Fault, Phase, Retry, RolloutRecord, RunId};
use thresher_rollout::{Journal, RolloutJob, Ungraded};
use thresher_worker::Runner;
use tokio_util::sync::CancellationToken;

use super::case::Case;
use super::fate::{Fate, Instant, Kind, RolloutFaults};
use super::link::Link;
use super::record;
use super::store::SimStore;
use super::witness::Witness;

/// Runs rollouts as their fate wants it, within one process.
pub(crate) struct SimRunner {
    run: RunId,
    faults: RolloutFaults,
    link: Link,
    journal: Arc<dyn Journal>,
    witness: Witness,
    store: SimStore,
    /// When the process began.
    began: Duration,
    /// Of the process, for the times in records.
    now_us: i64,
}

#[async_trait]
impl Runner for SimRunner {
    async fn run(&self, job: RolloutJob, _: &TaskHandle, cancel: &CancellationToken) -> RolloutRecord {
        let fate = self.faults.fate(&job.rollout_id, job.attempt);
        self.attempt(&job, &fate, cancel).await
    }

    fn lost(&self, job: RolloutJob, fault: Fault) -> RolloutRecord {
        record::faulted(&self.run, &job, fault, None)
    }

    async fn prefetch(&self, _: &TaskHandle) {}

    async fn settle(&self) {}
}

impl SimRunner {
    /// The runner of a process that begins now.
    pub(crate) fn new(case: &Case, link: Link, journal: Arc<dyn Journal>, now_us: i64) -> Self {
        Self {
            run: case.run.clone(),
            faults: case.scenario.rollouts,
            link,
            journal,
            witness: case.witness.clone(),
            store: case.store.clone(),
            began: case.store.elapsed(),
            now_us,
        }
    }

    async fn attempt(&self, job: &RolloutJob, fate: &Fate, cancel: &CancellationToken) -> RolloutRecord {
        let stored = match &job.ungraded {
            Some(ungraded) => ungraded.clone(),
            None => match self.work(job, fate, cancel).await {
                Ok(ungraded) => ungraded,
                Err(record) => return *record,
            },
        };
        self.link.sleep(fate.grading).await;
        let graded = match &fate.fault {
            Some((fault, Instant::AfterUngraded)) => Err(fault.clone()),
            _ => self.journal.grader_log(&job.rollout_id, &job.nonce, job.nonce.as_bytes()).await,
        };
        match graded {
            Ok(log) => RolloutRecord { grader_log: Some(log), ..record::graded(&self.run, job, &stored) },
            Err(fault) => record::faulted(&self.run, job, fault, Some(&stored)),
        }
    }

    /// The agent's part: to the stored trajectory, or to the record of its fault.
    async fn work(
        &self,
        job: &RolloutJob,
        fate: &Fate,
        cancel: &CancellationToken,
    ) -> Result<Ungraded, Box<RolloutRecord>> {
        if fate.kind == Kind::Poison {
            self.link.sleep(fate.agent / 2).await;
            self.link.kill();
            return std::future::pending().await;
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => {
                let fault = Fault::new(Blame::Worker, Retry::Now, Phase::Agent, "broken off");
                return Err(Box::new(record::faulted(&self.run, job, fault, None)));
            }
            () = self.link.sleep(fate.agent) => {}
        }
        self.witness.paid(fate.micro_usd);
        if self.store.ungraded_since(job.rollout_id.as_str()).is_some_and(|since| since < self.began) {
            let what =
                format!("the agent of {} was paid again, though its trajectory was there", job.rollout_id);
            self.store.broken(what);
        }
        let ungraded = record::ungraded(job, fate, self.now_us);
        let stored = match &fate.fault {
            Some((fault, Instant::BeforeUngraded)) => Err(fault.clone()),
            _ => self.journal.ungraded(&job.rollout_id, &ungraded).await,
        };
        // What the turns cost was paid, whatever becomes of them.
        stored.map_err(|fault| Box::new(record::unfinished(&self.run, job, fault, &ungraded)))?;
        Ok(ungraded)
    }
}
