//! The manifest: the plain list of a sealed run's files, for readers without this code.

use serde::{Deserialize, Serialize};
use thresher_core::{RunId, Sha256Hex};

use crate::{Ledger, LedgerError, PackOptions};

/// What a run produced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format version of the manifest.
    pub format: i32,
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
    /// Rollouts of the plan that nothing is known of.
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
        todo!("{options:?}")
    }

    /// Reads the manifest; `None` if the run was never sealed.
    pub async fn manifest(&self) -> Result<Option<Manifest>, LedgerError> {
        todo!()
    }
}
