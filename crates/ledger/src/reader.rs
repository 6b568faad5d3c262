//! Reading a run at one position of its log.

use arrow_array::RecordBatch;
use thresher_core::{RolloutId, RolloutRecord};

use crate::{Ledger, LedgerError, RolloutSummary};

/// The tables of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// One row per rollout.
    Rollouts,
    /// One row per step.
    Steps,
    /// One row per test of a verdict.
    TestResults,
    /// One row per attempt that ended in a fault.
    Faults,
}

/// A consistent view of a run, also while it goes on: each rollout once, packed or not.
#[derive(Debug)]
pub struct Reader {
    pub(crate) ledger: Ledger,
}

impl Ledger {
    /// Opens a view of the run as it is now.
    pub async fn reader(&self) -> Result<Reader, LedgerError> {
        todo!()
    }
}

impl Reader {
    /// The log position that the view is of.
    pub fn position(&self) -> u64 {
        todo!()
    }

    /// Whether the run is sealed at this position and nothing was added since.
    pub fn is_sealed(&self) -> bool {
        todo!()
    }

    /// Every rollout that has a result, and those that have only faults (by their last one), sorted by task and
    /// sample.
    pub async fn rollouts(&self) -> Result<Vec<RolloutSummary>, LedgerError> {
        todo!("{:?}", self.ledger)
    }

    /// Every attempt that ended in a fault.
    pub async fn faults(&self) -> Result<Vec<RolloutSummary>, LedgerError> {
        todo!()
    }

    /// The whole record of a rollout: its result, or else its last fault; `None` if there is neither.
    pub async fn record(&self, rollout: &RolloutId) -> Result<Option<RolloutRecord>, LedgerError> {
        todo!("{rollout}")
    }

    /// The rollouts whose id begins with `prefix`, as a person types it.
    pub fn matching(&self, prefix: &str) -> Vec<RolloutId> {
        todo!("{prefix}")
    }

    /// The rows of a table as Arrow batches, packed or not; all columns if `columns` is empty.
    pub async fn batches(&self, table: Table, columns: &[&str]) -> Result<Vec<RecordBatch>, LedgerError> {
        todo!("{table:?} {columns:?}")
    }
}
