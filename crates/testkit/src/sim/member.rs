//! A worker's place in the fleet: one process after the other, each the real worker.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use thresher_ledger::StoredPlan;
use thresher_rollout::{Clock, Journal};
use thresher_worker::{
    Event, Observer, OnDrain, Runner, StopCause, Worker, WorkerError, WorkerParts, WorkerReport,
};
use tokio::time::sleep;

use super::case::Case;
use super::link::{Link, Trouble};
use super::runner::SimRunner;
use super::scenario::Member;
use super::store::SimStore;

/// Why a process was not followed by another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing was left to do.
    Finished,
    Drained,
    Cancelled,
    Budget,
}

/// Runs the member's processes. `None` if the last one was killed, or its store failed.
pub(crate) async fn serve(case: &Arc<Case>, member: &Member) -> Option<End> {
    sleep(member.start).await;
    for (life, troubles) in member.lives.iter().enumerate() {
        if life > 0 {
            sleep(member.restart_after).await;
        }
        let link = Link::new(case.next_process(), troubles);
        for (_, trouble) in troubles {
            if matches!(trouble, Trouble::Freeze(_) | Trouble::Partition(_)) {
                case.witness.suspect(link.process, member.slots);
            }
        }
        // While the store is away, nobody can be heard.
        for _ in &case.scenario.store.outages {
            case.witness.suspect(link.process, member.slots);
        }
        case.store.note(link.process, "starts", "");
        match link.live(Box::pin(work(case, &link, member))).await {
            None => {
                case.store.note(link.process, "is killed", "");
                case.witness.suspect(link.process, member.slots);
            }
            Some(Err(error)) => {
                case.store.note(link.process, "fails", &error.to_string());
                case.witness.suspect(link.process, member.slots);
                if !is_of_the_store(&error) {
                    case.store.broken(format!("worker {} failed: {error}", link.process));
                }
            }
            Some(Ok(report)) => {
                let end = end(&report);
                case.store.note(link.process, "ends", &format!("{end:?}"));
                *case.told_graded.lock().unwrap_or_else(PoisonError::into_inner) += report.graded;
                if end != End::Drained {
                    return Some(end);
                }
            }
        }
    }
    None
}

async fn work(case: &Arc<Case>, link: &Link, member: &Member) -> Result<WorkerReport, WorkerError> {
    let ledger = case.ledger(link);
    let plan = loop {
        match ledger.plan().await? {
            Some(plan) => break case.variant.plan(own_clock(plan, member.clock_rate)),
            None => link.sleep(Duration::from_secs(5)).await,
        }
    };
    let now_us = (1_750_000_000 + member.wall_offset_s) * 1_000_000;
    let (case_of_runner, link_of_runner) = (Arc::clone(case), link.clone());
    let runner = Box::new(move |journal: Arc<dyn Journal>| {
        Arc::new(SimRunner::new(&case_of_runner, link_of_runner, journal, now_us)) as Arc<dyn Runner>
    });
    let worker = Worker::new(WorkerParts {
        ledger,
        plan,
        slots: member.slots,
        observer: Arc::new(Notes { store: case.store.clone(), process: link.process }),
        drain: link.drain(),
        on_drain: OnDrain::NoNewTurn,
        exclusive: false,
        host: format!("host-{}", link.process),
        clock: Clock::fixed(now_us),
        seed: case.seed_of("worker", link.process),
        runner,
    });
    Box::pin(Box::pin(worker).await?.run()).await
}

/// The plan with times as this member's clock counts them.
fn own_clock(plan: StoredPlan, rate: f64) -> StoredPlan {
    let mut plan = plan;
    let scaled = |seconds: u64| Duration::from_secs(seconds).mul_f64(rate).as_secs();
    let fleet = &mut plan.spec.fleet;
    fleet.heartbeat_s = scaled(fleet.heartbeat_s);
    fleet.take_over_s = scaled(fleet.take_over_s);
    plan
}

fn end(report: &WorkerReport) -> End {
    match &report.stopped {
        None => End::Finished,
        Some(StopCause::Drained) => End::Drained,
        Some(StopCause::Cancelled) => End::Cancelled,
        Some(StopCause::Budget(_)) => End::Budget,
        Some(StopCause::Configuration(_)) => unreachable!("no simulated fault is one of configuration"),
        Some(StopCause::Outage(_)) => End::Drained,
    }
}

/// A store that does not answer for long may end a worker; nothing else may.
fn is_of_the_store(error: &WorkerError) -> bool {
    use thresher_ledger::LedgerError;
    matches!(error, WorkerError::Ledger(LedgerError::Store(error)) if error.is_transient())
}

/// Puts what a worker says into the trace.
struct Notes {
    store: SimStore,
    process: u32,
}

impl Observer for Notes {
    fn hear(&self, event: Event) {
        match event {
            Event::TookOver { shard, lost } => self.note("takes", &format!("{shard}, {lost} lost")),
            Event::Fenced { shard } => self.note("is fenced", shard.as_str()),
            Event::SetAside { rollout, workers } => self.note("sets aside", &format!("{rollout}, {workers}")),
            Event::Started { rollout, .. } => self.note("begins", rollout.as_str()),
            Event::Finished { rollout, outcome, .. } => {
                self.note("finishes", &format!("{rollout} {:?}", outcome.reward()));
            }
            Event::WillRetry { rollout, .. } => self.note("retries", rollout.as_str()),
            _ => {}
        }
    }
}

impl Notes {
    fn note(&self, what: &str, about: &str) {
        self.store.note(self.process, what, about);
    }
}
