//! What can go wrong with a run's prefix.

use thresher_core::RunId;
use thresher_store::StoreError;

/// A failed operation on a run, by meaning.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The store failed; see there whether trying again can help.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no plan at the prefix: nothing was ever run there.
    #[error("there is no run at `{place}`")]
    NoRun {
        /// The prefix.
        place: String,
    },
    /// The prefix belongs to another run.
    #[error("the prefix belongs to run `{found}`, not to `{expected}`")]
    WrongRun {
        /// The run that was opened.
        expected: RunId,
        /// The run whose plan is stored.
        found: RunId,
    },
    /// The job differs from the stored one in what makes a run itself.
    #[error("the run belongs to a different job: {}", differences.join("; "))]
    DifferentJob {
        /// One line per difference, `key: stored -> given`.
        differences: Vec<String>,
    },
    /// A newer version of the program wrote the object.
    #[error(
        "`{path}` has format version {found}, and this program knows versions up to {known}: use a newer thresher"
    )]
    Newer {
        /// The object.
        path: String,
        /// Its version.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// Workers of the run speak another version of the protocol.
    #[error(
        "`{path}` belongs to protocol {found} and this program speaks {known}: use the version of thresher that began \
         the run for all of its workers"
    )]
    OtherProtocol {
        /// The object.
        path: String,
        /// Its protocol.
        found: u32,
        /// The protocol of this program.
        known: u32,
    },
    /// An object holds what no version of the program writes.
    #[error("`{path}` is damaged: {reason}")]
    Damaged {
        /// The object.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that was part of the run at an earlier position of its log was deleted: open the run anew.
    #[error("`{path}` was part of the run once and is deleted: read the run anew")]
    Outdated {
        /// The file.
        path: String,
    },
    /// A faulted record was offered as a result: it must never stand in a result's place.
    #[error("rollout {0} is faulted and cannot be committed as a result")]
    NotGraded(thresher_core::RolloutId),
    /// A graded record was offered as a fault.
    #[error("rollout {0} is graded and cannot be kept as a fault")]
    NotFaulted(thresher_core::RolloutId),
    /// A name cannot be part of an object's path.
    #[error("`{0}` cannot be part of an object's path")]
    BadName(String),
    /// A file of the dataset cannot be read or written on this machine.
    #[error("{path}: {source}", path = path.display())]
    Data {
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Writing or reading Parquet failed.
    #[error("the table file could not be written or read: {0}")]
    Table(#[from] parquet::errors::ParquetError),
}
