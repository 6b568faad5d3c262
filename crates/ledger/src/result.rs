//! Results: the commit of a rollout.

use std::collections::BTreeMap;

use thresher_core::{RolloutId, RolloutRecord, ShardId};

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
        todo!("{record:?}")
    }

    /// The rollouts that have a result: one listing, no body is read.
    pub async fn committed(&self) -> Result<BTreeMap<RolloutId, CommittedResult>, LedgerError> {
        todo!()
    }

    /// Reads a rollout's result; `None` if it has none.
    pub async fn result(
        &self,
        shard: &ShardId,
        rollout: &RolloutId,
    ) -> Result<Option<RolloutRecord>, LedgerError> {
        todo!("{shard} {rollout}")
    }
}
