//! A container that this process holds, and its certain removal.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::query_parameters::{RemoveContainerOptions, WaitContainerOptions};
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use super::engine::{CallError, Engine};
use super::watch::Watch;
use crate::SandboxError;
use crate::guest::Teardown;

/// Removals under way at a time. Closing more sandboxes waits, so that a slow daemon slows the runner down instead of
/// gathering dead containers without bound.
const REMOVALS: usize = 32;

/// How long a container whose stream was closed has to go by itself before it is killed.
const GOES_BY_ITSELF: Duration = Duration::from_secs(1);

/// Kills tried before a container is left to a later reaper.
const TRIES: u32 = 5;

/// Removes containers in the background; owns the tasks that do it.
pub(super) struct Removals {
    engine: Arc<Engine>,
    watch: Arc<Watch>,
    tasks: TaskTracker,
    permits: Arc<Semaphore>,
}

/// How far a container got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Never started: nothing will end it but us.
    Created,
    /// Its guest ends with its stream, and the daemon removes it then.
    Started,
}

/// A container from the moment it exists. Dropping it removes the container in the background.
pub(super) struct Held {
    removals: Arc<Removals>,
    pub(super) id: String,
    stage: Stage,
}

impl Removals {
    pub(super) fn new(engine: Arc<Engine>, watch: Arc<Watch>) -> Self {
        Self { engine, watch, tasks: TaskTracker::new(), permits: Arc::new(Semaphore::new(REMOVALS)) }
    }

    /// Takes charge of a container that was just created.
    pub(super) fn hold(self: &Arc<Self>, id: String) -> Held {
        Held { removals: self.clone(), id, stage: Stage::Created }
    }

    /// Waits until every removal begun so far is done.
    pub(super) async fn settle(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }

    /// Runs `work` to its end, even if nobody waits for it; [`Removals::settle`] does.
    pub(super) fn track(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.tasks.spawn(work));
    }

    fn begin(self: &Arc<Self>, id: String, stage: Stage, permit: Option<OwnedSemaphorePermit>) {
        // Outside a runtime (the last drop at process end) the daemon's auto-remove and the reaper do the work.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let removals = self.clone();
        let removal = async move {
            let _permit = match permit {
                Some(permit) => Some(permit),
                None => removals.permits.clone().acquire_owned().await.ok(),
            };
            removals.remove(&id, stage).await;
        };
        self.tasks.spawn_on(removal, &runtime);
    }

    async fn remove(&self, id: &str, stage: Stage) {
        if stage == Stage::Started && self.is_gone_within(id, GOES_BY_ITSELF).await {
            return;
        }
        for attempt in 1..=TRIES {
            match self.kill(id).await {
                Ok(()) => return,
                Err(error) => tracing::debug!(container = id, attempt, ?error, "removal refused"),
            }
            if self.is_gone_within(id, GOES_BY_ITSELF * attempt).await {
                return;
            }
        }
        tracing::warn!(container = id, "left for a later start to remove");
    }

    /// Kills and removes; a container that is not there any more is removed.
    async fn kill(&self, id: &str) -> Result<(), CallError> {
        match self.engine.call(self.engine.api.remove_container(id, Some(force()))).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Waits until the daemon says that the container is removed.
    async fn is_gone_within(&self, id: &str, patience: Duration) -> bool {
        let options = WaitContainerOptions { condition: "removed".into() };
        let mut waiting = Box::pin(self.engine.api.wait_container(id, Some(options)));
        match tokio::time::timeout(patience, waiting.next()).await {
            // An exit code other than 0 comes as an error, too: the container is removed all the same.
            Ok(Some(Ok(_) | Err(bollard::errors::Error::DockerContainerWaitError { .. }))) => true,
            Ok(Some(Err(error))) => CallError::from(error).is_not_found(),
            Ok(None) | Err(_) => false,
        }
    }
}

/// Kill at once, and anonymous volumes with it.
pub(super) fn force() -> RemoveContainerOptions {
    RemoveContainerOptions { force: true, v: true, link: false }
}

impl Held {
    /// Notes that the start call is about to be made.
    pub(super) fn starting(&mut self) {
        self.stage = Stage::Started;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.id.is_empty() {
            self.removals.watch.ended(&self.id);
            self.removals.begin(std::mem::take(&mut self.id), self.stage, None);
        }
    }
}

#[async_trait]
impl Teardown for Held {
    /// Returns as soon as the removal is under way. The stream is closed by then, so the guest, and every process of
    /// the sandbox with it, ends at once; the daemon takes longer to clear away.
    async fn end(mut self: Box<Self>) -> Result<(), SandboxError> {
        let permit = self.removals.permits.clone().acquire_owned().await.ok();
        let id = std::mem::take(&mut self.id);
        self.removals.watch.ended(&id);
        self.removals.begin(id, self.stage, permit);
        Ok(())
    }

    fn handle(&self) -> &str {
        &self.id
    }
}
