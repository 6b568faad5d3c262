//! A pod that this process holds, and its certain removal.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kube::api::DeleteParams;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use super::cluster::{CallError, Cluster};
use super::watch::{Seen, Watch};
use crate::SandboxError;
use crate::guest::Teardown;

/// Removals under way at a time, so that closing many sandboxes does not flood the API server.
const REMOVALS: usize = 16;

/// How long a node has to end a pod before the pod is removed without its word.
const NODE_HAS: Duration = Duration::from_secs(60);

/// How often a pod that is ending is looked at, besides the watch.
const LOOK: Duration = Duration::from_secs(5);

/// Removes pods in the background; owns the tasks that do it.
pub(super) struct Removals {
    cluster: Arc<Cluster>,
    watch: Arc<Watch>,
    pub(super) tasks: TaskTracker,
    permits: Semaphore,
    /// Cloned by whoever has a pod, or is about to.
    used: Arc<()>,
}

/// A pod from before it exists. Dropping it removes the pod in the background.
pub(super) struct Held {
    removals: Arc<Removals>,
    pub(super) name: String,
    _in_use: Arc<()>,
}

impl Removals {
    pub(super) fn new(cluster: Arc<Cluster>, watch: Arc<Watch>) -> Self {
        Self {
            cluster,
            watch,
            tasks: TaskTracker::new(),
            permits: Semaphore::new(REMOVALS),
            used: Arc::new(()),
        }
    }

    /// Takes charge of a pod that is about to be created.
    pub(super) fn hold(self: &Arc<Self>, name: String) -> Held {
        self.watch.track(&name);
        Held { removals: self.clone(), name, _in_use: self.in_use() }
    }

    /// Says, until it is dropped, that this process has a pod or is about to.
    pub(super) fn in_use(&self) -> Arc<()> {
        self.used.clone()
    }

    /// Whether this process has no pod and is not about to.
    pub(super) fn is_unused(&self) -> bool {
        Arc::strong_count(&self.used) == 1
    }

    /// Waits until every removal begun so far is done.
    pub(super) async fn settle(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }

    fn begin(self: &Arc<Self>, name: String) {
        // Outside a runtime (the last drop at process end) the guest ends by itself, and its slot's object does the rest.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let removals = self.clone();
        let removal = async move {
            if let Err(error) = removals.remove(&name).await {
                tracing::warn!(pod = name, %error, "left for the slot's next start to remove");
            }
            removals.watch.forget(&name);
        };
        self.tasks.spawn_on(removal, &runtime);
    }

    async fn remove(&self, name: &str) -> Result<(), SandboxError> {
        {
            let _permit = self.permits.acquire().await;
            self.delete(name, None).await?;
        }
        if !self.is_gone_within(name, NODE_HAS).await {
            self.delete(name, Some(0)).await?;
        }
        Ok(())
    }

    /// Asks for the deletion. A pod that is not there is deleted.
    async fn delete(&self, name: &str, grace: Option<u32>) -> Result<(), SandboxError> {
        let options = DeleteParams { grace_period_seconds: grace, ..DeleteParams::default() };
        match self.cluster.call(|| self.cluster.pods.delete(name, &options)).await {
            Err(error) if !error.is_not_found() => Err(self.cluster.error("delete a pod", error)),
            _ => Ok(()),
        }
    }

    async fn is_gone_within(&self, name: &str, patience: Duration) -> bool {
        let begun = Instant::now();
        let mut changes = self.watch.changes();
        while begun.elapsed() < patience {
            if !matches!(self.watch.seen(name), Seen::There(_)) {
                return true;
            }
            if matches!(timeout(LOOK, changes.changed()).await, Ok(Ok(()))) {
                continue;
            }
            match self.cluster.call(|| self.cluster.pods.get_opt(name)).await {
                Ok(None) => return true,
                Ok(Some(_)) | Err(CallError::Refused(_)) => {}
                Err(CallError::Away(_)) => return false,
            }
        }
        false
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            self.removals.begin(std::mem::take(&mut self.name));
        }
    }
}

#[async_trait]
impl Teardown for Held {
    /// Returns at once: the deletion is on its way, and the guest was told to end as well.
    async fn end(self: Box<Self>) -> Result<(), SandboxError> {
        drop(self);
        Ok(())
    }

    fn handle(&self) -> &str {
        &self.name
    }
}
