//! The end: of the run, which one worker seals, and of a worker, which leaves nothing behind.

use std::sync::Arc;

use thresher_core::ShardId;
use thresher_ledger::{Claim, Ledger, PackOptions, PackWhen, Packed, Release};
use tokio::time::Instant;

use super::{Worker, WorkerError, WorkerReport, positions};

/// What there is to do for a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// Something, at once.
    Again,
    /// Perhaps something, once something has happened.
    Wait,
    /// Nothing, ever.
    Over,
}

impl Worker {
    /// Whether there is something to do, now or later.
    pub(super) async fn outlook(&mut self) -> Result<Outlook, WorkerError> {
        if !self.running.is_empty() {
            return Ok(Outlook::Wait);
        }
        if self.stopped.is_some() {
            return Ok(Outlook::Over);
        }
        if !self.book.is_finished() {
            return Ok(Outlook::Wait);
        }
        if self.grow().await? {
            return Ok(Outlook::Again);
        }
        if !self.is_sealed() {
            self.book.add(self.sealing());
            return Ok(Outlook::Again);
        }
        if std::mem::take(&mut self.leftovers) {
            self.shared.ledger.seal(&self.pack_options()).await?;
        }
        Ok(Outlook::Over)
    }

    /// Whether everything is finished, and the run was sealed after that.
    fn is_sealed(&self) -> bool {
        self.book.knows(&self.sealing()) && self.book.is_finished()
    }

    fn sealing(&self) -> ShardId {
        Ledger::sealing(self.plan.segment, self.control.round)
    }

    /// Takes up what was added to the plan meanwhile; says whether there was anything.
    async fn grow(&mut self) -> Result<bool, WorkerError> {
        let Some(plan) = self.shared.ledger.plan_after(&self.plan).await? else { return Ok(false) };
        self.plan = plan;
        self.shards = positions(&self.plan);
        self.book.extend(&self.plan.plan);
        self.look_for_work().await?;
        Ok(true)
    }

    /// Seals the run; `claim` says that it is for us to do (protocol: S).
    pub(super) async fn seal(&mut self, claim: Claim) -> Result<(), WorkerError> {
        self.shared.runner.settle().await;
        self.shared.ledger.seal(&self.pack_options()).await?;
        self.leftovers = false;
        match self.shared.ledger.finish(&claim, self.control.round, 0).await? {
            Release::Done(claim) => self.book.learn(claim),
            Release::Fenced => self.book.forget(claim.shard()),
        }
        Ok(())
    }

    /// Begins to pack what this worker committed, if enough has come together or waited long enough.
    pub(super) fn pack_if_due(&mut self) {
        if self.packing.is_empty() && self.packer.due(Instant::now()) {
            let packer = Arc::clone(&self.packer);
            self.packing.spawn(async move { packer.pack().await });
        }
    }

    /// Takes note of packs that have become part of the run.
    pub(super) fn packed(&mut self, packed: Packed) {
        tracing::debug!(packs = packed.packs, rollouts = packed.rollouts, "packed");
        let unpacked = self.packer.unpacked_counts();
        self.pulse.change(|beat| beat.unpacked = unpacked);
    }

    /// Packs, gives everything back, and goes (protocol: H5).
    pub(super) async fn leave(mut self) -> Result<WorkerReport, WorkerError> {
        self.background.shutdown().await;
        while let Some(packed) = self.packing.join_next().await {
            self.packed(packed??);
        }
        self.shared.runner.settle().await;
        let ledger = self.shared.ledger.clone();
        self.give_back_ended().await?;
        for claim in self.holds.take_all() {
            // Fenced: another worker has it already, which is as good.
            ledger.release(&claim).await?;
        }
        let mut sealed = self.is_sealed();
        if self.settings.exclusive && !sealed {
            ledger.seal(&self.pack_options()).await?;
            sealed = true;
        } else if !sealed {
            self.packer.pack().await?;
        }
        if !self.purse.is_unlimited() {
            ledger.close_tranche(&self.me, self.purse.spent()).await?;
        }
        let _held = self.pulse.hold().await;
        self.beats.shutdown().await;
        ledger.clear_heartbeat(&self.me).await?;
        // That of an earlier sealing says nothing of what this worker leaves behind.
        let manifest = if sealed { ledger.manifest().await? } else { None };
        let thresher_ledger::DoneCounts { graded, solved, faulted } = self.tally;
        let images = self.shared.runner.image_counts();
        Ok(WorkerReport { graded, solved, faulted, images, stopped: self.stopped, manifest })
    }

    fn pack_options(&self) -> PackOptions {
        PackOptions { raw_bytes: self.settings.pack_bytes, when: PackWhen::Always }
    }
}
