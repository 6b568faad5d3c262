//! The log: numbered entries, created once each, that say which files are part of the run.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use thresher_core::RolloutId;

use crate::codec;
use crate::layout::Layout;
use crate::log_state::LogState;
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
    #[serde(flatten)]
    pub(crate) change: Change,
}

/// What an entry changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) added: Vec<Pack>,
    /// Names of packs that are no longer part of the run.
    pub(crate) removed: Vec<String>,
    /// Packs that are not part of the run and never will be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) condemned: Option<Condemned>,
    /// Set by the entry that seals the run, and repeated by those that leave its rows as they are. Any other entry
    /// opens it again.
    pub(crate) seal: Option<Seal>,
}

/// Files that belong together: the rows of the same rollouts in all tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pack {
    pub(crate) name: String,
    pub(crate) kind: PackKind,
    pub(crate) files: Vec<ManifestFile>,
    /// How many rollouts it covers.
    #[serde(default)]
    pub(crate) rollouts: u64,
    pub(crate) solved: u64,
    /// Size of its records before they were encoded, in bytes; 0 in entries of format 1.
    #[serde(default)]
    pub(crate) raw_bytes: u64,
    #[serde(with = "joined")]
    pub(crate) covered: Vec<RolloutId>,
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

/// Packs whose files are to be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Condemned {
    pub(crate) packs: Vec<String>,
    /// The time, by the clock of whoever condemned them.
    pub(crate) at_unix_s: i64,
}

/// What an attempt to append did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Append {
    /// The entry is in the log, and the state is the one after it.
    Appended,
    /// Another writer's entry has the number; the state is the one at the end of the log.
    Lost,
}

impl Ledger {
    /// Reads the whole log.
    pub(crate) async fn log_state(&self) -> Result<LogState, LedgerError> {
        let mut state = LogState::default();
        self.read_on(&mut state).await?;
        Ok(state)
    }

    /// Reads the entries after `state` (protocol: L1). If there are none, that costs one request.
    pub(crate) async fn read_on(&self, state: &mut LogState) -> Result<(), LedgerError> {
        self.read_until(state, u64::MAX, |_, _| {}).await
    }

    /// The same, up to entry `last`. `seen` hears of each entry before it changes the state, but of none that a
    /// checkpoint holds: those are used only if the state is empty.
    pub(crate) async fn read_until(
        &self,
        state: &mut LogState,
        last: u64,
        mut seen: impl FnMut(&LogState, &LogEntry) + Send,
    ) -> Result<(), LedgerError> {
        while state.position < last {
            let Some(next) = self.log_entry(state.position + 1).await? else { return Ok(()) };
            if state.position == 0 && self.load_checkpoint(state, last).await? {
                continue;
            }
            seen(state, &next);
            self.apply(state, &next)?;
            if state.position == last {
                return Ok(());
            }
            for entry in self.listed_entries(state.position, last).await? {
                seen(state, &entry);
                self.apply(state, &entry)?;
            }
        }
        Ok(())
    }

    /// The entries after `position` up to `last` that a listing shows.
    async fn listed_entries(&self, position: u64, last: u64) -> Result<Vec<LogEntry>, LedgerError> {
        let known = self.layout.log(position)?;
        let listed = self.store.list(&self.layout.folder("log/"), Some(known.as_str())).await?;
        let numbers = listed.iter().filter_map(|object| Layout::number(&object.path));
        let new: Vec<u64> = numbers.filter(|number| (position + 1..=last).contains(number)).collect();
        let entries = stream::iter(new).map(|number| async move {
            let path = self.layout.log(number)?;
            self.log_entry(number).await?.ok_or_else(|| codec::damaged(path.as_str(), "it was deleted"))
        });
        entries.buffered(READS).try_collect().await
    }

    /// Reads an entry that may not be there.
    async fn log_entry(&self, number: u64) -> Result<Option<LogEntry>, LedgerError> {
        let path = self.layout.log(number)?;
        let Some(bytes) = self.read(&path).await? else { return Ok(None) };
        let entry: LogEntry = codec::parse(path.as_str(), &bytes)?;
        if entry.number != number {
            return Err(codec::damaged(path.as_str(), "another number"));
        }
        Ok(Some(entry))
    }

    fn apply(&self, state: &mut LogState, entry: &LogEntry) -> Result<(), LedgerError> {
        if entry.number != state.position + 1 {
            let path = self.layout.log(state.position + 1)?;
            return Err(codec::damaged(path.as_str(), "the log has a gap here"));
        }
        let path = self.layout.log(entry.number)?;
        state.apply(entry).map_err(|reason| codec::damaged(path.as_str(), reason))
    }

    /// Appends to the log that `state` is the end of, unless it has another end by now (protocol: L2).
    /// [`LedgerError::Damaged`], and nothing is written, for a change that no state allows.
    pub(crate) async fn append(&self, state: &mut LogState, change: Change) -> Result<Append, LedgerError> {
        let entry = LogEntry { number: state.position + 1, nonce: self.ids.fresh(), change };
        let path = self.layout.log(entry.number)?;
        state.check(&entry).map_err(|reason| codec::damaged(path.as_str(), reason))?;
        if !self.create(&path, codec::plain(&entry)).await? {
            let found = self.log_entry(entry.number).await?;
            let found = found.ok_or_else(|| codec::damaged(path.as_str(), "it was there and is gone"))?;
            if found.nonce != entry.nonce {
                self.apply(state, &found)?;
                self.read_on(state).await?;
                return Ok(Append::Lost);
            }
        }
        self.apply(state, &entry)?;
        self.checkpoint_if_due(state).await;
        Ok(Append::Appended)
    }
}

/// Ids as one text with spaces between them: a list of thousands would be most of an entry. Format 1 has lists.
mod joined {
    use serde::{Deserialize, Deserializer, Serializer};
    use thresher_core::RolloutId;

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Ids {
        Joined(String),
        List(Vec<RolloutId>),
    }

    pub(super) fn serialize<S: Serializer>(ids: &[RolloutId], to: S) -> Result<S::Ok, S::Error> {
        let ids: Vec<&str> = ids.iter().map(RolloutId::as_str).collect();
        to.serialize_str(&ids.join(" "))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<RolloutId>, D::Error> {
        Ok(match Ids::deserialize(from)? {
            Ids::Joined(ids) => ids.split_ascii_whitespace().map(RolloutId::new).collect(),
            Ids::List(ids) => ids,
        })
    }
}
