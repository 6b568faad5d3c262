//! A run's prefix in a store.

use std::sync::Arc;

use thresher_core::RunId;
use thresher_store::ObjectStore;

use crate::LedgerError;

/// One run's prefix. Cloning is cheap. Every method may be called from any number of tasks and processes.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) run: RunId,
}

impl Ledger {
    /// Opens a run at `prefix`, the run's own folder in `store` (empty where the store's root is the run's
    /// directory). Reads and writes nothing.
    pub fn open(store: Arc<dyn ObjectStore>, prefix: &str, run: RunId) -> Result<Self, LedgerError> {
        let _ = prefix;
        Ok(Self { store, run })
    }

    /// Opens the run that is stored at `prefix`, whatever its id; [`LedgerError::NoRun`] if there is none.
    pub async fn find(store: Arc<dyn ObjectStore>, prefix: &str) -> Result<Self, LedgerError> {
        todo!("{store:?} {prefix}")
    }

    /// The run's id.
    pub fn run(&self) -> &RunId {
        &self.run
    }
}
