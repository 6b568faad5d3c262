//! Looking around: what operators want, whether our shards are still ours, who is gone, what the others finished.

use std::collections::BTreeSet;

use thresher_ledger::{Incarnation, RunState, WorkerState};
use thresher_store::ChangeTag;
use tokio::time::Instant;

use super::{StopCause, Worker, WorkerError};
use crate::event::Event;

impl Worker {
    /// Becomes visible to the others, then takes the first look (protocol: H1).
    pub(super) async fn join(&mut self) -> Result<(), WorkerError> {
        self.pulse.announce().await?;
        let (pulse, every) = (std::sync::Arc::clone(&self.pulse), self.settings.heartbeat);
        self.beats.spawn(async move { pulse.keep(every).await });
        let ledger = self.shared.ledger.clone();
        let planned = self.plan.plan.rollout_count() as u64;
        let finished_before = match self.settings.exclusive {
            true => ledger.committed().await?.len() as u64,
            false => 0,
        };
        self.observer.hear(Event::Planned { planned, finished_before });
        self.apply_control();
        // Which shards were claimed before; their claims are read once nothing else is left.
        self.book.look(ledger.claimed_shards().await?);
        self.look_for_lost().await?;
        let (workers, patience_s) = (self.watch.alive(), self.settings.patience.as_secs());
        if workers > 0 && !self.settings.exclusive {
            self.observer.hear(Event::Met { workers, patience_s });
        }
        Ok(())
    }

    /// Looks around.
    pub(super) async fn look(&mut self) -> Result<(), WorkerError> {
        let control = self.shared.ledger.control().await?;
        if control != self.control {
            self.control = control;
            self.apply_control();
        }
        self.check_claims().await?;
        self.look_for_lost().await?;
        if self.book.free_count() == 0 {
            self.look_for_work().await?;
        }
        let images = self.shared.runner.image_counts();
        self.pulse.change(|beat| beat.images = images);
        self.looked = Instant::now();
        Ok(())
    }

    /// Does what operators want (protocol: O3).
    fn apply_control(&mut self) {
        self.book.set_round(self.control.round);
        if let Some(budget) = &self.control.budget {
            self.purse.limit(budget);
        }
        let (round, state) = (self.control.round, self.control.state);
        if let RunState::Cancelled { .. } = state {
            self.stop(StopCause::Cancelled);
        }
        if state == (RunState::Cancelled { now: true }) {
            self.holds.cancel_all();
        }
        self.observer.hear(Event::Controlled { state });
        let stopping = self.stopped.is_some();
        self.pulse.change(|beat| {
            beat.round = round;
            if !stopping {
                beat.state =
                    if state == RunState::Paused { WorkerState::Waiting } else { WorkerState::Working };
            }
        });
    }

    /// Lets go of shards that others have taken over (protocol: H4).
    async fn check_claims(&mut self) -> Result<(), WorkerError> {
        let claims: Vec<_> = self.holds.claims().cloned().collect();
        for claim in claims {
            if !self.shared.ledger.still_held(&claim).await? {
                self.fenced(claim.shard());
            }
        }
        Ok(())
    }

    /// Finds workers that are gone, and what they leave (protocol: T1).
    pub(super) async fn look_for_lost(&mut self) -> Result<(), WorkerError> {
        let mut listing = self.shared.ledger.workers().await?;
        listing.retain(|(worker, _)| *worker != self.me);
        let listed: BTreeSet<Incarnation> = listing.iter().map(|(worker, _)| worker.clone()).collect();
        // A holder without a heartbeat is watched as if it had one that stays the same.
        let silent = self.book.holders().into_iter().filter(|holder| !listed.contains(holder));
        listing.extend(silent.map(|holder| (holder, ChangeTag::new("none"))));
        self.watch.look(Instant::now(), listing.clone());
        let gone = match self.settings.exclusive {
            true => listing.into_iter().map(|(worker, _)| worker).collect(),
            false => self.watch.gone(),
        };
        self.gone.retain(|worker, _| gone.contains(worker));
        for worker in gone {
            self.bury(worker).await?;
        }
        let gone = &self.gone;
        self.book.orphan(|worker| gone.contains_key(worker));
        self.book.expect_rivals(self.watch.alive());
        Ok(())
    }

    /// Learns what a lost worker held, gives back its part of the budget (T4), and clears its heartbeat away once nobody
    /// needs it any more (T5).
    async fn bury(&mut self, worker: Incarnation) -> Result<(), WorkerError> {
        let ledger = self.shared.ledger.clone();
        if !self.gone.contains_key(&worker) {
            let heartbeat = ledger.heartbeat(&worker).await?;
            if let Some(heartbeat) = &heartbeat {
                ledger.return_tranche(&worker, heartbeat.spent).await?;
            }
            self.gone.insert(worker.clone(), heartbeat);
        }
        let Some(Some(heartbeat)) = self.gone.get(&worker) else { return Ok(()) };
        let ours = self.holds.shards();
        let shards = heartbeat.shards.iter().filter(|shard| !ours.contains(shard));
        for claim in ledger.read_claims(shards.cloned().collect()).await? {
            self.book.learn(claim);
        }
        if !self.book.is_holder(&worker) {
            ledger.clear_heartbeat(&worker).await?;
            self.gone.remove(&worker);
        }
        Ok(())
    }

    /// Finds out what became of the shards of others, and whether the run has grown.
    pub(super) async fn look_for_work(&mut self) -> Result<(), WorkerError> {
        let ledger = self.shared.ledger.clone();
        self.book.look(ledger.claimed_shards().await?);
        for claim in ledger.read_claims(self.book.stale()).await? {
            self.book.learn(claim);
        }
        let gone = &self.gone;
        self.book.orphan(|worker| gone.contains_key(worker));
        Ok(())
    }
}
