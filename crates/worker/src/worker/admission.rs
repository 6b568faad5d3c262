//! What begins when: free slots, budget, and the heartbeat that comes before every start.

use std::sync::Arc;

use thresher_core::plan::TaskHandle;
use thresher_ledger::{Amount, Drawn, InFlight, LedgerError};
use tokio::time::Instant;

use super::{StopCause, Worker, WorkerError};
use crate::event::Event;
use crate::outage::Room;
use crate::queue::{Next, Pending};

impl Worker {
    /// Fills free slots. Returns when the next retry is due, if one waits.
    pub(super) async fn admit(&mut self) -> Result<Option<Instant>, WorkerError> {
        let mut due = None;
        self.stop_if_away_too_long();
        while self.admits() && self.running.len() < self.settings.slots {
            let free = match self.outage.room(Instant::now()) {
                Room::Open => self.settings.slots - self.running.len(),
                Room::Probe => 1,
                Room::Shut(until) => {
                    due = Some(until);
                    break;
                }
            };
            while self.queue.ready(Instant::now()) < free && self.claim_next().await? {}
            let batch;
            (batch, due) = self.take(free).await?;
            if batch.is_empty() {
                break;
            }
            self.begin(batch).await?;
        }
        self.look_ahead().await?;
        Ok(due)
    }

    /// Stops when what rollouts share was away for longer than this worker waits.
    fn stop_if_away_too_long(&mut self) {
        if let Some(fault) = self.outage.too_long(Instant::now()).cloned() {
            self.stop(StopCause::Outage(fault));
        }
    }

    /// Takes up to `free` rollouts that the budget has room for from the queue.
    async fn take(&mut self, free: usize) -> Result<(Vec<Pending>, Option<Instant>), WorkerError> {
        let mut batch = Vec::new();
        while batch.len() < free && self.admits() {
            if self.queue.ready(Instant::now()) == 0 {
                let due = match self.queue.next(Instant::now()) {
                    Next::NotBefore(at) => Some(at),
                    Next::Ready(_) | Next::Empty => None,
                };
                return Ok((batch, due));
            }
            if self.over_time() || !(self.purse.reserve() || self.draw(free - batch.len()).await?) {
                break;
            }
            let Next::Ready(pending) = self.queue.next(Instant::now()) else {
                self.purse.unreserve();
                break;
            };
            batch.push(*pending);
        }
        Ok((batch, None))
    }

    /// Draws a tranche for up to `rollouts`, and reserves for one of them. Not granted: a running rollout, here or
    /// elsewhere, may give something back; if that cannot be enough, the worker stops.
    async fn draw(&mut self, rollouts: usize) -> Result<bool, WorkerError> {
        let ledger = self.shared.ledger.clone();
        let wish = self.purse.wish(rollouts as u64);
        let before = || spent_before(&ledger);
        let drawn = ledger.draw(&self.me, self.purse.spent(), &wish, before).await?;
        match drawn {
            Drawn::Granted(granted) => self.purse.drew(granted),
            Drawn::Reserved => self.purse.drew(Amount::default()),
            Drawn::Exhausted(spent) => {
                self.purse.drew(Amount::default());
                if self.running.is_empty() {
                    self.stop(StopCause::Budget(budget_text(&wish.limits, spent)));
                }
            }
        }
        Ok(matches!(drawn, Drawn::Granted(_)) && self.purse.reserve())
    }

    /// Gives back what this worker drew and has nothing to spend on, since others may be waiting for it (protocol: B3).
    pub(super) async fn give_back_unused(&mut self) -> Result<(), WorkerError> {
        if self.running.is_empty() && self.purse.holds_unused() {
            self.shared.ledger.return_tranche(&self.me, self.purse.spent()).await?;
            self.purse.drew(Amount::default());
        }
        Ok(())
    }

    /// Whether the wall-clock budget is used up, which stops the worker.
    fn over_time(&mut self) -> bool {
        let budget = self.control.budget.as_ref().unwrap_or(&self.plan.spec.budget);
        let Some(limit) = budget.wall_s else { return false };
        let began = self.control.round_began_unix_s;
        let elapsed = match began {
            0 => self.started.elapsed().as_secs(),
            _ => (self.settings.clock.now_us() / 1_000_000 - began).max(0) as u64,
        };
        let over = elapsed >= limit;
        if over {
            self.stop(StopCause::Budget(format!("wall-clock budget: {limit} s are over")));
        }
        over
    }

    /// Begins rollouts once the heartbeat that lists them is stored (protocol: H2).
    async fn begin(&mut self, batch: Vec<Pending>) -> Result<(), WorkerError> {
        let batch: Vec<(Pending, String)> =
            batch.into_iter().map(|pending| (pending, self.shared.ledger.nonce())).collect();
        let attempts: Vec<InFlight> =
            batch.iter().map(|(pending, nonce)| in_flight(pending, nonce)).collect();
        self.pulse.change(|beat| beat.in_flight.extend(attempts));
        self.pulse.announce().await?;
        if self.looked + self.settings.patience / 2 <= Instant::now() {
            // We were stopped, or the store was away: the shards may have been taken over meanwhile.
            self.look().await?;
        }
        for (pending, nonce) in batch {
            match self.holds.cancel(&pending.shard) {
                Some(cancel) if self.admits() => self.spawn(pending, nonce, cancel),
                held => {
                    self.purse.unreserve();
                    self.pulse.change(|beat| beat.in_flight.retain(|attempt| attempt.nonce != nonce));
                    if held.is_some() {
                        self.queue.put_back(pending);
                    }
                }
            }
        }
        Ok(())
    }

    fn spawn(&mut self, pending: Pending, nonce: String, cancel: tokio_util::sync::CancellationToken) {
        self.outage.begun(Instant::now(), &nonce);
        let task = self.task(&pending).clone();
        self.observer.hear(Event::Started {
            rollout: pending.rollout.rollout_id.clone(),
            instance_id: task.instance_id.clone(),
            sample: pending.rollout.sample,
        });
        let shared = Arc::clone(&self.shared);
        self.running.spawn(async move { shared.work(pending, nonce, task, cancel).await });
    }

    /// Claims the next shard while all slots are busy, and makes its image ready: where shards are plenty, nobody else
    /// is kept from one by that.
    async fn look_ahead(&mut self) -> Result<(), WorkerError> {
        let busy = self.running.len() >= self.settings.slots;
        let plenty = self.settings.exclusive || self.book.free_count() > self.watch.alive() + 1;
        if !(self.admits()
            && self.outage.what().is_none()
            && busy
            && plenty
            && self.queue.is_empty()
            && self.claim_next().await?)
        {
            return Ok(());
        }
        if let Next::Ready(pending) = self.queue.next(Instant::now()) {
            let (shared, task) = (Arc::clone(&self.shared), self.task(&pending).clone());
            self.background.spawn(async move { shared.runner.prefetch(&task).await });
            self.queue.put_back(*pending);
        }
        Ok(())
    }

    /// The task of a rollout of the plan.
    pub(super) fn task(&self, pending: &Pending) -> &TaskHandle {
        &self.plan.plan.tasks[pending.rollout.task as usize]
    }
}

fn in_flight(pending: &Pending, nonce: &str) -> InFlight {
    InFlight {
        shard: pending.shard.clone(),
        rollout: pending.rollout.rollout_id.clone(),
        attempt: pending.attempt,
        nonce: nonce.to_owned(),
    }
}

/// What a run had spent before it had a budget, from its records.
async fn spent_before(ledger: &thresher_ledger::Ledger) -> Result<Amount, LedgerError> {
    let reader = ledger.reader().await?;
    let (results, faults) = (reader.rollouts().await?, reader.faults().await?);
    let graded = results.iter().filter(|summary| summary.outcome.reward().is_some());
    let graded = graded.fold(Amount::default(), |sum, summary| sum + Amount::of(&summary.totals, true));
    Ok(faults.iter().fold(graded, |sum, summary| sum + Amount::of(&summary.totals, false)))
}

fn budget_text(limits: &thresher_ledger::Limits, spent: Amount) -> String {
    let mut parts = Vec::new();
    if let Some(limit) = limits.micro_usd {
        parts.push(format!(
            "cost budget: {:.4} of {:.4} USD spent",
            spent.micro_usd as f64 / 1e6,
            limit as f64 / 1e6
        ));
    }
    if let Some(limit) = limits.tokens {
        parts.push(format!("token budget: {} of {limit} tokens used", spent.tokens));
    }
    if let Some(limit) = limits.rollouts {
        parts.push(format!("rollout budget: {} of {limit} rollouts done", spent.rollouts));
    }
    format!("{}, and what is left is less than one rollout may take", parts.join("; "))
}
