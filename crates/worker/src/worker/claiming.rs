//! Getting shards and giving them back.

use std::collections::{BTreeMap, BTreeSet};

use thresher_core::fault::{Blame, Fault, Phase, Retry};
use thresher_core::plan::{PlannedRollout, Shard};
use thresher_core::{RolloutId, ShardId};
use thresher_ledger::{AttemptCounts, Claim, Claiming, LostAttempt, Release, Standing};
use tokio_util::sync::CancellationToken;

use super::{Worker, WorkerError};
use crate::book::Choice;
use crate::event::Event;
use crate::queue::Pending;
use crate::slot;

impl Worker {
    /// Tries to get one more shard. `false` if none is known to be free.
    pub(super) async fn claim_next(&mut self) -> Result<bool, WorkerError> {
        if !self.admits() {
            return Ok(false);
        }
        let Some(choice) = self.choose().await? else { return Ok(false) };
        let ledger = self.shared.ledger.clone();
        let round = self.control.round;
        let claiming = match choice {
            Choice::Fresh(shard) => ledger.claim(&shard, &self.me, round).await?,
            Choice::Open(claim) => ledger.claim_seen(claim, &self.me, round).await?,
            Choice::Orphaned(claim) => self.take_over(claim).await?,
        };
        match claiming {
            Claiming::Held(claim) => self.open(claim).await?,
            Claiming::Taken(claim) => {
                self.book.lost(claim);
                // What we took for free, others have taken: one listing spares us finding out shard by shard.
                let listing = ledger.claimed_shards().await?;
                self.book.look(listing);
                if self.settings.exclusive {
                    // Whoever holds it is gone.
                    self.look_for_lost().await?;
                }
            }
            Claiming::Finished(claim) => self.book.learn(claim),
        }
        Ok(true)
    }

    /// The shard to try next. Claims that were there before this worker are read once nothing else is left.
    async fn choose(&mut self) -> Result<Option<Choice>, WorkerError> {
        let choice = self.book.choose(&mut self.rng);
        if choice.is_some() || !self.book.has_unread() {
            return Ok(choice);
        }
        self.look_for_work().await?;
        self.look_for_lost().await?;
        Ok(self.book.choose(&mut self.rng))
    }

    /// Takes a shard from a worker that is gone (protocol: T2).
    async fn take_over(&mut self, claim: Claim) -> Result<Claiming, WorkerError> {
        let in_flight = match claim.standing() {
            Standing::Held(holder) => match self.gone.get(holder) {
                Some(Some(heartbeat)) => heartbeat.lost_in(claim.shard()),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        let taken = self.shared.ledger.take_over(&claim, &in_flight, &self.me).await?;
        if let Claiming::Held(claim) = &taken {
            self.observer.hear(Event::TookOver { shard: claim.shard().clone(), lost: in_flight.len() });
        }
        Ok(taken)
    }

    /// Lines up what is left to do in a shard that was just won.
    async fn open(&mut self, claim: Claim) -> Result<(), WorkerError> {
        self.book.won(claim.shard());
        let Some(&at) = self.shards.get(claim.shard()) else { return self.seal(claim).await };
        self.leftovers = false;
        let shard = self.plan.plan.shards[at].clone();
        let known = self.known(&claim, &shard).await?;
        let mut open = BTreeSet::new();
        let mut aside = 0;
        let mut pending = Vec::new();
        for rollout in shard.rollouts.iter().filter(|rollout| !known.done.contains(&rollout.rollout_id)) {
            let lost = claim.workers_lost_by(&rollout.rollout_id, self.control.round);
            if lost >= self.settings.max_lost_workers {
                self.observer.hear(Event::SetAside { rollout: rollout.rollout_id.clone(), workers: lost });
                aside += 1;
                continue;
            }
            open.insert(rollout.rollout_id.clone());
            let next = known.pending(&shard.shard_id, rollout);
            let lost = claim.lost().iter().filter(|lost| lost.rollout == rollout.rollout_id);
            let after_lost = lost.map(|lost| lost.attempt + 1).max().unwrap_or(1);
            pending.push(Pending { attempt: next.attempt.max(after_lost), ..next });
        }
        self.tally.faulted += u64::from(aside);
        self.record_lost(&claim, &shard, &known).await?;
        self.queue.push(pending);
        self.holds.add(claim, open, aside, CancellationToken::new());
        self.tell_shards();
        Ok(())
    }

    /// What exists of a shard's rollouts. Nothing, where nobody had the shard before: then nothing is listed.
    async fn known(&self, claim: &Claim, shard: &Shard) -> Result<Known, WorkerError> {
        if claim.epoch() == 1 {
            return Ok(Known::default());
        }
        let ledger = &self.shared.ledger;
        let done = ledger.committed_in(&shard.shard_id).await?;
        let attempts = ledger.attempts_in(&shard.shard_id).await?;
        Ok(Known { done, attempts })
    }

    /// Keeps the attempts that ended with their workers as faults (protocol: T3). Done again by every later holder, so
    /// that no kill in between loses one.
    async fn record_lost(&self, claim: &Claim, shard: &Shard, known: &Known) -> Result<(), WorkerError> {
        let mut seen: BTreeMap<&RolloutId, usize> = BTreeMap::new();
        for lost in claim.lost() {
            if lost.round == self.control.round {
                *seen.entry(&lost.rollout).or_default() += 1;
            }
            let planned = shard.rollouts.iter().find(|rollout| rollout.rollout_id == lost.rollout);
            let Some(planned) = planned.filter(|_| !known.done.contains(&lost.rollout)) else { continue };
            let workers = seen.get(&lost.rollout).copied().unwrap_or(0);
            let pending = Pending { attempt: lost.attempt, ..known.pending(&shard.shard_id, planned) };
            let job = slot::job(&pending, lost.nonce.clone(), self.task(&pending));
            let record = self.shared.runner.lost(job, self.lost_fault(lost, workers));
            self.shared.ledger.save_fault(&record, None).await?;
        }
        Ok(())
    }

    fn lost_fault(&self, lost: &LostAttempt, workers: usize) -> Fault {
        let message = format!("worker {} was lost while it ran this attempt", lost.worker);
        if workers < self.settings.max_lost_workers {
            return Fault::new(Blame::Worker, Retry::Now, Phase::Agent, message);
        }
        let message = format!("{message}; set aside, since {workers} workers were lost with it");
        Fault::new(Blame::Worker, Retry::Never, Phase::Agent, message)
    }

    /// Gives back the shards in which nothing is left to do (protocol: C5).
    pub(super) async fn give_back_ended(&mut self) -> Result<(), WorkerError> {
        let ended = self.holds.take_ended();
        if ended.is_empty() {
            return Ok(());
        }
        for (claim, open) in ended {
            match self.shared.ledger.finish(&claim, self.control.round, open).await? {
                Release::Done(claim) => self.book.learn(claim),
                Release::Fenced => self.book.forget(claim.shard()),
            }
        }
        self.tell_shards();
        Ok(())
    }

    /// Another worker has the shard: what runs of it is broken off, what waits is dropped (protocol: H4).
    pub(super) fn fenced(&mut self, shard: &ShardId) {
        if let Some(hold) = self.holds.remove(shard) {
            hold.cancel.cancel();
        }
        self.queue.drop_shard(shard);
        self.book.forget(shard);
        self.observer.hear(Event::Fenced { shard: shard.clone() });
        self.tell_shards();
    }

    /// Has the next heartbeat say which shards are in hand.
    pub(super) fn tell_shards(&self) {
        let shards = self.holds.shards();
        self.pulse.change(|beat| beat.shards = shards);
    }
}

/// What exists of a shard's rollouts.
#[derive(Default)]
struct Known {
    done: BTreeSet<RolloutId>,
    attempts: BTreeMap<RolloutId, AttemptCounts>,
}

impl Known {
    fn pending(&self, shard: &ShardId, rollout: &PlannedRollout) -> Pending {
        let attempts = self.attempts.get(&rollout.rollout_id);
        Pending {
            shard: shard.clone(),
            rollout: rollout.clone(),
            attempt: attempts.map_or(1, |known| known.next),
            tries: 1,
            spared: None,
            ungraded: attempts.is_some_and(|known| known.ungraded),
        }
    }
}
