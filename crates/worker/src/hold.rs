//! The shards that this worker holds, and what is left to do in each.

use std::collections::{BTreeMap, BTreeSet};

use thresher_core::{RolloutId, ShardId};
use thresher_ledger::Claim;
use tokio_util::sync::CancellationToken;

/// A shard in hand.
#[derive(Debug)]
pub(crate) struct Hold {
    /// What its release or finish is conditioned on.
    pub(crate) claim: Claim,
    /// Rollouts that have not ended.
    open: BTreeSet<RolloutId>,
    /// Rollouts that ended without a result.
    faulted: u32,
    /// Breaks its rollouts off.
    pub(crate) cancel: CancellationToken,
}

/// All shards in hand.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    shards: BTreeMap<ShardId, Hold>,
}

impl Holds {
    /// Adds a shard of which `open` are to be run, and `faulted` are set aside.
    pub(crate) fn add(
        &mut self,
        claim: Claim,
        open: BTreeSet<RolloutId>,
        faulted: u32,
        cancel: CancellationToken,
    ) {
        self.shards.insert(claim.shard().clone(), Hold { claim, open, faulted, cancel });
    }

    /// The token that breaks a shard's rollouts off; `None` if the shard is not ours any more.
    pub(crate) fn cancel(&self, shard: &ShardId) -> Option<CancellationToken> {
        self.shards.get(shard).map(|hold| hold.cancel.clone())
    }

    /// Notes that a rollout ended.
    pub(crate) fn end(&mut self, shard: &ShardId, rollout: &RolloutId, faulted: bool) {
        if let Some(hold) = self.shards.get_mut(shard)
            && hold.open.remove(rollout)
        {
            hold.faulted += u32::from(faulted);
        }
    }

    /// Takes out the shards in which nothing is left to do, with how many of their rollouts have no result.
    pub(crate) fn take_ended(&mut self) -> Vec<(Claim, u32)> {
        let ended: Vec<ShardId> = self
            .shards
            .iter()
            .filter(|(_, hold)| hold.open.is_empty())
            .map(|(shard, _)| shard.clone())
            .collect();
        let hold = |shard| self.shards.remove(shard).map(|hold| (hold.claim, hold.faulted));
        ended.iter().filter_map(hold).collect()
    }

    /// Takes a shard out.
    pub(crate) fn remove(&mut self, shard: &ShardId) -> Option<Hold> {
        self.shards.remove(shard)
    }

    /// Takes all shards out.
    pub(crate) fn take_all(&mut self) -> Vec<Claim> {
        std::mem::take(&mut self.shards).into_values().map(|hold| hold.claim).collect()
    }

    /// The claims in hand.
    pub(crate) fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.shards.values().map(|hold| &hold.claim)
    }

    /// The shards in hand.
    pub(crate) fn shards(&self) -> Vec<ShardId> {
        self.shards.keys().cloned().collect()
    }

    /// Breaks all rollouts off.
    pub(crate) fn cancel_all(&self) {
        self.shards.values().for_each(|hold| hold.cancel.cancel());
    }
}
