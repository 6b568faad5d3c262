//! What is asked of a store, counted.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Multipart, Object, ObjectMeta, ObjectPath, ObjectStore, PutMode, PutOutcome, StoreError};

/// Requests by kind since the store was wrapped, also those that failed, and the bytes of bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Puts of whole objects.
    pub puts: u64,
    /// Multipart uploads begun.
    pub uploads: u64,
    /// Parts of uploads.
    pub parts: u64,
    /// Completions of uploads.
    pub completions: u64,
    /// Uploads given up.
    pub aborts: u64,
    /// Gets of whole objects and of ranges.
    pub gets: u64,
    /// Heads.
    pub heads: u64,
    /// Listings, in pages of 1,000 objects as S3 gives them.
    pub lists: u64,
    /// Deletes.
    pub deletes: u64,
    /// Puts and completions whose condition did not hold; they are counted above too.
    pub conflicts: u64,
    /// Calls that ended in an error; they are counted above too.
    pub errors: u64,
    /// Bytes of bodies sent.
    pub bytes_up: u64,
    /// Bytes of bodies received.
    pub bytes_down: u64,
}

impl Usage {
    /// Requests that write.
    pub fn writes(&self) -> u64 {
        self.puts + self.uploads + self.parts + self.completions + self.aborts + self.deletes
    }

    /// Requests that read.
    pub fn reads(&self) -> u64 {
        self.gets + self.heads + self.lists
    }
}

/// The objects of one page of a listing.
const PAGE: u64 = 1_000;

/// A store that counts. Clones count together. Below a `Retrying` every try counts, above it every call.
#[derive(Clone, Debug)]
pub struct Metered {
    inner: Arc<dyn ObjectStore>,
    meter: Meter,
}

#[derive(Clone, Debug, Default)]
struct Meter(Arc<Mutex<Usage>>);

impl Meter {
    fn count(&self, change: impl FnOnce(&mut Usage)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts an error, and hands the result on.
    fn done<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if result.is_err() {
            self.count(|usage| usage.errors += 1);
        }
        result
    }

    /// The same for a conditional write.
    fn written(&self, result: Result<PutOutcome, StoreError>) -> Result<PutOutcome, StoreError> {
        if matches!(result, Ok(PutOutcome::Conflict)) {
            self.count(|usage| usage.conflicts += 1);
        }
        self.done(result)
    }

    fn received(&self, bytes: &Bytes) {
        self.count(|usage| usage.bytes_down += bytes.len() as u64);
    }
}

impl Metered {
    /// Wraps `inner` and counts from zero.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, meter: Meter::default() }
    }

    /// What was asked for so far.
    pub fn usage(&self) -> Usage {
        *self.meter.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ObjectStore for Metered {
    async fn put(&self, path: &ObjectPath, bytes: Bytes, mode: PutMode) -> Result<PutOutcome, StoreError> {
        self.meter.count(|usage| {
            usage.puts += 1;
            usage.bytes_up += bytes.len() as u64;
        });
        self.meter.written(self.inner.put(path, bytes, mode).await)
    }

    async fn multipart(&self, path: &ObjectPath) -> Result<Box<dyn Multipart>, StoreError> {
        self.meter.count(|usage| usage.uploads += 1);
        let inner = self.meter.done(self.inner.multipart(path).await)?;
        Ok(Box::new(Upload { inner, meter: self.meter.clone() }))
    }

    async fn get(&self, path: &ObjectPath) -> Result<Object, StoreError> {
        self.meter.count(|usage| usage.gets += 1);
        let object = self.meter.done(self.inner.get(path).await)?;
        self.meter.received(&object.bytes);
        Ok(object)
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.meter.count(|usage| usage.gets += 1);
        let bytes = self.meter.done(self.inner.get_range(path, range).await)?;
        self.meter.received(&bytes);
        Ok(bytes)
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta, StoreError> {
        self.meter.count(|usage| usage.heads += 1);
        self.meter.done(self.inner.head(path).await)
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectMeta>, StoreError> {
        let listed = self.meter.done(self.inner.list(prefix, after).await);
        let objects = listed.as_ref().map_or(0, Vec::len) as u64;
        self.meter.count(|usage| usage.lists += objects.div_ceil(PAGE).max(1));
        listed
    }

    async fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let listed = self.meter.done(self.inner.folders(folder).await);
        let folders = listed.as_ref().map_or(0, Vec::len) as u64;
        self.meter.count(|usage| usage.lists += folders.div_ceil(PAGE).max(1));
        listed
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.meter.count(|usage| usage.deletes += 1);
        self.meter.done(self.inner.delete(path).await)
    }
}

struct Upload {
    inner: Box<dyn Multipart>,
    meter: Meter,
}

#[async_trait]
impl Multipart for Upload {
    async fn part(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.meter.count(|usage| {
            usage.parts += 1;
            usage.bytes_up += bytes.len() as u64;
        });
        self.meter.done(self.inner.part(bytes).await)
    }

    async fn complete(&mut self, mode: PutMode) -> Result<PutOutcome, StoreError> {
        self.meter.count(|usage| usage.completions += 1);
        self.meter.written(self.inner.complete(mode).await)
    }

    async fn abort(self: Box<Self>) {
        self.meter.count(|usage| usage.aborts += 1);
        self.inner.abort().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{Scripted, Step, broken, path};
    use crate::{LARGE, put_large};

    #[tokio::test]
    async fn every_request_and_every_byte_counts() {
        let store = Metered::new(Arc::new(Scripted::new()));
        let a = path("a");
        let body = Bytes::from_static(b"12345");
        store.put(&a, body.clone(), PutMode::Create).await.unwrap();
        store.put(&a, body, PutMode::Create).await.unwrap();
        store.get(&a).await.unwrap();
        store.get_range(&a, 1..3).await.unwrap();
        store.head(&a).await.unwrap();
        store.head(&path("absent")).await.unwrap_err();
        store.list("", None).await.unwrap();
        let large = Bytes::from(vec![0; LARGE + 1]);
        put_large(&store, &path("large"), large, PutMode::Create).await.unwrap();
        store.multipart(&a).await.unwrap().abort().await;
        store.delete(&a).await.unwrap();
        let expected = Usage {
            puts: 2,
            uploads: 2,
            parts: 2,
            completions: 1,
            aborts: 1,
            gets: 2,
            heads: 2,
            lists: 1,
            deletes: 1,
            conflicts: 1,
            errors: 1,
            bytes_up: 10 + LARGE as u64 + 1,
            bytes_down: 7,
        };
        assert_eq!(store.usage(), expected);
        assert_eq!((expected.writes(), expected.reads()), (9, 5));
    }

    #[tokio::test]
    async fn failed_requests_and_pages_count() {
        let scripted = Arc::new(Scripted::new());
        for n in 0..2_001 {
            scripted.put(&path(&n.to_string()), Bytes::new(), PutMode::Create).await.unwrap();
        }
        let store = Metered::new(scripted.clone());
        scripted.script([Step::Fail(broken())]);
        store.list("", None).await.unwrap_err();
        store.list("", None).await.unwrap();
        assert_eq!(store.usage(), Usage { lists: 1 + 3, errors: 1, ..Usage::default() });
    }
}
