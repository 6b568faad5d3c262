//! Trying again what may succeed a little later.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

use crate::{Multipart, Object, ObjectMeta, ObjectPath, ObjectStore, PutMode, PutOutcome, StoreError};

/// How long to wait between tries, and for how long to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The longest pause after the first failure; it doubles with each further one.
    pub first: Duration,
    /// The longest pause at all.
    pub longest: Duration,
    /// Whether to wait also for room on a full medium, which somebody has to make.
    pub wait_for_room: bool,
    /// From the first try on; a pause that would end later is not begun, and the error is given to the caller.
    pub give_up_after: Duration,
}

impl Default for RetryPolicy {
    /// Bridges the restart of a server, and fails before an operator gives up.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(10),
            wait_for_room: false,
            give_up_after: Duration::from_secs(120),
        }
    }
}

/// A store that repeats calls after transient errors ([`StoreError::is_transient`]) with growing pauses, each drawn
/// evenly between nothing and its longest, so that many writers do not come back at once.
///
/// A repeated conditional put whose first acknowledgement was lost finds its own object in its way: then the outcome is
/// [`PutOutcome::Conflict`] although the write took effect. So a caller reads the object after a conflict, and
/// recognizes its own write by a nonce in the body: equal bytes or an equal etag may be another writer's.
///
/// What is to be sent again is kept: the body of a put, and one part of an upload. An upload that has to begin anew is
/// its owner's business, as in [`put_large`](crate::put_large).
#[derive(Clone, Debug)]
pub struct Retrying {
    inner: Arc<dyn ObjectStore>,
    pauses: Arc<Pauses>,
}

#[derive(Debug)]
struct Pauses {
    policy: RetryPolicy,
    random: Mutex<StdRng>,
}

impl Retrying {
    /// Wraps `inner`. The pauses follow from `seed` and the order of the calls alone.
    pub fn new(inner: Arc<dyn ObjectStore>, policy: RetryPolicy, seed: u64) -> Self {
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        Self { inner, pauses: Arc::new(Pauses { policy, random }) }
    }

    fn tries(&self, call: &'static str) -> Tries {
        Tries::begin(&self.pauses, call)
    }
}

impl Pauses {
    /// A pause after so many failures.
    fn draw(&self, failures: u32) -> Duration {
        let doubled = self.policy.first.saturating_mul(2_u32.saturating_pow(failures));
        let longest = doubled.min(self.policy.longest);
        // Drawing cannot leave the generator half-changed.
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        longest.mul_f64(random.random())
    }
}

/// The tries of one call.
struct Tries {
    pauses: Arc<Pauses>,
    call: &'static str,
    began: Instant,
    failures: u32,
}

impl Tries {
    fn begin(pauses: &Arc<Pauses>, call: &'static str) -> Self {
        Self { pauses: Arc::clone(pauses), call, began: Instant::now(), failures: 0 }
    }

    /// Says whether to try again after `error`, having paused if so.
    async fn again(&mut self, error: &StoreError) -> bool {
        let waits_for_room = self.pauses.policy.wait_for_room && matches!(error, StoreError::DiskFull { .. });
        if !error.is_transient() && !waits_for_room {
            return false;
        }
        let pause = self.pauses.draw(self.failures);
        if self.began.elapsed() + pause > self.pauses.policy.give_up_after {
            return false;
        }
        self.failures += 1;
        let (call, failures) = (self.call, self.failures);
        match error {
            // Usual where several write one object.
            StoreError::Contended { .. } => tracing::debug!(call, failures, %error, "trying again"),
            _ => tracing::warn!(call, failures, ?pause, %error, "trying again"),
        }
        tokio::time::sleep(pause).await;
        true
    }
}

#[async_trait]
impl ObjectStore for Retrying {
    async fn put(&self, path: &ObjectPath, bytes: Bytes, mode: PutMode) -> Result<PutOutcome, StoreError> {
        let mut tries = self.tries("put");
        loop {
            match self.inner.put(path, bytes.clone(), mode.clone()).await {
                Err(error) if tries.again(&error).await => {}
                done => return done,
            }
        }
    }

    async fn multipart(&self, path: &ObjectPath) -> Result<Box<dyn Multipart>, StoreError> {
        let mut tries = self.tries("multipart");
        loop {
            match self.inner.multipart(path).await {
                Err(error) if tries.again(&error).await => {}
                Err(error) => return Err(error),
                Ok(inner) => return Ok(Box::new(Upload { inner, pauses: Arc::clone(&self.pauses) })),
            }
        }
    }

    async fn get(&self, path: &ObjectPath) -> Result<Object, StoreError> {
        let mut tries = self.tries("get");
        loop {
            match self.inner.get(path).await {
                Err(error) if tries.again(&error).await => {}
                done => return done,
            }
        }
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError> {
        let mut tries = self.tries("get_range");
        loop {
            match self.inner.get_range(path, range.clone()).await {
                Err(error) if tries.again(&error).await => {}
                done => return done,
            }
        }
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta, StoreError> {
        let mut tries = self.tries("head");
        loop {
            match self.inner.head(path).await {
                Err(error) if tries.again(&error).await => {}
                done => return done,
            }
        }
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectMeta>, StoreError> {
        let mut tries = self.tries("list");
        loop {
            match self.inner.list(prefix, after).await {
                Err(error) if tries.again(&error).await => {}
                done => return done,
            }
        }
    }

    async fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let mut tries = self.tries("list");
        loop {
            match self.inner.folders(folder).await {
                Err(error) if tries.again(&error).await => {}
                done => return done,
            }
        }
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        let mut tries = self.tries("delete");
        loop {
            match self.inner.delete(path).await {
                Err(error) if tries.again(&error).await => {}
                done => return done,
            }
        }
    }
}

struct Upload {
    inner: Box<dyn Multipart>,
    pauses: Arc<Pauses>,
}

#[async_trait]
impl Multipart for Upload {
    async fn part(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let mut tries = Tries::begin(&self.pauses, "part");
        loop {
            match self.inner.part(bytes.clone()).await {
                Err(error) if tries.again(&error).await => {}
                done => return done,
            }
        }
    }

    async fn complete(&mut self, mode: PutMode) -> Result<PutOutcome, StoreError> {
        let mut tries = Tries::begin(&self.pauses, "complete");
        loop {
            match self.inner.complete(mode.clone()).await {
                // Only a new upload helps.
                Err(error @ StoreError::Contended { .. }) => return Err(error),
                Err(error) if tries.again(&error).await => {}
                done => return done,
            }
        }
    }

    async fn abort(self: Box<Self>) {
        self.inner.abort().await;
    }
}

#[cfg(test)]
mod tests;
