//! Reading a run at one position of its log.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use thresher_core::{RolloutId, RolloutRecord};

use crate::layout::AttemptObject;
use crate::log::{Pack, PackKind};
use crate::log_state::LogState;
use crate::manifest::ManifestFile;
use crate::pack::Source;
use crate::schema::{Table, table_batch};
use crate::summary::{columns, summaries};
use crate::table_file::Part;
use crate::{CommittedResult, Ledger, LedgerError, RolloutSummary, codec};

/// A consistent view of a run, also while it goes on: each rollout once, packed or not.
#[derive(Debug)]
pub struct Reader {
    ledger: Ledger,
    state: LogState,
    /// Results that no pack of this position covers.
    unpacked: Vec<Source>,
    /// Every fault record there is.
    faults: Vec<AttemptObject>,
    /// Rollouts with a result.
    committed: BTreeMap<RolloutId, CommittedResult>,
}

impl Ledger {
    /// Opens a view of the run as it is now.
    pub async fn reader(&self) -> Result<Reader, LedgerError> {
        // The log comes first, so that a result that is packed meanwhile is unpacked in this view. The one listing of
        // results comes last, so that a rollout is either in it or has at most faults: never both, never neither.
        let state = self.log_state().await?;
        let faults = self.faults().await?;
        let committed = self.committed().await?;
        let unpacked = self.pending(&state, &committed)?;
        Ok(Reader { ledger: self.clone(), state, unpacked, faults, committed })
    }
}

impl Reader {
    /// The log position that the view is of.
    pub fn position(&self) -> u64 {
        self.state.position
    }

    /// Whether the run is sealed at this position and nothing was added since.
    pub fn is_sealed(&self) -> bool {
        self.unpacked.is_empty()
            && self.state.seal.as_ref().is_some_and(|seal| seal.faults == self.ledger.names(&self.faults))
    }

    /// Every rollout that has a result, and those that have only faults (by their last one), sorted by task and
    /// sample.
    ///
    /// If the files of this view were deleted, because it is older than gc keeps them, the rows are those of a new view.
    pub async fn rollouts(&self) -> Result<Vec<RolloutSummary>, LedgerError> {
        match self.summaries().await {
            Err(LedgerError::Outdated { .. }) => self.ledger.reader().await?.summaries().await,
            done => done,
        }
    }

    async fn summaries(&self) -> Result<Vec<RolloutSummary>, LedgerError> {
        let mut rows = Vec::new();
        for file in self.files(Table::Rollouts) {
            for batch in self.ledger.read_table(file, Part::columns(&columns())).await? {
                rows.extend(summaries(&batch).map_err(|reason| codec::damaged(&file.path, reason))?);
            }
        }
        for record in self.loose_records().await? {
            rows.push(RolloutSummary::of(&record));
        }
        sort(&mut rows);
        Ok(rows)
    }

    /// Every attempt that ended in a fault, sorted by task, sample and attempt.
    pub async fn faults(&self) -> Result<Vec<RolloutSummary>, LedgerError> {
        let mut rows = Vec::new();
        for object in &self.faults {
            rows.push(RolloutSummary::of(&self.ledger.fault_record(object).await?));
        }
        sort(&mut rows);
        Ok(rows)
    }

    /// The whole record of a rollout: its result, or else its last fault; `None` if there is neither.
    pub async fn record(&self, rollout: &RolloutId) -> Result<Option<RolloutRecord>, LedgerError> {
        if let Some(result) = self.committed.get(rollout) {
            return self.ledger.result(&result.shard_id, rollout).await;
        }
        let last = self.faults.iter().rfind(|object| object.rollout == *rollout);
        match last {
            Some(object) => Ok(Some(self.ledger.fault_record(object).await?)),
            None => Ok(None),
        }
    }

    /// The rollouts of the view whose id begins with `prefix`, as a person types it; sorted.
    pub fn matching(&self, prefix: &str) -> Vec<RolloutId> {
        let known = self.committed.keys().chain(self.faults.iter().map(|object| &object.rollout));
        let mut found: Vec<RolloutId> =
            known.filter(|rollout| rollout.as_str().starts_with(prefix)).cloned().collect();
        found.sort();
        found.dedup();
        found
    }

    /// The rows of a table as Arrow batches, packed or not; all columns if `columns` is empty. A view that is too old is
    /// replaced as in [`Self::rollouts`].
    pub async fn batches(&self, table: Table, columns: &[&str]) -> Result<Vec<RecordBatch>, LedgerError> {
        match self.rows(table, columns).await {
            Err(LedgerError::Outdated { .. }) => self.ledger.reader().await?.rows(table, columns).await,
            done => done,
        }
    }

    async fn rows(&self, table: Table, columns: &[&str]) -> Result<Vec<RecordBatch>, LedgerError> {
        let mut batches = Vec::new();
        for file in self.files(table) {
            batches.extend(self.ledger.read_table(file, Part::columns(columns)).await?);
        }
        for record in self.loose_records_of(table).await? {
            batches.extend(project(table_batch(table, &record)?, columns)?);
        }
        Ok(batches)
    }

    /// The files of a table at this position. Fault rows are those of the last sealing: outdated once anything was
    /// added, and then taken from the fault records instead.
    fn files(&self, table: Table) -> impl Iterator<Item = &ManifestFile> {
        let sealed = self.is_sealed();
        let packs = self.state.packs();
        let counted = packs.filter(move |pack: &&Pack| pack.kind == PackKind::Results || sealed);
        counted.flat_map(|pack| &pack.files).filter(move |file| file.table == table.name())
    }

    async fn loose_records_of(&self, table: Table) -> Result<Vec<RolloutRecord>, LedgerError> {
        if table != Table::Faults {
            return self.loose_records().await;
        }
        let mut records = Vec::new();
        if !self.is_sealed() {
            for object in &self.faults {
                records.push(self.ledger.fault_record(object).await?);
            }
        }
        Ok(records)
    }

    /// Records whose rows are in none of [`Self::files`].
    async fn loose_records(&self) -> Result<Vec<RolloutRecord>, LedgerError> {
        let mut records = Vec::new();
        for source in &self.unpacked {
            let bytes = self.ledger.store.get(&source.path).await?.bytes;
            records.push(codec::unpack(source.path.as_str(), &bytes)?.0);
        }
        if !self.is_sealed() {
            for object in self.last_faults() {
                records.push(self.ledger.fault_record(object).await?);
            }
        }
        Ok(records)
    }

    /// The last fault of each rollout without a result.
    fn last_faults(&self) -> impl Iterator<Item = &AttemptObject> {
        let open = self.faults.iter().filter(|object| !self.committed.contains_key(&object.rollout));
        // The listing is in the order of rollouts and attempts.
        let last: BTreeMap<&RolloutId, &AttemptObject> =
            open.map(|object| (&object.rollout, object)).collect();
        last.into_values()
    }
}

/// Cuts a batch down to `columns`, in the order of the table as a file's reader does it; no rows, no batch.
fn project(batch: Option<RecordBatch>, columns: &[&str]) -> Result<Option<RecordBatch>, LedgerError> {
    let Some(batch) = batch else { return Ok(None) };
    if columns.is_empty() {
        return Ok(Some(batch));
    }
    let fields = batch.schema();
    let kept =
        fields.fields().iter().enumerate().filter(|(_, field)| columns.contains(&field.name().as_str()));
    let kept: Vec<usize> = kept.map(|(at, _)| at).collect();
    Ok(Some(batch.project(&kept).map_err(parquet::errors::ParquetError::from)?))
}

fn sort(rows: &mut [RolloutSummary]) {
    rows.sort_by(|a, b| {
        let key = |row: &RolloutSummary| (row.sample, row.rollout_id.clone(), row.attempt);
        a.instance_id.cmp(&b.instance_id).then_with(|| key(a).cmp(&key(b)))
    });
}
