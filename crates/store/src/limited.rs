//! A bound on what is under way at a time.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{Multipart, Object, ObjectMeta, ObjectPath, ObjectStore, PutMode, PutOutcome, StoreError};

/// How many calls may be under way at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Gets, heads and listings.
    pub reads: usize,
    /// Puts, parts, completions and deletes. Each may hold a body in memory.
    pub writes: usize,
}

impl Default for Limits {
    /// Far below what a bucket's prefix serves per second (5,500 reads, 3,500 writes), so that hundreds of workers
    /// may share it, and more than one worker needs.
    fn default() -> Self {
        Self { reads: 32, writes: 16 }
    }
}

/// A store that lets only so many calls through at a time; further ones wait in the order of their arrival.
///
/// Reads and writes wait apart: a claim is not kept waiting by those who read logs. Between its parts an upload holds no
/// place.
#[derive(Clone, Debug)]
pub struct Limited {
    inner: Arc<dyn ObjectStore>,
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
}

impl Limited {
    /// Wraps `inner`. A limit of 0 counts as 1.
    pub fn new(inner: Arc<dyn ObjectStore>, limits: Limits) -> Self {
        let Limits { reads, writes } = limits;
        let semaphore = |limit: usize| Arc::new(Semaphore::new(limit.clamp(1, Semaphore::MAX_PERMITS)));
        Self { inner, reads: semaphore(reads), writes: semaphore(writes) }
    }
}

async fn place(among: &Semaphore) -> SemaphorePermit<'_> {
    among.acquire().await.expect("nobody closes the semaphore")
}

#[async_trait]
impl ObjectStore for Limited {
    async fn put(&self, path: &ObjectPath, bytes: Bytes, mode: PutMode) -> Result<PutOutcome, StoreError> {
        let _place = place(&self.writes).await;
        self.inner.put(path, bytes, mode).await
    }

    async fn multipart(&self, path: &ObjectPath) -> Result<Box<dyn Multipart>, StoreError> {
        let _place = place(&self.writes).await;
        let inner = self.inner.multipart(path).await?;
        Ok(Box::new(Upload { inner, writes: Arc::clone(&self.writes) }))
    }

    async fn get(&self, path: &ObjectPath) -> Result<Object, StoreError> {
        let _place = place(&self.reads).await;
        self.inner.get(path).await
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError> {
        let _place = place(&self.reads).await;
        self.inner.get_range(path, range).await
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta, StoreError> {
        let _place = place(&self.reads).await;
        self.inner.head(path).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectMeta>, StoreError> {
        let _place = place(&self.reads).await;
        self.inner.list(prefix, after).await
    }

    async fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let _place = place(&self.reads).await;
        self.inner.folders(folder).await
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        let _place = place(&self.writes).await;
        self.inner.delete(path).await
    }
}

struct Upload {
    inner: Box<dyn Multipart>,
    writes: Arc<Semaphore>,
}

#[async_trait]
impl Multipart for Upload {
    async fn part(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let _place = place(&self.writes).await;
        self.inner.part(bytes).await
    }

    async fn complete(&mut self, mode: PutMode) -> Result<PutOutcome, StoreError> {
        let _place = place(&self.writes).await;
        self.inner.complete(mode).await
    }

    async fn abort(self: Box<Self>) {
        let _place = place(&self.writes).await;
        self.inner.abort().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::{join, join_all};

    use super::*;
    use crate::scripted::{Scripted, path};

    #[tokio::test(start_paused = true)]
    async fn reads_and_writes_are_bounded_apart() {
        let slow = Arc::new(Scripted::new().with_latency(Duration::from_secs(1)));
        let store = Limited::new(slow.clone(), Limits { reads: 3, writes: 2 });
        let began = tokio::time::Instant::now();
        let puts = join_all((0..6).map(|n| store_one(&store, n)));
        let reads = join_all((0..6).map(|_| store.list("", None)));
        join(puts, reads).await;
        assert_eq!(slow.most_at_a_time(), (3, 2));
        // Six puts two at a time, and six listings three at a time beside them.
        assert_eq!(began.elapsed(), Duration::from_secs(3));
    }

    async fn store_one(store: &Limited, n: u32) {
        let at = path(&format!("a/{n}"));
        store.put(&at, Bytes::new(), PutMode::Create).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_holds_no_place_between_its_parts() {
        let store = Limited::new(Arc::new(Scripted::new()), Limits { reads: 0, writes: 0 });
        let mut first = store.multipart(&path("a")).await.unwrap();
        let mut second = store.multipart(&path("b")).await.unwrap();
        first.part(Bytes::from_static(b"1")).await.unwrap();
        second.part(Bytes::from_static(b"2")).await.unwrap();
        second.complete(PutMode::Create).await.unwrap();
        first.complete(PutMode::Create).await.unwrap();
        assert_eq!(store.get(&path("a")).await.unwrap().bytes, "1");
    }
}
