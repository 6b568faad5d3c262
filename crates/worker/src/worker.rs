//! The worker: slots over a queue, from the first rollout to the sealed run.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thresher_core::fault::Blame;
use thresher_core::{Fault, Outcome, RolloutRecord};
use thresher_dataset::Dataset;
use thresher_ledger::{Ledger, LedgerError, Manifest, PackOptions, PackWhen, StoredPlan};
use thresher_rollout::Engine;
use thresher_rollout::engine::EngineParts;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::event::{Event, Observer};
use crate::journal::LedgerJournal;
use crate::queue::{Next, Pending, Queue};
use crate::retry;
use crate::slot::Shared;

/// Raw bytes of one pack while the run goes on; it bounds the packer's memory.
const PACK_BYTES: u64 = 32 << 20;
/// Finished rollouts between two looks at whether a pack is full.
const PACK_EVERY: u64 = 64;

/// What a worker is built from.
pub struct WorkerParts {
    /// The run.
    pub ledger: Ledger,
    /// Its plan.
    pub plan: StoredPlan,
    /// The dataset that the plan was made from.
    pub dataset: Arc<Dataset>,
    /// Rollouts at a time.
    pub slots: usize,
    /// Hears events.
    pub observer: Arc<dyn Observer>,
    /// Starts no new rollouts once cancelled.
    pub drain: CancellationToken,
    /// Makes the engine's parts; the worker brings the journal.
    pub engine: Box<dyn FnOnce(Arc<dyn thresher_rollout::Journal>) -> EngineParts + Send>,
}

/// Why a worker stopped before the end.
#[derive(Clone, Debug, PartialEq)]
pub enum StopCause {
    /// It was asked to.
    Drained,
    /// A budget is used up; the text says which.
    Budget(String),
    /// Going on would fail every rollout alike.
    Configuration(Fault),
}

/// What an invocation did.
#[derive(Clone, Debug)]
pub struct WorkerReport {
    /// Rollouts that got a result.
    pub graded: u64,
    /// Of those, the solved ones.
    pub solved: u64,
    /// Rollouts whose last try in this invocation ended in a fault.
    pub faulted: u64,
    /// Rollouts that were not begun.
    pub remaining: u64,
    /// Why it stopped before the end.
    pub stopped: Option<StopCause>,
    /// The run's manifest as of now.
    pub manifest: Manifest,
}

/// Why a worker cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The run's store fails.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A slot ended in a way that it cannot, in our own code.
    #[error("a slot failed: {0}")]
    Slot(#[from] tokio::task::JoinError),
}

/// A worker over one run.
pub struct Worker {
    shared: Arc<Shared>,
    queue: Queue,
    budget: Budget,
    slots: usize,
    retries: u32,
    observer: Arc<dyn Observer>,
    drain: CancellationToken,
    started: Instant,
    tally: Tally,
    stopped: Option<StopCause>,
    prefetched: std::collections::HashSet<u32>,
}

#[derive(Default)]
struct Tally {
    graded: u64,
    solved: u64,
    faulted: u64,
}

type Done = (Pending, Result<RolloutRecord, LedgerError>);

impl Worker {
    /// Finds out what is left to do.
    pub async fn new(parts: WorkerParts) -> Result<Self, WorkerError> {
        let WorkerParts { ledger, plan, dataset, slots, observer, drain, engine } = parts;
        let pending = pending(&ledger, &plan).await?;
        let planned = plan.plan.rollout_count() as u64;
        observer.hear(Event::Planned { planned, finished_before: planned - pending.len() as u64 });
        let spent = ledger.reader().await?.rollouts().await?;
        let budget = Budget::new(&plan.spec, spent.iter().map(|summary| summary.totals));
        let shards: HashMap<_, _> = pending
            .iter()
            .map(|pending| (pending.rollout.rollout_id.clone(), pending.shard.clone()))
            .collect();
        let journal = Arc::new(LedgerJournal::new(ledger.clone(), Arc::clone(&observer), shards));
        let shared = Shared {
            engine: Engine::new(engine(Arc::clone(&journal) as Arc<dyn thresher_rollout::Journal>)),
            ledger,
            journal,
            dataset,
            tasks: plan.plan.tasks,
            loaded: Mutex::default(),
            cancel: CancellationToken::new(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            queue: Queue::new(pending),
            budget,
            slots: slots.max(1),
            retries: plan.spec.fault_retries,
            observer,
            drain,
            started: Instant::now(),
            tally: Tally::default(),
            stopped: None,
            prefetched: std::collections::HashSet::new(),
        })
    }

    /// Works until nothing is left, or until it is drained, then packs and seals.
    pub async fn run(mut self) -> Result<WorkerReport, WorkerError> {
        let mut slots: JoinSet<Done> = JoinSet::new();
        let mut background = JoinSet::new();
        loop {
            let wake = self.admit(&mut slots, &mut background);
            if slots.is_empty() && wake.is_none() {
                break;
            }
            tokio::select! {
                Some(done) = slots.join_next() => {
                    let (pending, record) = done?;
                    self.finish(pending, record?).await?;
                }
                () = sleep_until(wake), if wake.is_some() => {}
                () = self.drain.cancelled(), if self.stopped.is_none() => self.stop(StopCause::Drained, slots.len()),
            }
        }
        background.shutdown().await;
        self.seal().await
    }

    /// Fills free slots. Returns when to look again if only retries in their pause are left.
    fn admit(&mut self, slots: &mut JoinSet<Done>, background: &mut JoinSet<()>) -> Option<Instant> {
        if self.drain.is_cancelled() && self.stopped.is_none() {
            self.stop(StopCause::Drained, slots.len());
        }
        while slots.len() < self.slots && self.stopped.is_none() {
            if self.queue.len() == 0 {
                return None;
            }
            if let Some(refusal) = self.budget.refusal(self.started.elapsed()) {
                if !self.budget.may_recover() {
                    self.stop(StopCause::Budget(refusal), slots.len());
                }
                return None;
            }
            match self.queue.next(Instant::now()) {
                Next::Ready(pending) => self.start(*pending, slots, background),
                Next::NotBefore(at) => return Some(at),
                Next::Empty => return None,
            }
        }
        None
    }

    fn start(&mut self, pending: Pending, slots: &mut JoinSet<Done>, background: &mut JoinSet<()>) {
        self.budget.reserve();
        self.observer.hear(Event::Started {
            rollout: pending.rollout.rollout_id.clone(),
            instance_id: self.shared.tasks[pending.rollout.task as usize].instance_id.clone(),
            sample: pending.rollout.sample,
        });
        let next = self.queue.peek_next_shard(&pending.shard).map(|next| next.rollout.task);
        if let Some(task) = next.filter(|task| self.prefetched.insert(*task)) {
            let shared = Arc::clone(&self.shared);
            background.spawn(async move { shared.prefetch(task).await });
        }
        let shared = Arc::clone(&self.shared);
        slots.spawn(async move {
            let record = shared.work(&pending).await;
            (pending, record)
        });
    }

    async fn finish(&mut self, pending: Pending, record: RolloutRecord) -> Result<(), WorkerError> {
        self.budget.settle(&record.totals);
        if let Outcome::Faulted(fault) = &record.outcome
            && let Some(pause) = retry::pause(fault, pending.tries, self.retries)
        {
            self.put_back(pending, &record, fault, pause);
            return Ok(());
        }
        self.count(&record);
        if (self.tally.graded + self.tally.faulted).is_multiple_of(PACK_EVERY) {
            self.shared.ledger.pack(&PackOptions { raw_bytes: PACK_BYTES, when: PackWhen::Full }).await?;
        }
        Ok(())
    }

    fn put_back(&mut self, pending: Pending, record: &RolloutRecord, fault: &Fault, pause: Duration) {
        self.observer.hear(Event::WillRetry {
            rollout: record.rollout_id.clone(),
            instance_id: record.task.instance_id.clone(),
            fault: fault.clone(),
            after_s: pause.as_secs(),
        });
        // A trajectory that was finished before the fault only has to be graded.
        let ungraded = record.patch.is_some() || record.stop_reason.is_some();
        let again = Pending { attempt: pending.attempt + 1, tries: pending.tries + 1, ungraded, ..pending };
        self.queue.retry(Instant::now() + pause, again);
    }

    fn count(&mut self, record: &RolloutRecord) {
        match &record.outcome {
            Outcome::Graded(_) => {
                self.tally.graded += 1;
                self.tally.solved += u64::from(record.outcome.is_solved());
            }
            Outcome::Faulted(fault) => {
                self.tally.faulted += 1;
                if fault.blame == Blame::Configuration && self.stopped.is_none() {
                    self.stop(StopCause::Configuration(fault.clone()), 0);
                }
            }
        }
        let timings = &record.timings;
        self.observer.hear(Event::Finished {
            rollout: record.rollout_id.clone(),
            instance_id: record.task.instance_id.clone(),
            sample: record.sample,
            outcome: record.outcome.clone(),
            stop_reason: record.stop_reason,
            steps: record.totals.steps,
            wall_ms: (timings.ended_at_us - timings.started_at_us).max(0) as u64 / 1_000,
        });
    }

    fn stop(&mut self, cause: StopCause, running: usize) {
        self.stopped = Some(cause);
        self.observer.hear(Event::Draining { running });
    }

    async fn seal(self) -> Result<WorkerReport, WorkerError> {
        self.shared.engine.settle().await;
        let options = PackOptions { raw_bytes: PACK_BYTES, when: PackWhen::Always };
        let manifest = self.shared.ledger.seal(&options).await?;
        let Tally { graded, solved, faulted } = self.tally;
        let remaining = self.queue.len() as u64;
        Ok(WorkerReport { graded, solved, faulted, remaining, stopped: self.stopped, manifest })
    }
}

/// The rollouts of the plan without a result, in order of work.
async fn pending(ledger: &Ledger, plan: &StoredPlan) -> Result<Vec<Pending>, LedgerError> {
    let committed = ledger.committed().await?;
    let attempts = ledger.all_attempts().await?;
    let mut pending = Vec::new();
    // Shards of several plan segments may be of one image: they are worked on together.
    let mut order: BTreeMap<usize, Vec<Pending>> = BTreeMap::new();
    let mut first_of = HashMap::new();
    for (at, shard) in plan.plan.shards.iter().enumerate() {
        let at = *first_of.entry(shard.shard_id.clone()).or_insert(at);
        for rollout in shard.rollouts.iter().filter(|r| !committed.contains_key(&r.rollout_id)) {
            let known = attempts.get(&rollout.rollout_id);
            order.entry(at).or_default().push(Pending {
                shard: shard.shard_id.clone(),
                rollout: rollout.clone(),
                attempt: known.map_or(1, |known| known.next),
                tries: 1,
                ungraded: known.is_some_and(|known| known.ungraded),
            });
        }
    }
    order.into_values().for_each(|shard| pending.extend(shard));
    Ok(pending)
}

async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}
