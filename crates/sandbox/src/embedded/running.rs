//! A sandbox that runs: what ends it, and what lets its backend find its launcher again.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use thresher_guest::launch::Cgroup;
use tokio::sync::Mutex;

use super::cgroup::Cgroups;
use super::launcher::Launcher;
use crate::SandboxError;
use crate::guest::Teardown;

/// A launcher with what it leaves to the runner.
pub(super) struct Running {
    launcher: Mutex<Launcher>,
    cgroups: Option<Arc<Cgroups>>,
    own_cgroups: Vec<Cgroup>,
}

impl Running {
    pub(super) fn new(launcher: Launcher, cgroups: Option<Arc<Cgroups>>, own_cgroups: Vec<Cgroup>) -> Self {
        Self { launcher: Mutex::new(launcher), cgroups, own_cgroups }
    }

    /// Ends the sandbox; returns when no process of it is left.
    pub(super) async fn end(&self) -> Result<(), SandboxError> {
        let ended = self.launcher.lock().await.end().await;
        self.clear();
        ended
    }

    /// Why it did not start, if its launcher knows. For after its end.
    pub(super) async fn failure(&self) -> Option<SandboxError> {
        self.launcher.lock().await.failure().await
    }

    /// Ends it but keeps what it wrote until [`Running::end`]. Returns the folder.
    pub(super) async fn hold(&self) -> Result<PathBuf, SandboxError> {
        self.launcher.lock().await.hold().await
    }

    fn clear(&self) {
        if let Some(cgroups) = &self.cgroups {
            cgroups.clear(&self.own_cgroups);
        }
    }
}

/// The sandbox's own hold on it. Dropping it lets go of the launcher, which then ends everything by itself.
pub(super) struct Hold {
    pub(super) name: String,
    pub(super) running: Arc<Running>,
}

#[async_trait]
impl Teardown for Hold {
    async fn end(self: Box<Self>) -> Result<(), SandboxError> {
        self.running.end().await
    }

    fn handle(&self) -> &str {
        &self.name
    }
}
