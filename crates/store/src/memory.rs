//! A store in memory, for tests and for runs that need not be kept.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Object, ObjectMeta, ObjectPath, ObjectStore, PutMode, PutOutcome, StoreError, etag_of};

/// A map behind a lock. It ends with the process.
#[derive(Debug, Default)]
pub struct Memory {
    objects: Mutex<BTreeMap<ObjectPath, Object>>,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// No operation leaves the map half-changed, so a lock poisoned by a panicking test is as good as new.
    fn objects(&self) -> MutexGuard<'_, BTreeMap<ObjectPath, Object>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, path: &ObjectPath) -> Result<Object, StoreError> {
        let found = self.objects().get(path).cloned();
        found.ok_or_else(|| StoreError::NotFound { path: path.to_string() })
    }
}

#[async_trait]
impl ObjectStore for Memory {
    async fn put(&self, path: &ObjectPath, bytes: Bytes, mode: PutMode) -> Result<PutOutcome, StoreError> {
        let etag = etag_of(&bytes);
        let mut objects = self.objects();
        let current = objects.get(path).map(|object| &object.etag);
        let holds = match &mode {
            PutMode::Create => current.is_none(),
            PutMode::Overwrite => true,
            PutMode::Update(expected) => current == Some(expected),
        };
        if !holds {
            return Ok(PutOutcome::Conflict);
        }
        objects.insert(path.clone(), Object { bytes, etag: etag.clone() });
        Ok(PutOutcome::Stored(etag))
    }

    async fn get(&self, path: &ObjectPath) -> Result<Object, StoreError> {
        self.find(path)
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError> {
        let bytes = self.find(path)?.bytes;
        let end = range.end.min(bytes.len() as u64) as usize;
        let start = (range.start as usize).min(end);
        Ok(bytes.slice(start..end))
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta, StoreError> {
        let size = self.find(path)?.bytes.len() as u64;
        Ok(ObjectMeta { path: path.clone(), size })
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        let objects = self.objects();
        let matching = objects.iter().filter(|(path, _)| path.as_str().starts_with(prefix));
        Ok(matching
            .map(|(path, object)| ObjectMeta { path: path.clone(), size: object.bytes.len() as u64 })
            .collect())
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.objects().remove(path);
        Ok(())
    }
}
