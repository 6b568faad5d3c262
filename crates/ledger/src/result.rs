//! Results: the commit of a rollout.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use thresher_core::{Outcome, RolloutId, RolloutRecord, ShardId};
use thresher_store::ObjectPath;

use crate::attempt::capped_log;
use crate::codec::{self, WithLog};
use crate::layout::Layout;
use crate::pack::off_runtime;
use crate::{Ledger, LedgerError};

/// What a commit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// The record is the rollout's result: written now, or by an earlier call with the same nonce.
    Committed(Stored),
    /// Another attempt's record is the result; this one counts for nothing.
    AlreadyCommitted,
}

impl Commit {
    /// Whether the record is the rollout's result.
    pub fn is_committed(self) -> bool {
        matches!(self, Self::Committed(_))
    }
}

/// The sizes of a stored result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The whole object's size in bytes.
    pub stored_bytes: u64,
    /// The part of it in bytes that holds the record; the grader's log follows.
    pub record_bytes: u64,
    /// Size of the record in bytes before compression.
    pub raw_bytes: u64,
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
    /// Makes `record` the result of its rollout, unless there is one (protocol: R1). Durable when it returns.
    ///
    /// What the grading run printed is kept in the same object, and the stored record names it: see
    /// [`Self::load_grader_log`]. Of a very long log only head and tail are kept.
    ///
    /// [`LedgerError::NotGraded`] for a faulted record.
    pub async fn commit(
        &self,
        record: &RolloutRecord,
        grader_log: Option<&[u8]>,
    ) -> Result<Commit, LedgerError> {
        if matches!(record.outcome, Outcome::Faulted(_)) {
            return Err(LedgerError::NotGraded(record.rollout_id.clone()));
        }
        let path = self.layout.result(&record.shard_id, &record.rollout_id)?;
        let WithLog { bytes, record_bytes, raw_bytes } = self.with_log(record, &path, grader_log).await?;
        let stored = Stored { stored_bytes: bytes.len() as u64, record_bytes, raw_bytes };
        if self.create(&path, bytes).await? {
            return Ok(Commit::Committed(stored));
        }
        // A lost acknowledgement looks like a lost race: only the nonce tells them apart.
        let bytes = self.store.get(&path).await?.bytes;
        let (winner, _) = codec::unpack::<RolloutRecord>(path.as_str(), &bytes)?;
        let ours = winner.nonce == record.nonce;
        Ok(if ours { Commit::Committed(stored) } else { Commit::AlreadyCommitted })
    }

    /// Encodes a record for the object at `path`, which is where its log will be found.
    pub(crate) async fn with_log(
        &self,
        record: &RolloutRecord,
        path: &ObjectPath,
        grader_log: Option<&[u8]>,
    ) -> Result<WithLog, LedgerError> {
        let mut record = record.clone();
        let log = grader_log.map(|log| capped_log(log).into_owned());
        if log.is_some() {
            record.grader_log = Some(self.layout.relative(path).to_owned());
        }
        off_runtime(move || Ok(codec::pack_with_log(&record, log.as_deref()))).await
    }

    /// Reads what a grading run printed, by the path that its record gives; [`LedgerError::Damaged`] if the object holds
    /// no log.
    pub async fn load_grader_log(&self, path: &str) -> Result<Bytes, LedgerError> {
        let object = self.store.get(&self.layout.object(path)?).await?;
        if Layout::is_separate_log(path) {
            return Ok(codec::decompress(path, &object.bytes)?.into());
        }
        let log = codec::log_of(path, &object.bytes)?;
        Ok(log.ok_or_else(|| codec::damaged(path, "it holds no grader's log"))?.into())
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
