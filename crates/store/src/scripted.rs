//! A store in memory that fails as told, for the tests of what is built around stores.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    Memory, Multipart, Object, ObjectMeta, ObjectPath, ObjectStore, PutMode, PutOutcome, StoreError,
};

/// What becomes of a call. Calls that the script does not reach succeed.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Nothing happens but the error.
    Fail(StoreError),
    /// The call takes effect, and its answer is lost.
    Lose(StoreError),
    /// The call succeeds.
    Pass,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Scripted {
    memory: Memory,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    script: Mutex<VecDeque<Step>>,
    calls: Mutex<Vec<(&'static str, Instant)>>,
    latency: Mutex<Duration>,
    reads: Flow,
    writes: Flow,
}

/// Calls under way, and the most that ever were.
#[derive(Debug, Default)]
struct Flow {
    now: AtomicUsize,
    most: AtomicUsize,
}

pub(crate) fn path(text: &str) -> ObjectPath {
    ObjectPath::parse(text).unwrap()
}

/// A transient error.
pub(crate) fn broken() -> StoreError {
    StoreError::Io { path: "p".into(), source: Arc::new(io::Error::other("the connection broke")) }
}

pub(crate) fn contended() -> StoreError {
    StoreError::Contended { path: "p".into() }
}

impl Scripted {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn with_latency(self, latency: Duration) -> Self {
        *self.shared.latency.lock().unwrap() = latency;
        self
    }

    /// Adds steps for the calls to come.
    pub(crate) fn script(&self, steps: impl IntoIterator<Item = Step>) {
        self.shared.script.lock().unwrap().extend(steps);
    }

    /// The calls so far.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        self.shared.calls.lock().unwrap().iter().map(|(call, _)| *call).collect()
    }

    /// When each call came.
    pub(crate) fn instants(&self) -> Vec<Instant> {
        self.shared.calls.lock().unwrap().iter().map(|(_, instant)| *instant).collect()
    }

    /// The most reads and writes that were under way at a time.
    pub(crate) fn most_at_a_time(&self) -> (usize, usize) {
        let most = |flow: &Flow| flow.most.load(Ordering::SeqCst);
        (most(&self.shared.reads), most(&self.shared.writes))
    }
}

impl Shared {
    async fn meet<T>(
        &self,
        call: &'static str,
        act: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.calls.lock().unwrap().push((call, Instant::now()));
        let flow = if ["get", "head", "list"].contains(&call) { &self.reads } else { &self.writes };
        flow.most.fetch_max(flow.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let latency = *self.latency.lock().unwrap();
        tokio::time::sleep(latency).await;
        let step = self.script.lock().unwrap().pop_front().unwrap_or(Step::Pass);
        let result = match step {
            Step::Fail(error) => Err(error),
            Step::Lose(error) => act.await.and(Err(error)),
            Step::Pass => act.await,
        };
        flow.now.fetch_sub(1, Ordering::SeqCst);
        result
    }
}

#[async_trait]
impl ObjectStore for Scripted {
    async fn put(&self, path: &ObjectPath, bytes: Bytes, mode: PutMode) -> Result<PutOutcome, StoreError> {
        self.shared.meet("put", self.memory.put(path, bytes, mode)).await
    }

    async fn multipart(&self, path: &ObjectPath) -> Result<Box<dyn Multipart>, StoreError> {
        let inner = self.shared.meet("multipart", self.memory.multipart(path)).await?;
        Ok(Box::new(Upload { inner, shared: Arc::clone(&self.shared) }))
    }

    async fn get(&self, path: &ObjectPath) -> Result<Object, StoreError> {
        self.shared.meet("get", self.memory.get(path)).await
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.shared.meet("get", self.memory.get_range(path, range)).await
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta, StoreError> {
        self.shared.meet("head", self.memory.head(path)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectMeta>, StoreError> {
        self.shared.meet("list", self.memory.list(prefix, after)).await
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.shared.meet("delete", self.memory.delete(path)).await
    }
}

struct Upload {
    inner: Box<dyn Multipart>,
    shared: Arc<Shared>,
}

#[async_trait]
impl Multipart for Upload {
    async fn part(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        // A part that is repeated takes the place of the one whose answer was lost, so it counts as not sent.
        self.shared.meet("part", async { Ok(()) }).await?;
        self.inner.part(bytes).await
    }

    async fn complete(&mut self, mode: PutMode) -> Result<PutOutcome, StoreError> {
        self.shared.meet("complete", self.inner.complete(mode)).await
    }

    async fn abort(self: Box<Self>) {
        self.shared.calls.lock().unwrap().push(("abort", Instant::now()));
        self.inner.abort().await;
    }
}
