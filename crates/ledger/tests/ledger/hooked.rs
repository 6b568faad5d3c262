//! A store in memory with scripted trouble: another writer who acts at a chosen instant, a lost acknowledgement, a
//! crash, a listing that is behind.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use thresher_core::{RolloutRecord, RunId};
use thresher_ledger::Ledger;
use thresher_store::{
    Memory, Metered, Multipart, Object, ObjectMeta, ObjectPath, ObjectStore, PutMode, PutOutcome, StoreError,
};

use crate::fixtures::RUN;

type Action = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// What happens at the first put whose path begins with the hook's text.
pub(crate) enum Trouble {
    /// Another writer acts just before.
    Before(Action),
    /// The same before the first read below the hook's text, not the first put.
    BeforeRead(Action),
    /// The put takes effect, and its acknowledgement is lost: the writer tries again.
    LostAcknowledgement,
    /// The writer dies just before.
    Crash,
}

impl Trouble {
    pub(crate) fn before<F: Future<Output = ()> + Send + 'static>(
        act: impl FnOnce() -> F + Send + 'static,
    ) -> Self {
        Self::Before(Box::new(|| Box::pin(act())))
    }

    pub(crate) fn before_read<F: Future<Output = ()> + Send + 'static>(
        act: impl FnOnce() -> F + Send + 'static,
    ) -> Self {
        Self::BeforeRead(Box::new(|| Box::pin(act())))
    }
}

/// One writer's view of a shared store.
pub(crate) struct Hooked {
    shared: Arc<Memory>,
    hook: Mutex<Option<(&'static str, Trouble)>>,
    hidden: BTreeSet<String>,
}

impl fmt::Debug for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooked")
    }
}

/// A ledger over `shared` that meets `trouble` at its first put below `at`.
pub(crate) fn troubled(shared: &Arc<Memory>, at: &'static str, trouble: Trouble) -> Ledger {
    open(Hooked { shared: shared.clone(), hook: Mutex::new(Some((at, trouble))), hidden: BTreeSet::new() })
}

/// A ledger over `shared` that does not see the results of `hidden`.
pub(crate) fn blind(shared: &Arc<Memory>, hidden: &[RolloutRecord]) -> Ledger {
    let hidden = hidden.iter().map(|record| record.rollout_id.to_string()).collect();
    open(Hooked { shared: shared.clone(), hook: Mutex::new(None), hidden })
}

/// A ledger over `shared` without trouble.
pub(crate) fn plain(shared: &Arc<Memory>) -> Ledger {
    blind(shared, &[])
}

/// A ledger over `shared` whose requests are counted.
pub(crate) fn metered(shared: &Arc<Memory>) -> (Metered, Ledger) {
    let store = Metered::new(shared.clone());
    (store.clone(), Ledger::open(Arc::new(store), "", RunId::new(RUN)).unwrap())
}

fn open(store: Hooked) -> Ledger {
    Ledger::open(Arc::new(store), "", RunId::new(RUN)).unwrap()
}

impl Hooked {
    fn trouble(&self, path: &ObjectPath, reads: bool) -> Option<Trouble> {
        let mut hook = self.hook.lock().unwrap();
        let due = hook.as_ref().is_some_and(|(at, trouble)| {
            path.as_str().starts_with(at) && reads == matches!(trouble, Trouble::BeforeRead(_))
        });
        if due { hook.take().map(|(_, trouble)| trouble) } else { None }
    }
}

#[async_trait]
impl ObjectStore for Hooked {
    async fn put(&self, path: &ObjectPath, bytes: Bytes, mode: PutMode) -> Result<PutOutcome, StoreError> {
        match self.trouble(path, false) {
            Some(Trouble::Before(act) | Trouble::BeforeRead(act)) => act().await,
            Some(Trouble::LostAcknowledgement) => {
                self.shared.put(path, bytes.clone(), mode.clone()).await?;
            }
            Some(Trouble::Crash) => return Err(StoreError::NotFound { path: "the writer".into() }),
            None => {}
        }
        self.shared.put(path, bytes, mode).await
    }

    async fn get(&self, path: &ObjectPath) -> Result<Object, StoreError> {
        if let Some(Trouble::BeforeRead(act)) = self.trouble(path, true) {
            act().await;
        }
        self.shared.get(path).await
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.shared.get_range(path, range).await
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta, StoreError> {
        self.shared.head(path).await
    }

    async fn multipart(&self, path: &ObjectPath) -> Result<Box<dyn Multipart>, StoreError> {
        self.shared.multipart(path).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectMeta>, StoreError> {
        let mut listed = self.shared.list(prefix, after).await?;
        listed.retain(|object| !self.hidden.contains(object.path.name()));
        Ok(listed)
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StoreError> {
        self.shared.delete(path).await
    }
}
