//! Attempts: what is kept of a rollout besides its result.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thresher_core::record::SCHEMA_VERSION;
use thresher_core::{Fault, Outcome, RolloutId, RolloutRecord, ShardId};

use crate::codec;
use crate::layout::{AttemptKind, AttemptObject};
use crate::{Ledger, LedgerError};

/// Bytes of a grader's log that are kept at each end.
const LOG_END_BYTES: usize = 8 << 20;

/// A finished trajectory that waits for grading. What is in it is the runner's business: the ledger keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Ungraded<T> {
    /// Which attempt made it, from 1.
    pub attempt: u32,
    /// That attempt's nonce.
    pub nonce: String,
    /// What was stored.
    pub body: T,
}

/// The stored form of a trajectory, with the schema version of its writer.
#[derive(Serialize, Deserialize)]
struct StoredTrajectory<T> {
    schema_version: i32,
    trajectory: T,
}

/// What exists of a rollout besides a result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Attempts that ended in a fault, in the order of their numbers.
    pub faults: Vec<FaultSeen>,
    /// Whether a finished trajectory waits for grading.
    pub ungraded: bool,
    /// The number for the next attempt.
    pub next: u32,
}

/// A fault of an earlier attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultSeen {
    /// Which attempt it was.
    pub attempt: u32,
    /// The attempt's nonce.
    pub nonce: String,
    /// The fault.
    pub fault: Fault,
}

/// What a listing shows of a rollout's attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptCounts {
    /// Attempts that ended in a fault.
    pub faults: u32,
    /// Whether a finished trajectory waits for grading.
    pub ungraded: bool,
    /// The number for the next attempt.
    pub next: u32,
}

impl AttemptCounts {
    fn of<'a>(objects: impl Iterator<Item = &'a AttemptObject>) -> Self {
        let mut counts = Self { faults: 0, ungraded: false, next: 1 };
        for object in objects {
            counts.next = counts.next.max(object.attempt + 1);
            match object.kind {
                AttemptKind::Fault => counts.faults += 1,
                AttemptKind::Ungraded => counts.ungraded = true,
            }
        }
        counts
    }
}

impl Ledger {
    /// What exists of a rollout besides a result; reads the bodies of its faults.
    pub async fn attempts(&self, shard: &ShardId, rollout: &RolloutId) -> Result<Attempts, LedgerError> {
        let objects = self.attempt_objects(&self.layout.attempts(shard, rollout)?).await?;
        let AttemptCounts { ungraded, next, .. } = AttemptCounts::of(objects.iter());
        let mut faults = Vec::new();
        for object in objects.iter().filter(|object| object.kind == AttemptKind::Fault) {
            let record = self.fault_record(object).await?;
            if let Outcome::Faulted(fault) = record.outcome {
                faults.push(FaultSeen { attempt: record.attempt, nonce: record.nonce, fault });
            }
        }
        Ok(Attempts { faults, ungraded, next })
    }

    /// The rollouts of which attempts are kept: one listing, no body is read. Those with a result are in it too.
    pub async fn all_attempts(&self) -> Result<BTreeMap<RolloutId, AttemptCounts>, LedgerError> {
        let objects = self.attempt_objects(&self.layout.folder("attempts/")).await?;
        let rollouts = objects.chunk_by(|a, b| a.rollout == b.rollout);
        Ok(rollouts.map(|same| (same[0].rollout.clone(), AttemptCounts::of(same.iter()))).collect())
    }

    /// The same for the rollouts of one shard.
    pub async fn attempts_in(
        &self,
        shard: &ShardId,
    ) -> Result<BTreeMap<RolloutId, AttemptCounts>, LedgerError> {
        let objects = self.attempt_objects(&self.layout.folder(&format!("attempts/{shard}/"))).await?;
        let rollouts = objects.chunk_by(|a, b| a.rollout == b.rollout);
        Ok(rollouts.map(|same| (same[0].rollout.clone(), AttemptCounts::of(same.iter()))).collect())
    }

    /// Stores a finished trajectory with its patch. Durable when it returns; storing it again changes nothing.
    pub async fn save_ungraded<T: Serialize + Sync>(
        &self,
        shard: &ShardId,
        rollout: &RolloutId,
        attempt: u32,
        nonce: &str,
        trajectory: &T,
    ) -> Result<(), LedgerError> {
        let path = self.layout.attempt(shard, rollout, attempt, nonce, AttemptKind::Ungraded)?;
        let body = codec::pack(&StoredTrajectory { schema_version: SCHEMA_VERSION, trajectory });
        // The name holds the nonce, so a conflict can only be an earlier try of this very write.
        self.create(&path, body).await?;
        Ok(())
    }

    /// Reads the trajectory that waits for grading, that of the newest attempt if there are several.
    pub async fn load_ungraded<T: DeserializeOwned>(
        &self,
        shard: &ShardId,
        rollout: &RolloutId,
    ) -> Result<Option<Ungraded<T>>, LedgerError> {
        let objects = self.attempt_objects(&self.layout.attempts(shard, rollout)?).await?;
        let newest = objects.into_iter().rfind(|object| object.kind == AttemptKind::Ungraded);
        let Some(AttemptObject { attempt, nonce, path, .. }) = newest else { return Ok(None) };
        // It may be cleared away meanwhile, once the rollout has its result.
        let Some(bytes) = self.read(&path).await? else { return Ok(None) };
        let (stored, _) = codec::unpack::<StoredTrajectory<T>>(path.as_str(), &bytes)?;
        Ok(Some(Ungraded { attempt, nonce, body: stored.trajectory }))
    }

    /// Stores the record of an attempt that ended in a fault, and what its grading run printed if it got that far.
    /// [`LedgerError::NotFaulted`] for a graded one.
    pub async fn save_fault(
        &self,
        record: &RolloutRecord,
        grader_log: Option<&[u8]>,
    ) -> Result<(), LedgerError> {
        if matches!(record.outcome, Outcome::Graded(_)) {
            return Err(LedgerError::NotFaulted(record.rollout_id.clone()));
        }
        let RolloutRecord { shard_id, rollout_id, attempt, nonce, .. } = record;
        let path = self.layout.attempt(shard_id, rollout_id, *attempt, nonce, AttemptKind::Fault)?;
        let stored = self.with_log(record, &path, grader_log).await?;
        self.create(&path, stored.bytes).await?;
        Ok(())
    }

    /// The objects below `folder`, in the order of shard, rollout and attempt.
    pub(crate) async fn attempt_objects(&self, folder: &str) -> Result<Vec<AttemptObject>, LedgerError> {
        let listed = self.store.list(folder, None).await?;
        Ok(listed.iter().filter_map(|object| self.layout.parse_attempt(&object.path)).collect())
    }

    pub(crate) async fn fault_record(&self, object: &AttemptObject) -> Result<RolloutRecord, LedgerError> {
        let bytes = self.store.get(&object.path).await?.bytes;
        Ok(codec::unpack(object.path.as_str(), &bytes)?.0)
    }
}

/// A grader's log as it is kept: of a very long one head and tail, with a line between them that says how much is left
/// out. What was capped once stays as it is.
pub fn capped_log(log: &[u8]) -> Cow<'_, [u8]> {
    capped(log, LOG_END_BYTES)
}

fn capped(log: &[u8], end: usize) -> Cow<'_, [u8]> {
    let Some(left_out) = log.len().checked_sub(2 * end).filter(|left_out| *left_out > 0) else {
        return log.into();
    };
    let notice = format!("\n[about {left_out} bytes left out]\n");
    // The notice takes the place of log, so that the whole is not above the limit itself.
    let tail = log.len() - end.saturating_sub(notice.len());
    [&log[..end], notice.as_bytes(), &log[tail..]].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_logs_keep_both_ends() {
        assert_eq!(&*capped(b"abcdef", 3), b"abcdef");
        let long: Vec<u8> = (b'a'..=b'z').cycle().take(200).collect();
        let kept = capped(&long, 50).into_owned();
        let expected = [&long[..50], b"\n[about 100 bytes left out]\n", &long[long.len() - 22..]].concat();
        assert_eq!((&kept, kept.len()), (&expected, 100));
        assert_eq!(*capped(&kept, 50), kept);
    }
}
