//! A worker's packing of what it committed itself: it knows what there is, and lists nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thresher_core::{InstanceId, RolloutId, RolloutRecord, ShardId};
use tokio::time::Instant;

use crate::log_state::LogState;
use crate::pack::{RowOrder, Source, sort};
use crate::{Ledger, LedgerError, PackOptions, PackWhen, Packed, Stored, UnpackedCounts};

/// When a worker packs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackerOptions {
    /// Raw bytes after which a pack is closed and the next one begun.
    pub raw_bytes: u64,
    /// How long a result waits for others to be packed with.
    pub every: Duration,
}

impl Default for PackerOptions {
    fn default() -> Self {
        Self { raw_bytes: 128 << 20, every: Duration::from_secs(600) }
    }
}

/// The results of one worker that no pack covers, as far as it knows. It holds ids and sizes, no bodies.
///
/// Every method takes `&self`, so that results can be added while [`Self::pack`] is at work.
#[derive(Debug)]
pub struct Packer {
    ledger: Ledger,
    options: PackerOptions,
    held: Mutex<BTreeMap<RolloutId, Held>>,
    /// The log as far as it was read.
    state: tokio::sync::Mutex<LogState>,
}

#[derive(Clone, Debug)]
struct Held {
    shard: ShardId,
    instance: InstanceId,
    attempt: u32,
    solved: bool,
    stored: Stored,
    since: Instant,
}

impl Ledger {
    /// A packer that holds nothing yet.
    pub fn packer(&self, options: PackerOptions) -> Packer {
        let (held, state) = (Mutex::default(), tokio::sync::Mutex::default());
        Packer { ledger: self.clone(), options, held, state }
    }
}

impl Packer {
    /// Takes up a result that was committed by this worker; `stored` is what [`Ledger::commit`] said.
    pub fn add(&self, record: &RolloutRecord, stored: Stored) {
        let held = Held {
            shard: record.shard_id.clone(),
            instance: record.task.instance_id.clone(),
            attempt: record.attempt,
            solved: record.outcome.is_solved(),
            stored,
            since: Instant::now(),
        };
        self.held().insert(record.rollout_id.clone(), held);
    }

    /// Whether it is time to pack: about a full pack has come together, or a result has waited long enough.
    pub fn due(&self, now: Instant) -> bool {
        self.due_at().is_some_and(|at| at <= now)
    }

    /// When it is time to pack if nothing is added until then; `None` if nothing is held.
    pub fn due_at(&self) -> Option<Instant> {
        let held = self.held();
        let oldest = held.values().map(|held| held.since).min()?;
        let raw_bytes: u64 = held.values().map(|held| held.stored.raw_bytes).sum();
        Some(if raw_bytes >= self.options.raw_bytes { oldest } else { oldest + self.options.every })
    }

    /// The results that are held, and whether they are solved.
    pub fn unpacked(&self) -> Vec<(RolloutId, bool)> {
        self.held().iter().map(|(rollout, held)| (rollout.clone(), held.solved)).collect()
    }

    /// How many they are.
    pub fn unpacked_counts(&self) -> UnpackedCounts {
        let held = self.held();
        let solved = held.values().filter(|held| held.solved).count();
        UnpackedCounts { graded: held.len() as u64, solved: solved as u64 }
    }

    /// Packs all that is held when it begins (protocol: K1 to K4). What others have packed is dropped, and what could not be
    /// packed is held on to.
    pub async fn pack(&self) -> Result<Packed, LedgerError> {
        let mut state = self.state.lock().await;
        self.ledger.read_on(&mut state).await?;
        self.drop_covered(&state);
        let sources = self.sources()?;
        let options = PackOptions { raw_bytes: self.options.raw_bytes, when: PackWhen::Always };
        let packed = self.ledger.pack_sources(&mut state, sources, &options).await;
        self.drop_covered(&state);
        packed
    }

    fn sources(&self) -> Result<Vec<Source>, LedgerError> {
        let held = self.held();
        let source = |(rollout, held): (&RolloutId, &Held)| {
            Ok(Source {
                rollout: rollout.clone(),
                instance: Some(held.instance.clone()),
                attempt: held.attempt,
                path: self.ledger.layout.result(&held.shard, rollout)?,
                stored_bytes: held.stored.stored_bytes,
                record_bytes: Some(held.stored.record_bytes),
            })
        };
        let mut sources = held.iter().map(source).collect::<Result<Vec<_>, LedgerError>>()?;
        sort(&mut sources, RowOrder::Task);
        Ok(sources)
    }

    fn drop_covered(&self, state: &LogState) {
        self.held().retain(|rollout, _| !state.covered.contains(rollout));
    }

    /// No holder leaves the map half-changed, so poison means nothing here.
    fn held(&self) -> MutexGuard<'_, BTreeMap<RolloutId, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
