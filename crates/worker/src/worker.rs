//! The worker: joins a run, works until nothing is left, leaves.

mod admission;
mod claiming;
mod ending;
mod looking;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use thresher_core::fault::Blame;
use thresher_core::{Fault, ImageCounts, Outcome, RolloutRecord, ShardId};
use thresher_ledger::{
    Amount, Commit, Control, DoneCounts, Heartbeat, InFlight, Incarnation, Ledger, LedgerError, Manifest,
    PROTOCOL, Packed, Packer, PackerOptions, StoredPlan, UnpackedCounts, WorkerState,
};
use thresher_rollout::{Clock, Journal};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::ending::Outlook;
use crate::book::Book;
use crate::event::{Event, Observer};
use crate::hold::Holds;
use crate::journal::LedgerJournal;
use crate::outage::{Ended, Outage};
use crate::pulse::Pulse;
use crate::purse::Purse;
use crate::queue::{Pending, Queue};
use crate::retry;
use crate::runner::Runner;
use crate::slot::{Done, Shared};
use crate::watch::Watch;

/// What a worker is built from.
pub struct WorkerParts {
    /// The run.
    pub ledger: Ledger,
    /// Its plan.
    pub plan: StoredPlan,
    /// Rollouts at a time.
    pub slots: usize,
    /// Hears events.
    pub observer: Arc<dyn Observer>,
    /// Starts no new rollouts once cancelled.
    pub drain: CancellationToken,
    /// What a drain does to rollouts that run.
    pub on_drain: OnDrain,
    /// Whether nobody else can be working on the run, as the holder of its lock knows: then whoever left a heartbeat is
    /// gone, and the run is sealed also when it is left unfinished.
    pub exclusive: bool,
    /// Name of the host or pod, for people.
    pub host: String,
    /// Time of day: only for the wall-clock budget.
    pub clock: Clock,
    /// Seed of everything that is chosen by lot.
    pub seed: u64,
    /// Makes what runs rollouts; the worker brings the journal.
    pub runner: MakeRunner,
}

/// Makes a runner that writes to the journal.
pub type MakeRunner = Box<dyn FnOnce(Arc<dyn Journal>) -> Arc<dyn Runner> + Send>;

/// What a drain does to rollouts that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDrain {
    /// They go on to their end.
    Finish,
    /// Agents take no further turn, and their attempts count as faults of the worker; what is being graded is graded.
    NoNewTurn,
}

/// Why a worker stopped before the end.
#[derive(Clone, Debug, PartialEq)]
pub enum StopCause {
    /// It was asked to.
    Drained,
    /// The run was cancelled.
    Cancelled,
    /// A budget is used up; the text says which.
    Budget(String),
    /// Going on would fail every rollout alike.
    Configuration(Fault),
    /// Something that rollouts share was away for longer than a worker waits; nothing is wrong with the rollouts.
    Outage(Fault),
}

/// What a worker did.
#[derive(Clone, Debug)]
pub struct WorkerReport {
    /// Rollouts that got a result.
    pub graded: u64,
    /// Of those, the solved ones.
    pub solved: u64,
    /// Rollouts whose last try by this worker ended in a fault, or that were set aside.
    pub faulted: u64,
    /// How it came by its images.
    pub images: ImageCounts,
    /// Why it stopped before the end.
    pub stopped: Option<StopCause>,
    /// The run's manifest, if the run was sealed when the worker left.
    pub manifest: Option<Manifest>,
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
    me: Incarnation,
    shared: Arc<Shared>,
    settings: Settings,
    plan: StoredPlan,
    /// Positions in the plan.
    shards: HashMap<ShardId, usize>,
    control: Control,
    book: Book,
    holds: Holds,
    queue: Queue,
    purse: Purse,
    outage: Outage,
    watch: Watch,
    /// Workers that are gone, and what they said last.
    gone: BTreeMap<Incarnation, Option<Heartbeat>>,
    pulse: Arc<Pulse>,
    running: JoinSet<Result<Done, LedgerError>>,
    background: JoinSet<()>,
    beats: JoinSet<LedgerError>,
    packer: Arc<Packer>,
    packing: JoinSet<Result<Packed, LedgerError>>,
    observer: Arc<dyn Observer>,
    drain: CancellationToken,
    rng: StdRng,
    started: Instant,
    looked: Instant,
    tally: DoneCounts,
    stopped: Option<StopCause>,
    /// Whether something may have been stored behind the seal: by this worker, in a shard that was not its own any more;
    /// or by workers before it, if it has found nothing to do.
    leftovers: bool,
}

/// What does not change while a worker works.
struct Settings {
    slots: usize,
    on_drain: OnDrain,
    exclusive: bool,
    clock: Clock,
    retries: u32,
    max_lost_workers: usize,
    heartbeat: Duration,
    /// How long the others may be silent.
    patience: Duration,
    pack_bytes: u64,
}

impl Worker {
    /// Joins a run: from here on the others can see this worker.
    pub async fn new(parts: WorkerParts) -> Result<Self, WorkerError> {
        let WorkerParts { ledger, plan, slots, observer, drain, clock, host, .. } = parts;
        let control = ledger.control().await?;
        let me = ledger.incarnation();
        let fleet = &plan.spec.fleet;
        let patience = Duration::from_secs(fleet.take_over_s);
        let settings = Settings {
            slots: slots.max(1),
            on_drain: parts.on_drain,
            exclusive: parts.exclusive,
            clock,
            retries: plan.spec.fault_retries,
            max_lost_workers: fleet.max_lost_workers.max(1) as usize,
            heartbeat: Duration::from_secs(fleet.heartbeat_s.max(1)),
            patience,
            pack_bytes: fleet.pack_bytes,
        };
        let pulse = Pulse::new(ledger.clone(), first_beat(&me, control.round, host, slots));
        let journal = Arc::new(LedgerJournal::new(ledger.clone(), Arc::clone(&observer)));
        let runner = (parts.runner)(Arc::clone(&journal) as Arc<dyn Journal>);
        let mut book = Book::new(control.round);
        book.extend(&plan.plan);
        let packer = ledger.packer(PackerOptions {
            raw_bytes: fleet.pack_bytes,
            every: Duration::from_secs(fleet.pack_s.max(1)),
        });
        let mut worker = Self {
            packer: Arc::new(packer),
            packing: JoinSet::new(),
            shared: Arc::new(Shared { runner, ledger, journal }),
            shards: positions(&plan),
            book,
            holds: Holds::default(),
            queue: Queue::default(),
            purse: Purse::new(&plan.spec),
            outage: Outage::new(match parts.exclusive {
                // Whoever started the only process is there to repair what is away and to repeat the command.
                true => Duration::ZERO,
                false => Duration::from_secs(plan.spec.fleet.outage_s),
            }),
            watch: Watch::new(patience),
            gone: BTreeMap::new(),
            pulse: Arc::new(pulse),
            running: JoinSet::new(),
            background: JoinSet::new(),
            beats: JoinSet::new(),
            observer,
            drain,
            rng: StdRng::seed_from_u64(parts.seed),
            started: Instant::now(),
            looked: Instant::now(),
            tally: DoneCounts::default(),
            stopped: None,
            leftovers: true,
            me,
            settings,
            plan,
            control,
        };
        worker.join().await?;
        Ok(worker)
    }

    /// Works until nothing is left, or until it is told to stop, then packs and leaves.
    pub async fn run(mut self) -> Result<WorkerReport, WorkerError> {
        loop {
            let wake = self.step().await?;
            match self.outlook().await? {
                Outlook::Over => return self.leave().await,
                Outlook::Again => continue,
                Outlook::Wait => self.give_back_unused().await?,
            }
            let stopping = self.stopped.is_some();
            tokio::select! {
                biased;
                Some(done) = self.running.join_next() => self.finish(done??),
                Some(broken) = self.beats.join_next() => return Err(broken?.into()),
                Some(packed) = self.packing.join_next() => self.packed(packed??),
                () = self.drain.cancelled(), if !stopping => self.stop(StopCause::Drained),
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// One round of housekeeping and admission. Returns when to do the next one at the latest.
    async fn step(&mut self) -> Result<Instant, WorkerError> {
        if self.drain.is_cancelled() {
            self.stop(StopCause::Drained);
        }
        while let Some(done) = self.running.try_join_next() {
            self.finish(done??);
        }
        if self.looked + self.settings.heartbeat <= Instant::now() {
            self.look().await?;
        }
        self.give_back_ended().await?;
        self.pack_if_due();
        let retry = self.admit().await?;
        let look = self.looked + self.settings.heartbeat;
        Ok(retry.map_or(look, |retry| retry.min(look)))
    }

    /// Whether rollouts may begin.
    fn admits(&self) -> bool {
        self.stopped.is_none() && self.control.state == thresher_ledger::RunState::Running
    }

    fn finish(&mut self, done: Done) {
        let Done { pending, record, began, commit } = done;
        if let Some(Commit::Committed(stored)) = commit {
            self.packer.add(&record, stored);
        }
        self.leftovers |= self.holds.cancel(&pending.shard).is_none();
        self.purse.settle(spent(&pending, &record, commit.is_some()));
        let spent = self.purse.spent();
        let unpacked = self.packer.unpacked_counts();
        let images = self.shared.runner.image_counts();
        self.pulse.change(|beat| {
            beat.in_flight.retain(|attempt| attempt.nonce != record.nonce);
            (beat.spent, beat.unpacked, beat.images) = (spent, unpacked, images);
        });
        if let Outcome::Faulted(fault) = &record.outcome
            && self.stopped.is_none()
            && self.holds.cancel(&pending.shard).is_some()
        {
            let ended = ended(&pending, &record, began);
            if let Some(spared) = self.outage.faulted(Instant::now(), ended, fault) {
                let again = Pending { spared: Some(spared), ..pending };
                return self.put_back(again, &record, fault, spared.pause());
            }
            if let Some(pause) = retry::pause(fault, pending.tries, self.settings.retries) {
                let again = Pending { tries: pending.tries + 1, ..pending };
                return self.put_back(again, &record, fault, pause);
            }
        }
        if commit.is_some() {
            self.outage.passed(&record.nonce, began);
        }
        self.count(&pending, &record, commit);
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
        let again = Pending { attempt: pending.attempt + 1, ungraded, ..pending };
        self.queue.retry(Instant::now() + pause, again);
    }

    fn count(&mut self, pending: &Pending, record: &RolloutRecord, commit: Option<Commit>) {
        match &record.outcome {
            Outcome::Graded(_) => {
                let counts = commit.is_some_and(Commit::is_committed);
                self.tally.graded += u64::from(counts);
                self.tally.solved += u64::from(counts && record.outcome.is_solved());
                self.holds.end(&pending.shard, &record.rollout_id, false);
            }
            Outcome::Faulted(fault) => {
                self.tally.faulted += 1;
                if fault.blame == Blame::Configuration {
                    self.stop(StopCause::Configuration(fault.clone()));
                }
                if self.stopped.is_none() {
                    self.holds.end(&pending.shard, &record.rollout_id, true);
                }
            }
        }
        let done = self.tally;
        self.pulse.change(|beat| beat.done = done);
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

    /// Begins nothing any more. The first cause counts.
    fn stop(&mut self, cause: StopCause) {
        if self.stopped.is_some() {
            return;
        }
        let break_off = match cause {
            StopCause::Drained => self.settings.on_drain == OnDrain::NoNewTurn,
            StopCause::Cancelled => self.control.state == thresher_ledger::RunState::Cancelled { now: true },
            StopCause::Budget(_) | StopCause::Configuration(_) | StopCause::Outage(_) => false,
        };
        if break_off {
            self.holds.cancel_all();
        }
        self.stopped = Some(cause);
        self.pulse.change(|beat| beat.state = WorkerState::Draining);
        self.observer.hear(Event::Draining { running: self.running.len() });
    }
}

fn ended<'a>(pending: &Pending, record: &'a RolloutRecord, began: Instant) -> Ended<'a> {
    Ended { nonce: &record.nonce, task: pending.rollout.task, began, spared: pending.spared }
}

/// What an attempt adds to what was spent. A trajectory that a try before this one had paid for is not paid again.
fn spent(pending: &Pending, record: &RolloutRecord, graded: bool) -> Amount {
    let paid = pending.ungraded && (pending.tries > 1 || pending.spared.is_some());
    match paid {
        true => Amount { rollouts: u64::from(graded), ..Amount::default() },
        false => Amount::of(&record.totals, graded),
    }
}

fn positions(plan: &StoredPlan) -> HashMap<ShardId, usize> {
    plan.plan.shards.iter().enumerate().map(|(at, shard)| (shard.shard_id.clone(), at)).collect()
}

fn first_beat(me: &Incarnation, round: u32, host: String, slots: usize) -> Heartbeat {
    Heartbeat {
        protocol: PROTOCOL,
        incarnation: me.clone(),
        sequence: 0,
        round,
        state: WorkerState::Working,
        host,
        slots: slots as u32,
        shards: Vec::new(),
        in_flight: Vec::<InFlight>::new(),
        unpacked: UnpackedCounts::default(),
        done: DoneCounts::default(),
        spent: Amount::default(),
        images: ImageCounts::default(),
    }
}
