//! The run's set of files after an entry of the log, and what an entry may do to it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};
use thresher_core::RolloutId;

use crate::log::{Change, Condemned, LogEntry, Pack, PackKind, Seal};

/// The run's set of files after an entry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct LogState {
    /// Number of the newest entry, 0 before the first.
    pub(crate) position: u64,
    /// The packs that are part of the run, by name.
    packs: BTreeMap<String, LivePack>,
    /// Whether the run is sealed, and how.
    pub(crate) seal: Option<Seal>,
    /// The newest entry that sealed the run or changed the files of a sealed one, whether or not the run was opened since;
    /// 0 if none did.
    #[serde(default)]
    pub(crate) sealed_at: u64,
    /// Packs that were part of the run and are no more.
    retired: BTreeSet<String>,
    /// Packs that never can be part of the run, with the time at which they were condemned, in Unix seconds.
    pub(crate) condemned: BTreeMap<String, i64>,
    /// Rollouts whose results are in a pack.
    #[serde(skip)]
    pub(crate) covered: HashSet<RolloutId>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct LivePack {
    /// The entry that added it.
    since: u64,
    pack: Pack,
}

impl LogState {
    /// The packs that are part of the run.
    pub(crate) fn packs(&self) -> impl Iterator<Item = &Pack> {
        self.packs.values().map(|live| &live.pack)
    }

    /// Packs of `kind`.
    pub(crate) fn of_kind(&self, kind: PackKind) -> impl Iterator<Item = &Pack> {
        self.packs().filter(move |pack| pack.kind == kind)
    }

    /// The packs of results that entries after `position` added.
    pub(crate) fn results_since(&self, position: u64) -> impl Iterator<Item = &Pack> {
        let new = self.packs.values().filter(move |live| live.since > position);
        new.map(|live| &live.pack).filter(|pack| pack.kind == PackKind::Results)
    }

    /// The packs of results in the order in which they were added.
    pub(crate) fn results_by_age(&self) -> Vec<&Pack> {
        let mut live: Vec<&LivePack> = self.packs.values().collect();
        live.sort_by_key(|live| live.since);
        live.into_iter().map(|live| &live.pack).filter(|pack| pack.kind == PackKind::Results).collect()
    }

    /// Names of the packs of fault rows: whatever adds rows removes them.
    pub(crate) fn fault_packs(&self) -> Vec<String> {
        self.of_kind(PackKind::Faults).map(|pack| pack.name.clone()).collect()
    }

    /// Whether a pack is part of the run.
    pub(crate) fn is_live(&self, pack: &str) -> bool {
        self.packs.contains_key(pack)
    }

    /// Whether a pack is part of the run or was.
    pub(crate) fn was_live(&self, pack: &str) -> bool {
        self.is_live(pack) || self.retired.contains(pack)
    }

    /// Brings back what is not stored of a state.
    pub(crate) fn restored(mut self) -> Self {
        self.covered = self.of_kind(PackKind::Results).flat_map(|pack| &pack.covered).cloned().collect();
        self
    }

    /// Applies the next entry; an error, and no change, for one that no writer of this protocol makes.
    pub(crate) fn apply(&mut self, entry: &LogEntry) -> Result<(), String> {
        self.check(entry)?;
        let Change { added, removed, condemned, seal } = &entry.change;
        for name in removed {
            self.packs.remove(name);
            self.retired.insert(name.clone());
        }
        for pack in added {
            if pack.kind == PackKind::Results {
                self.covered.extend(pack.covered.iter().cloned());
            }
            self.packs.insert(pack.name.clone(), LivePack { since: entry.number, pack: pack.clone() });
        }
        if let Some(Condemned { packs, at_unix_s }) = condemned {
            self.condemned.extend(packs.iter().map(|pack| (pack.clone(), *at_unix_s)));
        }
        let rows_change = !added.is_empty() || !removed.is_empty();
        if seal.is_some() && (rows_change || *seal != self.seal) {
            self.sealed_at = entry.number;
        }
        self.position = entry.number;
        self.seal.clone_from(seal);
        Ok(())
    }

    /// What is wrong with an entry, if anything: it must remove what is there, add what is new and not condemned, and
    /// cover each rollout once and for good.
    pub(crate) fn check(&self, entry: &LogEntry) -> Result<(), String> {
        let Change { added, removed, condemned, .. } = &entry.change;
        if let Some(gone) = removed.iter().find(|name| !self.is_live(name)) {
            return Err(format!("it removes pack {gone}, which is not part of the run"));
        }
        if let Some(pack) = added.iter().find(|pack| self.condemned.contains_key(&pack.name)) {
            return Err(format!("it adds pack {}, which is condemned", pack.name));
        }
        if let Some(pack) = added.iter().find(|pack| self.was_live(&pack.name)) {
            return Err(format!("it adds pack {} again", pack.name));
        }
        let condemned = condemned.iter().flat_map(|condemned| &condemned.packs);
        if let Some(live) = condemned.into_iter().find(|name| self.is_live(name) && !removed.contains(name)) {
            return Err(format!("it condemns pack {live}, which is part of the run"));
        }
        self.check_cover(added, removed)
    }

    fn check_cover(&self, added: &[Pack], removed: &[String]) -> Result<(), String> {
        let removed = removed.iter().filter_map(|name| self.packs.get(name)).map(|live| &live.pack);
        let results = |pack: &&Pack| pack.kind == PackKind::Results;
        let mut dropped: HashSet<&RolloutId> =
            removed.filter(results).flat_map(|pack| &pack.covered).collect();
        let mut fresh = HashSet::new();
        for rollout in added.iter().filter(results).flat_map(|pack| &pack.covered) {
            let first = dropped.remove(rollout) || !self.covered.contains(rollout);
            if !first || !fresh.insert(rollout) {
                return Err(format!("it covers rollout {rollout} a second time"));
            }
        }
        match dropped.iter().min() {
            Some(rollout) => Err(format!("it covers rollout {rollout} no more")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(name: &str, rollouts: &[&str]) -> Pack {
        Pack {
            name: name.into(),
            kind: PackKind::Results,
            files: Vec::new(),
            rollouts: rollouts.len() as u64,
            solved: 0,
            raw_bytes: 1,
            covered: rollouts.iter().map(|rollout| RolloutId::new(*rollout)).collect(),
        }
    }

    fn entry(number: u64, added: Vec<Pack>, removed: &[&str], condemned: &[&str]) -> LogEntry {
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let condemned = Condemned { packs: texts(condemned), at_unix_s: 7 };
        let condemned = (!condemned.packs.is_empty()).then_some(condemned);
        let change = Change { added, removed: texts(removed), condemned, seal: None };
        LogEntry { number, nonce: "n".into(), change }
    }

    #[test]
    fn entries_that_no_writer_makes_are_refused_and_change_nothing() {
        let mut state = LogState::default();
        state.apply(&entry(1, vec![pack("a", &["1", "2"]), pack("b", &["3"])], &[], &[])).unwrap();
        state.apply(&entry(2, Vec::new(), &[], &["dead"])).unwrap();
        state.apply(&entry(3, vec![pack("c", &["3"])], &["b"], &[])).unwrap();
        let before = state.clone();
        for (added, removed, condemned, expected) in [
            (vec![pack("d", &["3"])], vec![], vec![], "covers rollout 3 a second time"),
            (vec![pack("d", &["4", "4"])], vec![], vec![], "covers rollout 4 a second time"),
            (vec![pack("d", &["1"])], vec!["a"], vec![], "covers rollout 2 no more"),
            (vec![pack("dead", &["4"])], vec![], vec![], "adds pack dead, which is condemned"),
            (vec![pack("b", &["4"])], vec![], vec![], "adds pack b again"),
            (vec![pack("a", &["4"])], vec![], vec![], "adds pack a again"),
            (vec![], vec!["b"], vec![], "removes pack b, which is not part of the run"),
            (vec![], vec![], vec!["a"], "condemns pack a, which is part of the run"),
        ] {
            let error = state.apply(&entry(4, added, &removed, &condemned)).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert_eq!(state, before);
        }
        let merged = entry(4, vec![pack("d", &["1", "2", "3", "4"])], &["a", "c"], &["b"]);
        state.apply(&merged).unwrap();
        assert_eq!((state.packs().count(), state.covered.len()), (1, 4));
        assert_eq!(state.results_since(3).count(), 1);
        assert_eq!(state.results_since(4).count(), 0);
    }
}
