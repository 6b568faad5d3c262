//! Doing what was decided.

use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::ClusterError;
use crate::decide::{Beginning, Command};
use crate::fleet::Fleet;
use crate::observe::{HELD, is_queued};
use crate::template::{PROGRESS, PROGRESS_AT, job_name};

/// Who owns the fields of what is applied.
pub(crate) const MANAGER: &str = "thresher";
/// Who owns a pause and the progress, which applying the rest must not take back.
const HOLDER: &str = "thresher-control";

impl Fleet {
    pub(crate) async fn apply(&self, command: &Command) -> Result<(), ClusterError> {
        match command {
            Command::Begin { generation, slots, beginning } => {
                self.begin(*generation, self.template.job(*generation, *slots, beginning)).await
            }
            Command::Resize { generation, slots } => {
                self.change(*generation, self.template.resized(*slots)).await
            }
            Command::Hold { generation } => self.hold(*generation, true).await,
            Command::Release { generation } => self.hold(*generation, false).await,
            Command::Delete { generation } => self.delete(*generation).await,
            Command::Annotate { generation, progress } => {
                let at =
                    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                let annotations = json!({ PROGRESS: progress, PROGRESS_AT: at.as_secs().to_string() });
                self.change(*generation, json!({ "metadata": { "annotations": annotations } })).await
            }
            Command::End(_) => Ok(()),
        }
    }

    async fn begin(&self, generation: u32, job: Value) -> Result<(), ClusterError> {
        let name = job_name(self.ledger.run(), generation);
        let parameters = PatchParams::apply(MANAGER).force();
        let applied = self.jobs().patch(&name, &parameters, &Patch::Apply(&job)).await;
        match applied {
            // Another coordinator was first, and what pods are made from never changes: the next look shows what it made.
            // A queue that has begun it meanwhile refuses with another code.
            Err(kube::Error::Api(status))
                if [403, 422].contains(&status.code) && self.is_there(&name).await =>
            {
                Ok(())
            }
            done => done.map(drop).map_err(|error| ClusterError::of(&format!("apply KubeJob {name}"), error)),
        }
    }

    async fn is_there(&self, name: &str) -> bool {
        self.jobs().get_opt(name).await.is_ok_and(|found| found.is_some())
    }

    /// Suspends a generation or takes that back: a queue's by its workload, which the queue then respects.
    async fn hold(&self, generation: u32, held: bool) -> Result<(), ClusterError> {
        let name = job_name(self.ledger.run(), generation);
        let found = self.jobs().get_opt(&name).await;
        let found = found.map_err(|error| ClusterError::of(&format!("read KubeJob {name}"), error))?;
        let Some(job) = found else { return Ok(()) };
        let mark = json!({ "metadata": { "annotations": { HELD: held.to_string() } } });
        match (is_queued(&job), held) {
            (false, _) => {
                let mut change = json!({ "spec": { "suspend": held } });
                crate::merge::merge(&mut change, &mark);
                self.change(generation, change).await
            }
            // Whoever is killed between the two leaves what is not yet done to be seen.
            (true, true) if self.workloads_of(&job).await?.is_empty() => Ok(()),
            (true, true) => {
                self.change(generation, mark).await?;
                self.set_workload_active(&job, false).await
            }
            (true, false) => {
                self.set_workload_active(&job, true).await?;
                self.change(generation, mark).await
            }
        }
    }

    async fn change(&self, generation: u32, change: Value) -> Result<(), ClusterError> {
        let name = job_name(self.ledger.run(), generation);
        let patched = self.jobs().patch(&name, &parameters(), &Patch::Merge(&change)).await;
        match patched {
            // Somebody deleted it meanwhile: the next look shows that.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            done => {
                done.map(drop).map_err(|error| ClusterError::of(&format!("change KubeJob {name}"), error))
            }
        }
    }

    async fn delete(&self, generation: u32) -> Result<(), ClusterError> {
        let name = job_name(self.ledger.run(), generation);
        // Until its pods are gone it stays to be seen, and makes no others.
        match self.jobs().delete(&name, &DeleteParams::foreground()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            done => {
                let done =
                    done.map_err(|error| ClusterError::of(&format!("delete KubeJob {name}"), error))?;
                if let Some(job) = done.left().filter(is_queued) {
                    self.wait_for_quota_of(&job).await;
                }
            }
        }
        Ok(())
    }

    /// Has the cluster check the run's KubeJob without making it. Where it has a queue, Kueue must be there: without it the KubeJob
    /// would begin at once.
    ///
    /// # Errors
    /// What the cluster says against it.
    pub async fn check(&self) -> Result<(), ClusterError> {
        if self.spec.queue.is_some() {
            self.workloads().await?;
        }
        let beginning = Beginning { wanted: self.spec.slots, round: 1, graded: 0, older_drain: false };
        let job = self.template.job(1, self.spec.slots, &beginning);
        let typed = serde_json::from_value(job).map_err(|error| ClusterError::Template(error.to_string()))?;
        let dry = PostParams { dry_run: true, field_manager: Some(MANAGER.to_owned()) };
        match self.jobs().create(&dry, &typed).await {
            // It is there already.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            done => done.map(drop).map_err(|error| ClusterError::of("make the run's KubeJob", error)),
        }
    }
}

pub(crate) fn parameters() -> PatchParams {
    PatchParams { field_manager: Some(HOLDER.to_owned()), ..PatchParams::default() }
}
