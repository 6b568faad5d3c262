//! How busy a fleet is: the real planning and claim code over a model of how long rollouts take, in virtual time.
//!
//! The model is 2,400 images with 4 rollouts each. What is measured is how much of the slots' time rollouts fill until the
//! last one has ended, and how often images are pulled, beside a fleet whose workers each have a fixed part of the dataset.

mod fixed;
mod runner;
mod workload;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use thresher_core::RunId;
use thresher_core::plan::Plan;
use thresher_ledger::{IdSource, Ledger, StoredPlan};
use thresher_rollout::{Clock, Journal};
use thresher_store::{ObjectStore, RetryPolicy, Retrying};
use thresher_worker::{Event, Observer, OnDrain, Runner, Worker, WorkerParts};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::fixed::fixed_shards;
use self::runner::{FleetRunner, Played};
pub use self::workload::{Knowledge, Workload};
use super::fate::hash;
use super::faults::StoreFaults;
use super::link::Link;
use super::plan::dataset;
use super::store::SimStore;
use super::trace::Trace;

/// How long a worker needs to get an image that it has not.
const PULL: Duration = Duration::from_secs(36);

/// A fleet of equal workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// Workers, which all begin at once.
    pub workers: u32,
    /// Rollouts at a time, of each.
    pub slots: u32,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FleetReport {
    /// Part of all slots' time until the last rollout ended that rollouts filled; pulling is no part of a rollout.
    pub efficiency: f64,
    /// How often an image was pulled, in the mean.
    pub pulls_per_image: f64,
    /// Until the last rollout ended.
    pub took: Duration,
    /// From when 95 % of the rollouts had ended.
    pub last_twentieth: Duration,
}

impl FleetReport {
    fn of(workload: &Workload, fleet: Fleet, pulls: u64, mut ends: Vec<Duration>) -> Self {
        ends.sort();
        let took = ends.last().copied().unwrap_or_default();
        let most = ends.get(ends.len() * 95 / 100).copied().unwrap_or_default();
        let slots_s = f64::from(fleet.workers * fleet.slots) * took.as_secs_f64();
        Self {
            efficiency: workload.total().as_secs_f64() / slots_s,
            pulls_per_image: pulls as f64 / workload.images() as f64,
            took,
            last_twentieth: took - most,
        }
    }
}

/// Lets real workers do the workload, whose planner knows so much of durations.
///
/// # Panics
///
/// If a worker fails, or not every rollout gets a result: the store has no faults.
pub fn play_fleet(workload: &Workload, fleet: Fleet, knowledge: Knowledge) -> FleetReport {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without input and output needs nothing of the system");
    runtime.block_on(Stage::new(workload, fleet).play(knowledge))
}

/// What the workers of one play share.
struct Stage {
    workload: Arc<Workload>,
    fleet: Fleet,
    store: SimStore,
    run: RunId,
    played: Arc<Played>,
}

impl Stage {
    fn new(workload: &Workload, fleet: Fleet) -> Self {
        let seed = hash(("store", workload.seed()));
        Self {
            workload: Arc::new(workload.clone()),
            fleet,
            store: SimStore::new(seed, StoreFaults::default(), Duration::ZERO, Trace::default()),
            run: RunId::new("fleet"),
            played: Arc::default(),
        }
    }

    async fn play(self, knowledge: Knowledge) -> FleetReport {
        let ledger = self.ledger(0);
        let plan: Plan = self.workload.plan(knowledge);
        let stored = ledger.extend_plan(&self.workload.spec(), &dataset(), &plan).await;
        let stored = stored.expect("the store has no faults");
        let mut workers = JoinSet::new();
        for number in 1..=self.fleet.workers {
            workers.spawn(Worker::new(self.parts(number, stored.clone())));
        }
        let mut graded = 0;
        let mut running = JoinSet::new();
        while let Some(joined) = workers.join_next().await {
            let worker = joined.expect("no worker panics").expect("the store has no faults");
            running.spawn(worker.run());
        }
        while let Some(ended) = running.join_next().await {
            graded += ended.expect("no worker panics").expect("the store has no faults").graded;
        }
        assert_eq!(graded, plan.rollout_count() as u64, "each rollout has a result");
        assert_eq!(self.store.violations(), Vec::<String>::new());
        let pulls = self.played.pulls.load(Ordering::Relaxed);
        let ends = self.played.ends.lock().unwrap_or_else(PoisonError::into_inner).clone();
        FleetReport::of(&self.workload, self.fleet, pulls, ends)
    }

    fn ledger(&self, number: u32) -> Ledger {
        let seed = hash((self.workload.seed(), number));
        let store: Arc<dyn ObjectStore> = Arc::new(self.store.handle(Link::new(number, &[])));
        let store = Retrying::new(store, RetryPolicy::default(), seed);
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        let ids = IdSource::new(move || random.lock().unwrap_or_else(PoisonError::into_inner).random());
        let ledger = Ledger::open(Arc::new(store), "", self.run.clone());
        ledger.expect("the empty prefix is valid").with_ids(ids)
    }

    fn parts(&self, number: u32, plan: StoredPlan) -> WorkerParts {
        let runner = FleetRunner::new(self.run.clone(), &self.workload, &self.played);
        WorkerParts {
            ledger: self.ledger(number),
            plan,
            slots: self.fleet.slots as usize,
            observer: Arc::new(Silent),
            drain: CancellationToken::new(),
            on_drain: OnDrain::Finish,
            exclusive: false,
            host: format!("host-{number}"),
            clock: Clock::fixed(0),
            seed: hash((self.workload.seed(), "worker", number)),
            runner: Box::new(move |_: Arc<dyn Journal>| Arc::new(runner) as Arc<dyn Runner>),
        }
    }
}

struct Silent;

impl Observer for Silent {
    fn hear(&self, _: Event) {}
}

impl Played {
    fn pulled(&self) {
        self.pulls.fetch_add(1, Ordering::Relaxed);
    }

    fn ended(&self) {
        let at = self.began.elapsed();
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).push(at);
    }
}
