//! The plan of a run, as stored: segments that are created once each.

use serde::{Deserialize, Serialize};
use thresher_core::plan::Plan;
use thresher_core::task::Family;
use thresher_core::{RunSpec, Sha256Hex};

use crate::{Ledger, LedgerError};

/// Which dataset a plan was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetIdentity {
    /// Dataset name, as records carry it.
    pub name: String,
    /// Row family.
    pub family: Family,
    /// Fingerprint of the dataset's files.
    pub fingerprint: Sha256Hex,
    /// Rows in the dataset, before any selection.
    pub rows: u64,
}

/// The union of a run's plan segments.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPlan {
    /// The job, as the newest segment has it.
    pub spec: RunSpec,
    /// The dataset.
    pub dataset: DatasetIdentity,
    /// All tasks, shards, rollouts and refused rows of all segments.
    pub plan: Plan,
    /// Number of the newest segment.
    pub segment: u32,
}

impl Ledger {
    /// Reads the plan; `None` if there is none yet.
    pub async fn plan(&self) -> Result<Option<StoredPlan>, LedgerError> {
        todo!()
    }

    /// Stores what `plan` adds to the run: the whole plan the first time, later the rollouts that no earlier
    /// segment holds, or nothing. Returns the union.
    ///
    /// The same arguments on the same prefix write the same bytes. [`LedgerError::DifferentJob`] if `spec` or
    /// `dataset` is not the one that the run was started with.
    pub async fn extend_plan(
        &self,
        spec: &RunSpec,
        dataset: &DatasetIdentity,
        plan: &Plan,
    ) -> Result<StoredPlan, LedgerError> {
        todo!("{spec:?} {dataset:?} {plan:?}")
    }
}
