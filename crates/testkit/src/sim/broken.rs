//! Deliberately broken variants, made at the edges of the real code: a simulation that lets one pass proves nothing.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use thresher_ledger::{IdSource, StoredPlan};
use thresher_store::{
    ChangeTag, Multipart, Object, ObjectMeta, ObjectPath, ObjectStore, PutMode, PutOutcome, StoreError,
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
    /// A writer recognizes its own write by something that others share.
    SharedNonces,
    /// Readers take every file that lies below `tables/`, at whatever position of the log.
    ReaderWithoutPosition,
    /// Files that the log does not name are cleared away at once.
    GcWithoutLog,
    /// Workers do not notice that the others' hearts beat.
    DeafToHeartbeats,
    /// Workers are sent into a rollout that kills them for ever.
    NothingSetAside,
}

impl Variant {
    /// The store as the broken code uses it.
    pub(crate) fn store(self, store: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        match self {
            Self::NoEpochCheck => Arc::new(Heedless { store, folder: "claims/" }),
            Self::CommitByOverwrite => Arc::new(Heedless { store, folder: "results/" }),
            Self::DeafToHeartbeats => Arc::new(Deaf { store }),
            _ => store,
        }
    }

    /// The plan as the broken code reads it.
    pub(crate) fn plan(self, mut plan: StoredPlan) -> StoredPlan {
        if self == Self::NothingSetAside {
            plan.spec.fleet.max_lost_workers = u32::MAX;
        }
        plan
    }

    /// The names that a process gives. The first one, its own, is always its own.
    pub(crate) fn ids(self, seed: u64) -> IdSource {
        let mut own = StdRng::seed_from_u64(seed);
        let mut shared = StdRng::seed_from_u64(0);
        let mut given = 0;
        let next = Mutex::new(move || {
            given += 1;
            if self == Self::SharedNonces && given > 1 { shared.random() } else { own.random() }
        });
        IdSource::new(move || next.lock().unwrap_or_else(PoisonError::into_inner)())
    }
}

/// Sees the heartbeats, but not that they change.
#[derive(Debug)]
struct Deaf {
    store: Arc<dyn ObjectStore>,
}

#[async_trait]
impl ObjectStore for Deaf {
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectMeta>, StoreError> {
        let mut listed = self.store.list(prefix, after).await?;
        if prefix.starts_with("workers/") {
            listed.iter_mut().for_each(|object| object.tag = ChangeTag::new("unchanged"));
        }
        Ok(listed)
    }

    async fn put(&self, path: &ObjectPath, bytes: Bytes, mode: PutMode) -> Result<PutOutcome, StoreError> {
        self.store.put(path, bytes, mode).await
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

    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.store.delete(path).await
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
