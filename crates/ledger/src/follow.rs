//! Following a run: the rows that are new since the last look, each rollout once.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_array::RecordBatch;
use thresher_core::RolloutId;

use crate::log::{Change, LogEntry, Pack, PackKind};
use crate::log_state::LogState;
use crate::schema::Table;
use crate::table_file::Part;
use crate::{Ledger, LedgerError, ManifestFile, codec};

/// A position of a run's log: how many entries are known. It can be stored as its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// Reports the rollouts whose results are packed, each one once, however often packs are merged meanwhile.
#[derive(Debug)]
pub struct Follower {
    ledger: Ledger,
    /// Where the caller says that it has been.
    from: Position,
    state: LogState,
    /// Rollouts that were covered by entries that were read, and are not reported yet.
    fresh: HashSet<RolloutId>,
    reported: Position,
}

/// A pack with rows that are new to a follower.
#[derive(Clone, Debug)]
pub struct NewRows {
    ledger: Ledger,
    /// Name of the pack.
    pub pack: String,
    /// Its files, which are part of the run at the follower's position.
    pub files: Vec<ManifestFile>,
    /// The rollouts that are new.
    pub rollouts: Arc<HashSet<RolloutId>>,
    /// Whether the files hold no others.
    pub whole: bool,
}

impl Ledger {
    /// Follows the run from a position at which a former follower was, or from the beginning. Reads nothing yet.
    pub fn follow(&self, from: Option<Position>) -> Follower {
        let (from, reported) = (from.unwrap_or_default(), Position::default());
        let (state, fresh) = (LogState::default(), HashSet::new());
        Follower { ledger: self.clone(), from, state, fresh, reported }
    }
}

impl Follower {
    /// What was added since the last call (protocol: F1 to F3); if there is nothing, that costs one request. After an
    /// error the next call reports what this one would have.
    pub async fn next(&mut self) -> Result<Vec<NewRows>, LedgerError> {
        self.catch_up().await?;
        let Self { state, fresh, .. } = self;
        if self.reported == Position::default() {
            self.ledger.read_on(state).await?;
            fresh.extend(state.covered.iter().cloned());
        } else {
            self.ledger.read_until(state, u64::MAX, |known, entry| note(fresh, known, entry)).await?;
        }
        let new = self.state.results_since(self.reported.0).filter_map(|pack| self.rows(pack)).collect();
        self.reported = Position(self.state.position);
        self.fresh.clear();
        Ok(new)
    }

    /// Where to follow on from, once everything that was reported is dealt with.
    pub fn position(&self) -> Position {
        self.reported.max(self.from)
    }

    /// Reads what was known at the position to follow from. Only the first call has to.
    async fn catch_up(&mut self) -> Result<(), LedgerError> {
        let Position(from) = self.from;
        if self.reported >= self.from {
            return Ok(());
        }
        self.ledger.read_until(&mut self.state, from, |_, _| {}).await?;
        if self.state.position < from {
            let path = self.ledger.layout.log(from)?;
            return Err(codec::damaged(path.as_str(), "it was followed from here, and is not there"));
        }
        self.reported = self.from;
        Ok(())
    }

    fn rows(&self, pack: &Pack) -> Option<NewRows> {
        let new: HashSet<RolloutId> =
            pack.covered.iter().filter(|rollout| self.fresh.contains(*rollout)).cloned().collect();
        (!new.is_empty()).then(|| NewRows {
            ledger: self.ledger.clone(),
            pack: pack.name.clone(),
            files: pack.files.clone(),
            whole: new.len() == pack.covered.len(),
            rollouts: Arc::new(new),
        })
    }
}

/// Notes the rollouts that `entry` covers first. One that merges packs covers none first.
fn note(fresh: &mut HashSet<RolloutId>, known: &LogState, entry: &LogEntry) {
    let Change { added, .. } = &entry.change;
    let results = added.iter().filter(|pack| pack.kind == PackKind::Results);
    let covered = results.flat_map(|pack| &pack.covered);
    fresh.extend(covered.filter(|rollout| !known.covered.contains(*rollout)).cloned());
}

impl NewRows {
    /// The new rollouts' rows in a table; all columns if `columns` is empty.
    ///
    /// If the files were deleted since they were reported, because the pack was merged into another one, the rows are
    /// read from there.
    pub async fn batches(&self, table: Table, columns: &[&str]) -> Result<Vec<RecordBatch>, LedgerError> {
        match self.read(&self.files, table, columns).await {
            Err(LedgerError::Outdated { .. }) => {
                let state = self.ledger.log_state().await?;
                let holds = |pack: &&Pack| pack.covered.iter().any(|rollout| self.rollouts.contains(rollout));
                let packs = state.of_kind(PackKind::Results).filter(holds);
                let files: Vec<ManifestFile> = packs.flat_map(|pack| &pack.files).cloned().collect();
                self.read(&files, table, columns).await
            }
            done => done,
        }
    }

    async fn read(
        &self,
        files: &[ManifestFile],
        table: Table,
        columns: &[&str],
    ) -> Result<Vec<RecordBatch>, LedgerError> {
        let mut batches = Vec::new();
        for file in files.iter().filter(|file| file.table == table.name()) {
            let part = Part { rollouts: Some(Arc::clone(&self.rollouts)), ..Part::columns(columns) };
            batches.extend(self.ledger.read_table(file, part).await?);
        }
        Ok(batches)
    }
}
