//! Compaction: many small packs become one, by a single entry that removes them and adds it.

use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, RecordBatch};
use serde::Serialize;
use thresher_core::{InstanceId, RolloutId, ShardId};
use tracing::info;

use crate::log::{Append, Change, Pack, PackKind};
use crate::log_state::LogState;
use crate::pack::{RowOrder, Source, USUAL_COMPRESSION, sort};
use crate::schema::Table;
use crate::table_file::Part;
use crate::{Ledger, LedgerError, codec};

/// A pack is small if it is below this part of the size that is aimed at.
const SMALL: u64 = 4;

/// What is compacted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactOptions {
    /// Raw bytes that a pack is to have. Those below a quarter of it are small.
    pub raw_bytes: u64,
    /// How many small packs make it worth the while, at least 2.
    pub at_least: usize,
}

impl Default for CompactOptions {
    fn default() -> Self {
        Self { raw_bytes: 128 << 20, at_least: 2 }
    }
}

/// What compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// Packs that are no longer part of the run; their files stay until they are collected.
    pub removed: u64,
    /// Packs that took their place.
    pub added: u64,
    /// Rollouts in them.
    pub rollouts: u64,
}

impl Ledger {
    /// Merges small packs of results (protocol: M1 to M4). The run's rows stay the same, so a sealed run stays sealed, and
    /// its manifest is written anew.
    pub async fn compact(&self, options: &CompactOptions) -> Result<Compacted, LedgerError> {
        let mut state = self.log_state().await?;
        let compacted = self.compact_from(&mut state, options).await?;
        if compacted.added > 0 && state.seal.is_some() {
            self.write_manifest(&state).await?;
        }
        Ok(compacted)
    }

    pub(crate) async fn compact_from(
        &self,
        state: &mut LogState,
        options: &CompactOptions,
    ) -> Result<Compacted, LedgerError> {
        let mut compacted = Compacted::default();
        while let Some(group) = small_packs(state, options) {
            let merged = match self.merge(&group).await {
                Ok(merged) => merged,
                // Another compactor was first, and what it removed is deleted already.
                Err(LedgerError::Outdated { path }) => {
                    self.read_past(state, path).await?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let (removed, rollouts) = (group.len() as u64, merged.rollouts);
            if self.replace(state, &group, merged).await? {
                info!(number = state.position, removed, "small packs are merged");
                compacted.removed += removed;
                compacted.added += 1;
                compacted.rollouts += rollouts;
            }
        }
        Ok(compacted)
    }

    /// Writes the rows of `group` as one pack. They are read from the results, which are where they came from; the
    /// files only tell which those are.
    async fn merge(&self, group: &[Pack]) -> Result<Pack, LedgerError> {
        let mut sources = Vec::new();
        for pack in group {
            for file in pack.files.iter().filter(|file| file.table == Table::Rollouts.name()) {
                let columns = Part::columns(&["shard_id", "rollout_id", "instance_id"]);
                for batch in self.read_table(file, columns).await? {
                    let rows =
                        ids(&batch).ok_or_else(|| codec::damaged(&file.path, "its ids are no text"))?;
                    for (shard, rollout, instance) in rows {
                        sources.push(Source {
                            path: self.layout.result(&shard, &rollout)?,
                            rollout,
                            instance: Some(instance),
                            attempt: 0,
                            stored_bytes: 0,
                            record_bytes: None,
                        });
                    }
                }
            }
        }
        sort(&mut sources, RowOrder::Task);
        Ok(self.write_pack(PackKind::Results, &sources, u64::MAX).await?.0)
    }

    /// Puts `merged` in the place of `group`, behind other writers' entries if need be, unless one of them removed a
    /// pack of the group or condemned the merged one: then its files are deleted. Says whether it is in place.
    async fn replace(&self, state: &mut LogState, group: &[Pack], merged: Pack) -> Result<bool, LedgerError> {
        loop {
            let gone = group.iter().any(|pack| !state.is_live(&pack.name));
            if gone || state.condemned.contains_key(&merged.name) {
                self.discard(&merged).await?;
                return Ok(false);
            }
            let removed = group.iter().map(|pack| pack.name.clone()).collect();
            // The run's rows stay as they are, so it stays sealed if it is.
            let seal = state.seal.clone();
            let change = Change { added: vec![merged.clone()], removed, condemned: None, seal };
            if self.append(state, change).await? == Append::Appended {
                return Ok(true);
            }
        }
    }

    /// Reads on because a file of this state is gone; [`LedgerError::Outdated`] if nothing in the log explains that.
    async fn read_past(&self, state: &mut LogState, path: String) -> Result<(), LedgerError> {
        let known = state.position;
        self.read_on(state).await?;
        if state.position == known { Err(LedgerError::Outdated { path }) } else { Ok(()) }
    }
}

/// The oldest small packs that together make up about one pack, if there are enough of them.
fn small_packs(state: &LogState, options: &CompactOptions) -> Option<Vec<Pack>> {
    let mut small = state.results_by_age();
    small.retain(|pack| raw_bytes(pack) < options.raw_bytes / SMALL);
    if small.len() < options.at_least.max(2) {
        return None;
    }
    let mut sum = 0;
    let group = small.into_iter().take_while(|pack| {
        let room = sum < options.raw_bytes;
        sum += raw_bytes(pack);
        room
    });
    Some(group.cloned().collect())
}

/// Entries of format 1 do not say it.
fn raw_bytes(pack: &Pack) -> u64 {
    let stored: u64 = pack.files.iter().map(|file| file.bytes).sum();
    if pack.raw_bytes > 0 { pack.raw_bytes } else { stored * USUAL_COMPRESSION }
}

fn ids(batch: &RecordBatch) -> Option<Vec<(ShardId, RolloutId, InstanceId)>> {
    let texts = |name| batch.column_by_name(name)?.as_string_opt::<i32>();
    let (shards, rollouts, instances) = (texts("shard_id")?, texts("rollout_id")?, texts("instance_id")?);
    let row = |row| {
        let shard = ShardId::new(shards.value(row));
        (shard, RolloutId::new(rollouts.value(row)), InstanceId::new(instances.value(row)))
    };
    Some((0..shards.len()).map(row).collect())
}
