//! Results: the commit of a rollout.

use std::collections::{BTreeMap, BTreeSet};

use thresher_core::{Outcome, RolloutId, RolloutRecord, ShardId};

use crate::codec;
use crate::{Ledger, LedgerError};

/// What a commit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// The record is the rollout's result: written now, or by an earlier call with the same nonce.
    Committed,
    /// Another attempt's record is the result; this one counts for nothing.
    AlreadyCommitted,
}

/// A result, as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedResult {
    /// The shard that it was committed under.
    pub shard_id: ShardId,
    /// Stored size in bytes.
    pub bytes: u64,
}

impl Ledger {
    /// Makes `record` the result of its rollout, unless there is one. Durable when it returns.
    ///
    /// [`LedgerError::NotGraded`] for a faulted record.
    pub async fn commit(&self, record: &RolloutRecord) -> Result<Commit, LedgerError> {
        if matches!(record.outcome, Outcome::Faulted(_)) {
            return Err(LedgerError::NotGraded(record.rollout_id.clone()));
        }
        let path = self.layout.result(&record.shard_id, &record.rollout_id)?;
        if self.create(&path, codec::pack(record)).await? {
            return Ok(Commit::Committed);
        }
        // A lost acknowledgement looks like a lost race: only the nonce tells them apart.
        let bytes = self.store.get(&path).await?.bytes;
        let (winner, _) = codec::unpack::<RolloutRecord>(path.as_str(), &bytes)?;
        Ok(if winner.nonce == record.nonce { Commit::Committed } else { Commit::AlreadyCommitted })
    }

    /// The rollouts that have a result: one listing, no body is read.
    pub async fn committed(&self) -> Result<BTreeMap<RolloutId, CommittedResult>, LedgerError> {
        let listed = self.store.list(&self.layout.folder("results/"), None).await?;
        let results = listed.into_iter().filter_map(|object| {
            let (shard_id, rollout) = self.layout.parse_result(&object.path)?;
            Some((rollout, CommittedResult { shard_id, bytes: object.size }))
        });
        Ok(results.collect())
    }

    /// The rollouts of one shard that have a result: one listing.
    pub async fn committed_in(&self, shard: &ShardId) -> Result<BTreeSet<RolloutId>, LedgerError> {
        let listed = self.store.list(&self.layout.folder(&format!("results/{shard}/")), None).await?;
        let rollouts = listed.iter().filter_map(|object| self.layout.parse_result(&object.path));
        Ok(rollouts.map(|(_, rollout)| rollout).collect())
    }

    /// Reads a rollout's result; `None` if it has none.
    pub async fn result(
        &self,
        shard: &ShardId,
        rollout: &RolloutId,
    ) -> Result<Option<RolloutRecord>, LedgerError> {
        let path = self.layout.result(shard, rollout)?;
        let Some(bytes) = self.read(&path).await? else { return Ok(None) };
        Ok(Some(codec::unpack(path.as_str(), &bytes)?.0))
    }
}
