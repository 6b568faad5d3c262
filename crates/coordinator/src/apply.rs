//! Doing what was decided.

use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::ClusterError;
use crate::decide::Command;
use crate::fleet::Fleet;
use crate::observe::HELD;
use crate::template::{PROGRESS, PROGRESS_AT, job_name};

/// Who owns the fields of what is applied.
pub(crate) const MANAGER: &str = "thresher";
/// Who owns a pause and the progress, which applying the rest must not take back.
const HOLDER: &str = "thresher-control";

impl Fleet {
    pub(crate) async fn apply(&self, command: &Command) -> Result<(), ClusterError> {
        match command {
            Command::Apply { generation, slots, began: (round, graded) } => {
                let job = self.template.job(*generation, *slots, *round, *graded);
                let name = job_name(self.ledger.run(), *generation);
                let parameters = PatchParams::apply(MANAGER).force();
                let applied = self.jobs().patch(&name, &parameters, &Patch::Apply(&job)).await;
                applied.map(drop).map_err(|error| ClusterError::of(&format!("apply KubeJob {name}"), error))
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

    /// Suspends a generation or takes that back: a queue's by its workload, which the queue then respects.
    async fn hold(&self, generation: u32, held: bool) -> Result<(), ClusterError> {
        let mark = json!({ "metadata": { "annotations": { HELD: held.to_string() } } });
        if self.spec.queue.is_some() {
            self.change(generation, mark).await?;
            return self.set_workload_active(generation, !held).await;
        }
        let mut change = json!({ "spec": { "suspend": held } });
        crate::merge::merge(&mut change, &mark);
        self.change(generation, change).await
    }

    async fn set_workload_active(&self, generation: u32, active: bool) -> Result<(), ClusterError> {
        let name = job_name(self.ledger.run(), generation);
        let job = self
            .jobs()
            .get(&name)
            .await
            .map_err(|error| ClusterError::of(&format!("read KubeJob {name}"), error))?;
        let workloads: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &self.spec.namespace, &workload());
        let of_job = format!("kueue.x-k8s.io/job-uid={}", job.metadata.uid.unwrap_or_default());
        let found = workloads.list(&ListParams::default().labels(&of_job)).await;
        let found = found.map_err(|error| ClusterError::of("list Kueue's workloads", error))?;
        for workload in found.items.iter().filter_map(|workload| workload.metadata.name.as_deref()) {
            let change = json!({ "spec": { "active": active } });
            let patched = workloads.patch(workload, &parameters(), &Patch::Merge(&change)).await;
            patched.map_err(|error| ClusterError::of(&format!("change workload {workload}"), error))?;
        }
        Ok(())
    }

    async fn change(&self, generation: u32, change: serde_json::Value) -> Result<(), ClusterError> {
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
        match self.jobs().delete(&name, &DeleteParams::background()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            done => {
                done.map(drop).map_err(|error| ClusterError::of(&format!("delete KubeJob {name}"), error))
            }
        }
    }

    /// Has the cluster check the run's KubeJob without making it.
    ///
    /// # Errors
    /// What the cluster says against it.
    pub async fn check(&self) -> Result<(), ClusterError> {
        let job = self.template.job(1, self.spec.slots, 1, 0);
        let typed = serde_json::from_value(job).map_err(|error| ClusterError::Template(error.to_string()))?;
        let dry = PostParams { dry_run: true, field_manager: Some(MANAGER.to_owned()) };
        match self.jobs().create(&dry, &typed).await {
            // It is there already.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            done => done.map(drop).map_err(|error| ClusterError::of("make the run's KubeJob", error)),
        }
    }
}

fn parameters() -> PatchParams {
    PatchParams { field_manager: Some(HOLDER.to_owned()), ..PatchParams::default() }
}

fn workload() -> ApiResource {
    ApiResource {
        group: "kueue.x-k8s.io".to_owned(),
        version: "v1beta1".to_owned(),
        api_version: "kueue.x-k8s.io/v1beta1".to_owned(),
        kind: "Workload".to_owned(),
        plural: "workloads".to_owned(),
    }
}
