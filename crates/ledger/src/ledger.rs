//! A run's prefix in a store.

use std::sync::Arc;

use bytes::Bytes;
use thresher_core::RunId;
use thresher_store::{ObjectPath, ObjectStore, PutMode, PutOutcome, StoreError};

use crate::ids::IdSource;
use crate::layout::Layout;
use crate::{LedgerError, plan};

/// One run's prefix. Cloning is cheap. Every method may be called from any number of tasks and processes.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) layout: Layout,
    pub(crate) run: RunId,
    pub(crate) ids: IdSource,
}

impl Ledger {
    /// Opens a run at `prefix`, the run's own folder in `store` (empty where the store's root is the run's
    /// directory). Reads and writes nothing.
    pub fn open(store: Arc<dyn ObjectStore>, prefix: &str, run: RunId) -> Result<Self, LedgerError> {
        Ok(Self { store, layout: Layout::new(prefix)?, run, ids: IdSource::default() })
    }

    /// Opens the run that is stored at `prefix`, whatever its id; [`LedgerError::NoRun`] if there is none.
    pub async fn find(store: Arc<dyn ObjectStore>, prefix: &str) -> Result<Self, LedgerError> {
        let layout = Layout::new(prefix)?;
        let run = plan::stored_run(&*store, &layout).await?;
        Ok(Self { store, layout, run, ids: IdSource::default() })
    }

    /// The same with another source of random names, for simulations.
    pub fn with_ids(self, ids: IdSource) -> Self {
        Self { ids, ..self }
    }

    /// A name that nobody else has: the identity of an attempt.
    pub fn nonce(&self) -> String {
        self.ids.fresh()
    }

    /// The run's id.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// Creates an object; says whether it was this call that did.
    pub(crate) async fn create(&self, path: &ObjectPath, bytes: Bytes) -> Result<bool, LedgerError> {
        let outcome = self.store.put(path, bytes, PutMode::Create).await?;
        Ok(outcome != PutOutcome::Conflict)
    }

    /// Reads an object that may not be there.
    pub(crate) async fn read(&self, path: &ObjectPath) -> Result<Option<Bytes>, LedgerError> {
        match self.store.get(path).await {
            Ok(object) => Ok(Some(object.bytes)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
