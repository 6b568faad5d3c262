//! A store in memory, for tests and for runs that need not be kept.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    ChangeTag, Multipart, Object, ObjectMeta, ObjectPath, ObjectStore, PutMode, PutOutcome, StoreError,
    etag_of,
};

/// A map behind a lock. It ends with the process. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<ObjectPath, Stored>,
    /// Puts so far; each marks its object with its own number.
    puts: u64,
}

#[derive(Clone, Debug)]
struct Stored {
    object: Object,
    put: u64,
}

impl Stored {
    fn meta(&self, path: &ObjectPath) -> ObjectMeta {
        let size = self.object.bytes.len() as u64;
        ObjectMeta { path: path.clone(), size, tag: ChangeTag::new(self.put.to_string()) }
    }
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// No operation leaves the map half-changed, so a lock poisoned by a panicking test is as good as new.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, path: &ObjectPath) -> Result<Stored, StoreError> {
        let found = self.state().objects.get(path).cloned();
        found.ok_or_else(|| StoreError::NotFound { path: path.to_string() })
    }

    fn place(&self, path: &ObjectPath, bytes: Bytes, mode: &PutMode) -> PutOutcome {
        let etag = etag_of(&bytes);
        let mut state = self.state();
        let current = state.objects.get(path).map(|stored| &stored.object.etag);
        let holds = match mode {
            PutMode::Create => current.is_none(),
            PutMode::Overwrite => true,
            PutMode::Update(expected) => current == Some(expected),
        };
        if !holds {
            return PutOutcome::Conflict;
        }
        state.puts += 1;
        let stored = Stored { object: Object { bytes, etag: etag.clone() }, put: state.puts };
        state.objects.insert(path.clone(), stored);
        PutOutcome::Stored(etag)
    }
}

#[async_trait]
impl ObjectStore for Memory {
    async fn put(&self, path: &ObjectPath, bytes: Bytes, mode: PutMode) -> Result<PutOutcome, StoreError> {
        Ok(self.place(path, bytes, &mode))
    }

    async fn multipart(&self, path: &ObjectPath) -> Result<Box<dyn Multipart>, StoreError> {
        Ok(Box::new(Upload { store: self.clone(), path: path.clone(), body: Some(Vec::new()) }))
    }

    async fn get(&self, path: &ObjectPath) -> Result<Object, StoreError> {
        Ok(self.find(path)?.object)
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError> {
        let bytes = self.find(path)?.object.bytes;
        let end = range.end.min(bytes.len() as u64) as usize;
        let start = (range.start as usize).min(end);
        Ok(bytes.slice(start..end))
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta, StoreError> {
        Ok(self.find(path)?.meta(path))
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectMeta>, StoreError> {
        let from = after.map_or(Bound::Included(prefix), |after| {
            if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) }
        });
        let state = self.state();
        let matching = state.objects.range::<str, _>((from, Bound::Unbounded));
        let matching = matching.take_while(|(path, _)| path.as_str().starts_with(prefix));
        Ok(matching.map(|(path, stored)| stored.meta(path)).collect())
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.state().objects.remove(path);
        Ok(())
    }
}

/// The parts of an object so far; `None` once the upload is over.
struct Upload {
    store: Memory,
    path: ObjectPath,
    body: Option<Vec<u8>>,
}

#[async_trait]
impl Multipart for Upload {
    async fn part(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let body =
            self.body.as_mut().ok_or_else(|| StoreError::UploadGone { path: self.path.to_string() })?;
        body.extend_from_slice(&bytes);
        Ok(())
    }

    async fn complete(&mut self, mode: PutMode) -> Result<PutOutcome, StoreError> {
        let body = self.body.take().ok_or_else(|| StoreError::UploadGone { path: self.path.to_string() })?;
        Ok(self.store.place(&self.path, body.into(), &mode))
    }

    async fn abort(self: Box<Self>) {}
}
