//! The manifest: the plain list of a sealed run's files, for readers without this code.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use thresher_core::record::SCHEMA_VERSION;
use thresher_core::{RolloutId, RunId, Sha256Hex};
use thresher_store::{Object, PutMode, PutOutcome, StoreError};
use tracing::info;

use crate::compact::CompactOptions;
use crate::layout::{AttemptKind, AttemptObject};
use crate::log::{Append, Change, Pack, PackKind, Seal};
use crate::log_state::LogState;
use crate::pack::{Instances, Source, sort_by_task};
use crate::schema::Table;
use crate::{Ledger, LedgerError, PackOptions, PackWhen, codec};

/// Small packs that a sealed run may have. Each worker of a fleet leaves one at its end; more than a few are not worth
/// every later reader's time.
const MANY_SMALL_PACKS: usize = 8;

/// What a run produced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Schema version of the tables.
    pub schema_version: i32,
    /// The run.
    pub run_id: RunId,
    /// Position of the log that it describes: a later one replaces it.
    pub log_position: u64,
    /// How many rollouts ended how.
    pub counts: OutcomeCounts,
    /// The Parquet files, sorted by path.
    pub files: Vec<ManifestFile>,
}

/// How many rollouts of a run ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeCounts {
    /// Rollouts of the plan.
    pub planned: u64,
    /// Rollouts with a verdict.
    pub graded: u64,
    /// Of those, the solved ones.
    pub solved: u64,
    /// Rollouts without a verdict whose last attempt ended in a fault.
    pub faulted: u64,
    /// Attempts that ended in a fault, whatever became of their rollouts.
    pub fault_attempts: u64,
    /// Rollouts of the plan that have neither.
    pub missing: u64,
}

/// One Parquet file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// The table that it belongs to.
    pub table: String,
    /// Path relative to the run's prefix.
    pub path: String,
    /// Rows.
    pub rows: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// Hash of its content.
    pub sha256: Sha256Hex,
}

impl Ledger {
    /// Packs what is left, adds the rows of rollouts that have only faults, and writes the manifest. Calling it
    /// again is harmless; a run that goes on afterwards is simply sealed again.
    pub async fn seal(&self, options: &PackOptions) -> Result<Manifest, LedgerError> {
        let options = PackOptions { when: PackWhen::Always, ..options.clone() };
        let compact = CompactOptions { raw_bytes: options.raw_bytes, at_least: MANY_SMALL_PACKS };
        let mut state = self.log_state().await?;
        loop {
            let instances = self.instances().await?;
            let mut pending = self.pending(&state, &self.committed().await?)?;
            sort_by_task(&mut pending, &instances);
            self.pack_sources(&mut state, pending, &options).await?;
            self.compact_from(&mut state, &compact).await?;
            let faults = self.faults().await?;
            if self.is_sealed(&state, &faults, &instances) {
                return self.write_manifest(&state).await;
            }
            if self.append_seal(&mut state, &faults, &instances).await? == Append::Appended {
                info!(number = state.position, "run is sealed");
                return self.write_manifest(&state).await;
            }
        }
    }

    /// Whether a sealing would change nothing.
    fn is_sealed(&self, state: &LogState, faults: &[AttemptObject], instances: &Instances) -> bool {
        state.seal.as_ref().is_some_and(|seal| {
            seal.faults == self.names(faults) && seal.counts.planned == instances.len() as u64
        })
    }

    /// Reads the manifest; `None` if the run was never sealed.
    pub async fn manifest(&self) -> Result<Option<Manifest>, LedgerError> {
        let path = self.layout.manifest()?;
        let Some(bytes) = self.read(&path).await? else { return Ok(None) };
        Ok(Some(codec::parse(path.as_str(), &bytes)?))
    }

    async fn append_seal(
        &self,
        state: &mut LogState,
        faults: &[AttemptObject],
        instances: &Instances,
    ) -> Result<Append, LedgerError> {
        let pack = self.fault_pack(state, faults, instances).await?;
        let counts = counts(state, pack.as_ref(), faults.len() as u64, instances);
        let seal = Some(Seal { counts, faults: self.names(faults) });
        let added = pack.iter().cloned().collect();
        let change = Change { added, removed: state.fault_packs(), condemned: None, seal };
        let condemned = pack.as_ref().is_some_and(|pack| state.condemned.contains_key(&pack.name));
        let appended = if condemned { Append::Lost } else { self.append(state, change).await? };
        if let (Append::Lost, Some(pack)) = (appended, &pack) {
            self.discard(pack).await?;
        }
        Ok(appended)
    }

    /// Writes the rows of all faults: the last one of each rollout without a result into the tables, and every one
    /// into a table of its own.
    async fn fault_pack(
        &self,
        state: &LogState,
        faults: &[AttemptObject],
        instances: &Instances,
    ) -> Result<Option<Pack>, LedgerError> {
        if faults.is_empty() {
            return Ok(None);
        }
        let mut all = fault_sources(faults);
        sort_by_task(&mut all, instances);
        let last = last_of_each(&all, &state.covered);
        let mut pack = if last.is_empty() {
            Pack {
                name: self.ids.fresh(),
                kind: PackKind::Faults,
                files: Vec::new(),
                rollouts: 0,
                solved: 0,
                raw_bytes: 0,
                covered: Vec::new(),
            }
        } else {
            self.write_pack(PackKind::Faults, &last, u64::MAX).await?.0
        };
        for (table, encoded) in self.encode(&[Table::Faults], &all, u64::MAX).await?.files {
            pack.files.push(self.store_table(table, &pack.name, encoded).await?);
        }
        Ok(Some(pack))
    }

    /// Writes the manifest of a sealed state, unless one of a later state is there.
    pub(crate) async fn write_manifest(&self, state: &LogState) -> Result<Manifest, LedgerError> {
        let path = self.layout.manifest()?;
        let manifest = self.describe(state);
        loop {
            let mode = match self.store.get(&path).await {
                Ok(Object { bytes, etag }) => {
                    let found: Manifest = codec::parse(path.as_str(), &bytes)?;
                    if found.log_position >= manifest.log_position {
                        return Ok(found);
                    }
                    PutMode::Update(etag)
                }
                Err(StoreError::NotFound { .. }) => PutMode::Create,
                Err(error) => return Err(error.into()),
            };
            if self.store.put(&path, codec::plain(&manifest), mode).await? != PutOutcome::Conflict {
                return Ok(manifest);
            }
        }
    }

    /// The manifest of a sealed state.
    pub(crate) fn describe(&self, state: &LogState) -> Manifest {
        let mut files: Vec<ManifestFile> =
            state.packs().flat_map(|pack| pack.files.iter().cloned()).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Manifest {
            schema_version: SCHEMA_VERSION,
            run_id: self.run.clone(),
            log_position: state.position,
            counts: state.seal.as_ref().map(|seal| seal.counts).unwrap_or_default(),
            files,
        }
    }

    /// Every fault record, by listing.
    pub(crate) async fn faults(&self) -> Result<Vec<AttemptObject>, LedgerError> {
        let mut objects = self.attempt_objects(&self.layout.folder("attempts/")).await?;
        objects.retain(|object| object.kind == AttemptKind::Fault);
        Ok(objects)
    }

    /// Paths of attempts below the run's prefix.
    pub(crate) fn names(&self, objects: &[AttemptObject]) -> Vec<String> {
        objects.iter().map(|object| self.layout.relative(&object.path).to_owned()).collect()
    }
}

fn counts(
    state: &LogState,
    fault_pack: Option<&Pack>,
    fault_attempts: u64,
    planned: &Instances,
) -> OutcomeCounts {
    let faulted: HashSet<&RolloutId> = fault_pack.iter().flat_map(|pack| &pack.covered).collect();
    let ended = |rollout: &RolloutId| state.covered.contains(rollout) || faulted.contains(rollout);
    OutcomeCounts {
        planned: planned.len() as u64,
        graded: state.covered.len() as u64,
        solved: state.of_kind(PackKind::Results).map(|pack| pack.solved).sum(),
        faulted: faulted.len() as u64,
        fault_attempts,
        missing: planned.keys().filter(|rollout| !ended(rollout)).count() as u64,
    }
}

fn fault_sources(faults: &[AttemptObject]) -> Vec<Source> {
    let sources = faults.iter().map(|object| Source {
        rollout: object.rollout.clone(),
        instance: None,
        attempt: object.attempt,
        path: object.path.clone(),
        stored_bytes: 0,
        record_bytes: None,
    });
    sources.collect()
}

/// The last attempt of each rollout that has no result. `sources` are in the order of rollouts and attempts.
fn last_of_each(sources: &[Source], covered: &HashSet<RolloutId>) -> Vec<Source> {
    let open = sources.iter().filter(|source| !covered.contains(&source.rollout));
    let last: BTreeMap<_, _> =
        open.map(|source| ((&source.instance, &source.rollout), source.clone())).collect();
    last.into_values().collect()
}
