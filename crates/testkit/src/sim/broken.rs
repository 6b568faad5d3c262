//! Deliberately broken variants, made at the edges of the real code: a simulation that lets one pass proves nothing.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use thresher_ledger::IdSource;
use thresher_store::{
    Multipart, Object, ObjectMeta, ObjectPath, ObjectStore, PutMode, PutOutcome, StoreError,
};

/// How the fleet is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Not at all.
    Sound,
    /// Claims are taken without a look at who has them now.
    NoEpochCheck,
    /// Results are put over those of others.
    CommitByOverwrite,
    /// A writer takes any write to its place for its own, since all of them use the same names.
    SharedNonces,
}

impl Variant {
    /// The store as the broken code uses it.
    pub(crate) fn store(self, store: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        match self {
            Self::NoEpochCheck => Arc::new(Heedless { store, folder: "claims/" }),
            Self::CommitByOverwrite => Arc::new(Heedless { store, folder: "results/" }),
            Self::Sound | Self::SharedNonces => store,
        }
    }

    /// The names that a process gives.
    pub(crate) fn ids(self, seed: u64) -> IdSource {
        let mut random = StdRng::seed_from_u64(if self == Self::SharedNonces { 0 } else { seed });
        let next = Mutex::new(move || random.random());
        IdSource::new(move || next.lock().unwrap_or_else(PoisonError::into_inner)())
    }
}

/// Puts below a folder whatever is there.
#[derive(Debug)]
struct Heedless {
    store: Arc<dyn ObjectStore>,
    folder: &'static str,
}

#[async_trait]
impl ObjectStore for Heedless {
    async fn put(&self, path: &ObjectPath, bytes: Bytes, mode: PutMode) -> Result<PutOutcome, StoreError> {
        let heedless = path.as_str().starts_with(self.folder);
        self.store.put(path, bytes, if heedless { PutMode::Overwrite } else { mode }).await
    }

    async fn multipart(&self, path: &ObjectPath) -> Result<Box<dyn Multipart>, StoreError> {
        self.store.multipart(path).await
    }

    async fn get(&self, path: &ObjectPath) -> Result<Object, StoreError> {
        self.store.get(path).await
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.store.get_range(path, range).await
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta, StoreError> {
        self.store.head(path).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectMeta>, StoreError> {
        self.store.list(prefix, after).await
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.store.delete(path).await
    }
}
