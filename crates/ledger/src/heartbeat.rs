//! Heartbeats: one object per start of a worker process, which only that process writes.
//!
//! A heartbeat says what its worker has in flight. That it stays unchanged for long, by an observer's own clock, is
//! the only sign that a worker is gone: no two clocks are compared.

use std::fmt;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use thresher_core::{ImageCounts, RolloutId, ShardId};
use thresher_store::{ChangeTag, ObjectPath, PutMode, StoreError};

use crate::layout::Layout;
use crate::log::READS;
use crate::tranche::Amount;
use crate::{Ledger, LedgerError, LostAttempt, codec};

/// The random identity of one start of a worker process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(String);

impl Incarnation {
    /// The identity as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a worker says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Version of the protocol that the worker speaks.
    pub protocol: u32,
    /// Which start of a worker process.
    pub incarnation: Incarnation,
    /// How often it was written: a rewrite is always a change.
    pub sequence: u64,
    /// The round of the run that it works in.
    pub round: u32,
    /// What the worker does.
    pub state: WorkerState,
    /// Name of its host or pod, for people.
    pub host: String,
    /// Rollouts that it runs at a time.
    pub slots: u32,
    /// Shards that it holds.
    pub shards: Vec<ShardId>,
    /// Attempts that it runs.
    pub in_flight: Vec<InFlight>,
    /// Results that it committed and has not packed yet.
    pub unpacked: UnpackedCounts,
    /// What its finished attempts did, since it started.
    pub done: DoneCounts,
    /// What its finished attempts spent, since it started.
    pub spent: Amount,
    /// How it came by its images, since it started. Absent where it has not asked for any yet.
    #[serde(default, skip_serializing_if = "ImageCounts::is_empty")]
    pub images: ImageCounts,
}

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// It takes shards.
    Working,
    /// It waits: the run is paused, or nothing is free.
    Waiting,
    /// It takes nothing new and finishes what it has.
    Draining,
}

/// An attempt in flight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// Its shard.
    pub shard: ShardId,
    /// Its rollout.
    pub rollout: RolloutId,
    /// Which attempt.
    pub attempt: u32,
    /// The attempt's nonce.
    pub nonce: String,
}

/// How finished attempts ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoneCounts {
    /// With a verdict.
    pub graded: u64,
    /// Of those, solved.
    pub solved: u64,
    /// With a fault, and not tried again by this worker.
    pub faulted: u64,
}

/// Results that are in no pack yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnpackedCounts {
    /// All of them.
    pub graded: u64,
    /// Of those, solved.
    pub solved: u64,
}

impl Heartbeat {
    /// Attempts of `shard` that end with this worker, should it be gone.
    pub fn lost_in(&self, shard: &ShardId) -> Vec<LostAttempt> {
        let of_shard = self.in_flight.iter().filter(|attempt| attempt.shard == *shard);
        let lost = of_shard.map(|attempt| LostAttempt {
            rollout: attempt.rollout.clone(),
            attempt: attempt.attempt,
            nonce: attempt.nonce.clone(),
            worker: self.incarnation.clone(),
            round: self.round,
        });
        lost.collect()
    }
}

impl Ledger {
    /// A new identity for a start of a worker process.
    pub fn incarnation(&self) -> Incarnation {
        Incarnation(self.ids.fresh())
    }

    /// Writes a worker's own heartbeat (protocol: H1).
    pub async fn beat(&self, heartbeat: &Heartbeat) -> Result<(), LedgerError> {
        let path = self.layout.worker(&heartbeat.incarnation)?;
        // Nobody else writes this object, so there is nothing to compare with.
        self.store.put(&path, codec::plain(heartbeat), PutMode::Overwrite).await?;
        Ok(())
    }

    /// Reads a worker's heartbeat; `None` if it has ended, or was cleared away.
    pub async fn heartbeat(&self, of: &Incarnation) -> Result<Option<Heartbeat>, LedgerError> {
        let path = self.layout.worker(of)?;
        let Some(bytes) = self.read(&path).await? else { return Ok(None) };
        Ok(Some(codec::parse(path.as_str(), &bytes)?))
    }

    /// The workers that have a heartbeat, with a tag that changes with each beat: one listing, no body is read.
    pub async fn workers(&self) -> Result<Vec<(Incarnation, ChangeTag)>, LedgerError> {
        let listed = self.store.list(&self.layout.folder("workers/"), None).await?;
        let workers = listed
            .into_iter()
            .filter_map(|object| Some((self.layout.parse_worker(&object.path)?, object.tag)));
        Ok(workers.collect())
    }

    /// Every heartbeat there is.
    pub async fn heartbeats(&self) -> Result<Vec<Heartbeat>, LedgerError> {
        let workers: Vec<Incarnation> = self.workers().await?.into_iter().map(|(worker, _)| worker).collect();
        let reads = stream::iter(workers).map(|worker| async move { self.heartbeat(&worker).await });
        let found: Vec<Option<Heartbeat>> = reads.buffered(READS).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Removes the heartbeats of a run that is over: of workers that were lost when nobody was left to wait for them. One
    /// that still leaves takes its own away itself. Returns how many there were; none while the run goes on.
    pub async fn clear_heartbeats(&self) -> Result<u64, LedgerError> {
        let Some(outline) = self.plan_outline().await? else { return Ok(0) };
        if !self.is_over(outline.segment, self.control().await?.round).await? {
            return Ok(0);
        }
        let workers = self.workers().await?;
        for (worker, _) in &workers {
            self.clear_heartbeat(worker).await?;
        }
        Ok(workers.len() as u64)
    }

    /// Removes a heartbeat: a worker's own at its end (H5), or that of a lost worker which holds nothing any more (T5).
    pub async fn clear_heartbeat(&self, of: &Incarnation) -> Result<(), LedgerError> {
        match self.store.delete(&self.layout.worker(of)?).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Layout {
    fn worker(&self, of: &Incarnation) -> Result<ObjectPath, LedgerError> {
        self.named("workers", of.as_str())
    }

    fn parse_worker(&self, path: &ObjectPath) -> Option<Incarnation> {
        self.parse_named("workers", path).map(|name| Incarnation(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_without_counts_of_images_are_read() {
        let old = serde_json::json!({
            "protocol": 1, "incarnation": "a", "sequence": 1, "round": 1, "state": "working", "host": "h",
            "slots": 1, "shards": [], "in_flight": [], "unpacked": { "graded": 0, "solved": 0 },
            "done": { "graded": 0, "solved": 0, "faulted": 0 },
            "spent": { "micro_usd": 0, "tokens": 0, "rollouts": 0 },
        });
        let mut beat: Heartbeat = serde_json::from_value(old.clone()).unwrap();
        assert!(beat.images.is_empty());
        assert_eq!(serde_json::to_value(&beat).unwrap(), old, "what is not said is not written");
        beat.images = ImageCounts { hits: 3, pulls: 2, pulled_bytes: 1, evictions: 0, freed_bytes: 0 };
        let again: Heartbeat = serde_json::from_value(serde_json::to_value(&beat).unwrap()).unwrap();
        assert_eq!(again, beat);
    }
}
