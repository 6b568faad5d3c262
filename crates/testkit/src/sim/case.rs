//! A case from beginning to end: the fleet under its troubles, then the calm, then the judgement.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use thresher_core::{RunId, RunSpec};
use thresher_ledger::{IdSource, Ledger, RunState};
use thresher_store::{ObjectStore, RetryPolicy, Retrying};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::broken::Variant;
use super::fate::{CAP_MICRO_USD, hash};
use super::judge;
use super::link::Link;
use super::member::{self, End};
use super::plan::{Size, dataset, plan, spec};
use super::scenario::{Member, Scenario, Wanted};
use super::store::SimStore;
use super::trace::Trace;
use super::visitors::{self, Followed};
use super::witness::Witness;

/// Nothing takes longer than this once faults have stopped.
const BOUND: Duration = Duration::from_secs(12 * 3_600);

/// Processes that may die on poison before the last of it is set aside.
const CLOSERS: u32 = 40;

/// What everybody in a case shares.
pub(crate) struct Case {
    pub(crate) scenario: Scenario,
    pub(crate) variant: Variant,
    pub(crate) store: SimStore,
    pub(crate) run: RunId,
    pub(crate) witness: Witness,
    processes: AtomicU32,
    /// Rollouts that workers say they committed.
    pub(crate) told_graded: Mutex<u64>,
    pub(crate) followed: Mutex<Vec<Followed>>,
}

/// How a case ended.
#[derive(Debug)]
pub struct Verdict {
    /// Broken invariants; none if all is well.
    pub violations: Vec<String>,
    /// What happened.
    pub trace: Trace,
    /// Virtual time that passed.
    pub took: Duration,
}

/// Plays a case. `lines` keeps its trace for people.
pub fn play(scenario: &Scenario, variant: Variant, lines: bool) -> Verdict {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without input and output needs nothing of the system");
    runtime.block_on(async {
        let case = Arc::new(Case::new(scenario.clone(), variant, lines));
        case.play().await;
        let took = case.store.elapsed();
        Verdict { violations: case.store.violations(), trace: case.store.take_trace(), took }
    })
}

impl Case {
    fn new(scenario: Scenario, variant: Variant, lines: bool) -> Self {
        let trace = if lines { Trace::with_lines() } else { Trace::default() };
        Self {
            store: SimStore::new(
                hash(("store", scenario.seed)),
                scenario.store.clone(),
                scenario.keep_condemned,
                trace,
            ),
            run: RunId::new("simulated"),
            witness: Witness::default(),
            processes: AtomicU32::new(0),
            told_graded: Mutex::default(),
            followed: Mutex::default(),
            scenario,
            variant,
        }
    }

    /// The run as a process sees it.
    pub(crate) fn ledger(&self, link: &Link) -> Ledger {
        let store = self.variant.store(self.connect(link));
        let ids = self.variant.ids(self.seed_of("ids", link.process));
        Ledger::open(store, "", self.run.clone()).expect("the empty prefix is valid").with_ids(ids)
    }

    /// The run as it is.
    pub(crate) fn truth(&self) -> Ledger {
        let mut random = StdRng::seed_from_u64(self.seed_of("truth", self.next_process()));
        let next = Mutex::new(move || random.random());
        let ids = IdSource::new(move || next.lock().unwrap_or_else(PoisonError::into_inner)());
        let store: Arc<dyn ObjectStore> = Arc::new(self.store.truth());
        Ledger::open(store, "", self.run.clone()).expect("the empty prefix is valid").with_ids(ids)
    }

    /// The store behind the decorators that production has.
    pub(crate) fn connect(&self, link: &Link) -> Arc<dyn ObjectStore> {
        let seed = self.seed_of("retries", link.process);
        Arc::new(Retrying::new(Arc::new(self.store.handle(link.clone())), RetryPolicy::default(), seed))
    }

    /// A new process's number.
    pub(crate) fn next_process(&self) -> u32 {
        self.processes.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn seed_of(&self, what: &str, process: u32) -> u64 {
        hash((self.scenario.seed, what, process))
    }

    /// The job with so many samples.
    pub(crate) fn spec(&self, size: Size) -> RunSpec {
        let mut spec = spec(size);
        spec.agent.max_cost_usd = Some(CAP_MICRO_USD as f64 / 1e6);
        spec.fleet.pack_bytes = self.scenario.pack_bytes;
        spec.fleet.pack_s = self.scenario.pack_s;
        spec.budget.cost_usd = self.scenario.budget_micro_usd.map(|limit| limit as f64 / 1e6);
        spec
    }

    async fn play(self: &Arc<Self>) {
        if self.scenario.planners == 0 {
            self.extend(&self.truth(), self.scenario.size).await.expect("the truth has no faults");
        }
        let mut visitors = JoinSet::new();
        visitors::welcome(self, &mut visitors);
        if timeout(BOUND, self.fleet()).await.is_err() {
            return self.store.broken("the fleet does not come to an end");
        }
        if timeout(BOUND, self.end()).await.is_err() {
            return self.store.broken("the run does not come to an end");
        }
        visitors.shutdown().await;
        judge::judge(self).await;
    }

    async fn extend(&self, ledger: &Ledger, size: Size) -> Result<(), thresher_ledger::LedgerError> {
        ledger.extend_plan(&self.spec(size), &dataset(), &plan(size)).await.map(drop)
    }

    /// The scripted part.
    async fn fleet(self: &Arc<Self>) {
        let mut everybody = JoinSet::new();
        for member in self.scenario.members.clone() {
            let case = Arc::clone(self);
            everybody.spawn(async move { _ = member::serve(&case, &member).await });
        }
        let planners = (0..self.scenario.planners).map(|_| (Duration::ZERO, self.scenario.size.samples));
        for (at, samples) in planners.chain(self.scenario.extension) {
            let case = Arc::clone(self);
            everybody.spawn(async move { case.extend_at(at, samples).await });
        }
        let case = Arc::clone(self);
        everybody.spawn(async move { case.operate().await });
        while let Some(done) = everybody.join_next().await {
            if let Err(panic) = done {
                self.store.broken(format!("a process panicked: {panic}"));
            }
        }
    }

    async fn extend_at(&self, at: Duration, samples: u32) {
        sleep(at).await;
        let ledger = self.ledger(&Link::new(self.next_process(), &[]));
        while self.extend(&ledger, self.scenario.size.with_samples(samples)).await.is_err() {
            sleep(Duration::from_secs(5)).await;
        }
    }

    /// The operators, who do one thing after the other.
    async fn operate(&self) {
        let ledger = self.ledger(&Link::new(self.next_process(), &[]));
        for (at, wanted) in &self.scenario.control {
            sleep(at.saturating_sub(self.store.elapsed())).await;
            while self.control(&ledger, *wanted).await.is_err() {
                sleep(Duration::from_secs(5)).await;
            }
        }
    }

    pub(crate) async fn control(
        &self,
        ledger: &Ledger,
        wanted: Wanted,
    ) -> Result<(), thresher_ledger::LedgerError> {
        let known = ledger.control().await?.round;
        let change = |control: &mut thresher_ledger::Control| match wanted {
            Wanted::State(state) => control.state = state,
            Wanted::Round => control.round = known + 1,
        };
        ledger.change_control(change).await.map(drop)
    }

    /// What comes after the last fault.
    async fn end(self: &Arc<Self>) {
        sleep(self.scenario.store.calm_from.saturating_sub(self.store.elapsed())).await;
        self.close().await;
        let truth = self.truth();
        if self.scenario.afterthought {
            let larger = self.scenario.size.with_samples(self.scenario.size.samples + 2);
            self.extend(&truth, larger).await.expect("the truth has no faults");
            self.close().await;
        }
        for _ in 0..self.scenario.rounds_after {
            self.control(&truth, Wanted::Round).await.expect("the truth has no faults");
            self.close().await;
        }
    }

    /// One undisturbed worker after the other, and operators who lift what stopped them.
    async fn close(self: &Arc<Self>) {
        let truth = self.truth();
        for _ in 0..CLOSERS {
            let member = Member {
                start: Duration::ZERO,
                slots: 3,
                clock_rate: 1.0,
                wall_offset_s: 0,
                lives: vec![Vec::new()],
                restart_after: Duration::ZERO,
            };
            match member::serve(self, &member).await {
                Some(End::Finished) => return,
                Some(End::Budget) => judge::budget(self, &truth).await,
                Some(End::Cancelled) => {
                    let lifted = self.control(&truth, Wanted::State(RunState::Running)).await;
                    lifted.expect("the truth has no faults");
                }
                Some(End::Drained) | None => {}
            }
        }
        self.store.broken(format!("{CLOSERS} undisturbed workers could not finish the run"));
    }
}
