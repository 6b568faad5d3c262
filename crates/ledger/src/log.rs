//! The log: numbered entries, created once each, that say which files are part of the run.

use std::collections::{BTreeMap, HashSet};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use thresher_core::RolloutId;

use crate::codec;
use crate::layout::Layout;
use crate::manifest::{ManifestFile, OutcomeCounts};
use crate::{Ledger, LedgerError};

/// Objects that are read at a time.
pub(crate) const READS: usize = 16;

/// One change of the run's set of files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LogEntry {
    pub(crate) number: u64,
    /// Random, so that a writer whose acknowledgement was lost recognizes its entry.
    pub(crate) nonce: String,
    pub(crate) added: Vec<Pack>,
    /// Names of packs that are no longer part of the run.
    pub(crate) removed: Vec<String>,
    /// Set by the entry that seals the run. Any later entry opens it again.
    pub(crate) seal: Option<Seal>,
}

/// Files that belong together: the rows of the same rollouts in all tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pack {
    pub(crate) name: String,
    pub(crate) kind: PackKind,
    pub(crate) files: Vec<ManifestFile>,
    pub(crate) covered: Vec<RolloutId>,
    pub(crate) solved: u64,
}

/// What a pack's rows come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PackKind {
    /// Results: they stay for good.
    Results,
    /// Faults, as they were at a sealing: the next entry removes them.
    Faults,
}

/// What a sealing entry saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seal {
    pub(crate) counts: OutcomeCounts,
    /// The fault records that its fault pack holds, by path below the run's prefix.
    pub(crate) faults: Vec<String>,
}

/// The run's set of files after an entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogState {
    /// Number of the newest entry, 0 before the first.
    pub(crate) position: u64,
    pub(crate) packs: BTreeMap<String, Pack>,
    /// The newest entry's seal.
    pub(crate) seal: Option<Seal>,
    /// Rollouts whose results are in a pack.
    pub(crate) covered: HashSet<RolloutId>,
    /// Every pack that any entry has added, also those removed since.
    pub(crate) named: HashSet<String>,
}

/// What an attempt to append did.
#[derive(Debug)]
pub(crate) enum Append {
    /// The entry is in the log; the state after it.
    Appended(LogState),
    /// Another writer's entry has the number; the state at the end of the log.
    Lost(LogState),
}

impl LogState {
    fn apply(&mut self, entry: &LogEntry) {
        for name in &entry.removed {
            self.packs.remove(name);
        }
        for pack in &entry.added {
            self.named.insert(pack.name.clone());
            self.packs.insert(pack.name.clone(), pack.clone());
            if pack.kind == PackKind::Results {
                // A pack that replaces others covers what they did, so this set only grows.
                self.covered.extend(pack.covered.iter().cloned());
            }
        }
        self.position = entry.number;
        self.seal.clone_from(&entry.seal);
    }

    /// Packs of `kind`.
    pub(crate) fn of_kind(&self, kind: PackKind) -> impl Iterator<Item = &Pack> {
        self.packs.values().filter(move |pack| pack.kind == kind)
    }
}

impl Ledger {
    /// Reads the whole log.
    pub(crate) async fn log_state(&self) -> Result<LogState, LedgerError> {
        self.log_since(LogState::default()).await
    }

    /// Reads the entries after `state`.
    async fn log_since(&self, mut state: LogState) -> Result<LogState, LedgerError> {
        let listed = self.store.list(&self.layout.folder("log/"), None).await?;
        let numbers = listed.iter().filter_map(|object| Layout::number(&object.path));
        let new: Vec<u64> = numbers.filter(|number| *number > state.position).collect();
        let entries = stream::iter(new).map(|number| self.log_entry(number)).buffered(READS);
        for entry in entries.try_collect::<Vec<LogEntry>>().await? {
            if entry.number != state.position + 1 {
                let path = self.layout.log(state.position + 1)?;
                return Err(codec::damaged(path.as_str(), "the log has a gap here"));
            }
            state.apply(&entry);
        }
        Ok(state)
    }

    async fn log_entry(&self, number: u64) -> Result<LogEntry, LedgerError> {
        let path = self.layout.log(number)?;
        let bytes = self.store.get(&path).await?.bytes;
        let entry: LogEntry = codec::parse(path.as_str(), &bytes)?;
        if entry.number == number { Ok(entry) } else { Err(codec::damaged(path.as_str(), "another number")) }
    }

    /// Appends to the log that `state` is the end of, unless it has another end by now.
    pub(crate) async fn append(
        &self,
        mut state: LogState,
        added: Vec<Pack>,
        removed: Vec<String>,
        seal: Option<Seal>,
    ) -> Result<Append, LedgerError> {
        let entry = LogEntry { number: state.position + 1, nonce: self.ids.fresh(), added, removed, seal };
        let created = self.create(&self.layout.log(entry.number)?, codec::plain(&entry)).await?;
        if !created && self.log_entry(entry.number).await?.nonce != entry.nonce {
            return Ok(Append::Lost(self.log_since(state).await?));
        }
        state.apply(&entry);
        Ok(Append::Appended(state))
    }
}
