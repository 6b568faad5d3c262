//! Kueue: a generation that it admits is held by its workload, which Kueue then leaves alone.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::api::{DynamicObject, GroupVersionKind, ListParams, Patch};
use kube::{Api, ResourceExt as _, discovery};
use serde_json::{Value, json};

use crate::ClusterError;
use crate::apply::parameters;
use crate::error::chain;
use crate::fleet::Fleet;

const GROUP: &str = "kueue.x-k8s.io";
/// Versions of its API that have what is needed here, the best one first.
const VERSIONS: [&str; 2] = ["v1beta2", "v1beta1"];
/// How often it is looked whether quota is back, and how many times. It takes a moment, whatever pods do.
const QUOTA_EVERY: Duration = Duration::from_millis(200);
const QUOTA_LOOKS: u32 = 50;

impl Fleet {
    /// Has Kueue end the pods of a KubeJob, or admit it again.
    pub(crate) async fn set_workload_active(&self, job: &Job, active: bool) -> Result<(), ClusterError> {
        let workloads = self.workloads().await?;
        for workload in self.workloads_of(job).await? {
            let name = workload.name_any();
            let change = json!({ "spec": { "active": active } });
            let patched = workloads.patch(&name, &parameters(), &Patch::Merge(&change)).await;
            patched.map_err(|error| ClusterError::of(&format!("change workload {name}"), error))?;
        }
        Ok(())
    }

    /// What Kueue made of a KubeJob: a workload, or for a moment none or several.
    pub(crate) async fn workloads_of(&self, job: &Job) -> Result<Vec<DynamicObject>, ClusterError> {
        let of_job = format!("{GROUP}/job-uid={}", job.metadata.uid.as_deref().unwrap_or_default());
        let found = self.workloads().await?.list(&ListParams::default().labels(&of_job)).await;
        Ok(found.map_err(|error| ClusterError::of("list Kueue's workloads", error))?.items)
    }

    /// Waits until Kueue counts a KubeJob no longer that is being deleted. Its pods may drain for longer.
    pub(crate) async fn wait_for_quota_of(&self, job: &Job) {
        for _ in 0..QUOTA_LOOKS {
            match self.workloads_of(job).await {
                Ok(found) if !found.is_empty() => tokio::time::sleep(QUOTA_EVERY).await,
                Ok(_) => return,
                // What comes next does not depend on it.
                Err(error) => {
                    tracing::debug!(error = chain(&error), "a workload's end was not seen");
                    return;
                }
            }
        }
    }

    /// Why Kueue has not admitted a KubeJob, if it says so.
    pub(crate) async fn not_admitted(&self, job: &Job) -> Result<Option<String>, ClusterError> {
        Ok(self.workloads_of(job).await?.iter().find_map(|workload| refusal(&workload.data)))
    }

    /// Kueue's workloads in the version that this cluster serves.
    pub(crate) async fn workloads(&self) -> Result<Api<DynamicObject>, ClusterError> {
        for version in VERSIONS {
            let kind = GroupVersionKind::gvk(GROUP, version, "Workload");
            match discovery::pinned_kind(&self.client, &kind).await {
                Ok((resource, _)) => {
                    let namespace = &self.spec.namespace;
                    return Ok(Api::namespaced_with(self.client.clone(), namespace, &resource));
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(kube::Error::Discovery(error)) => {
                    tracing::debug!(error = chain(&error), version, "not served");
                }
                Err(error) => return Err(ClusterError::of("say which versions of Kueue it serves", error)),
            }
        }
        Err(ClusterError::Template(format!(
            "`queue` is set, and the cluster serves no workloads of {GROUP} in {}: is Kueue installed?",
            VERSIONS.join(" or ")
        )))
    }
}

/// What a workload's conditions say against its admission.
fn refusal(workload: &Value) -> Option<String> {
    let conditions = workload["status"]["conditions"].as_array()?;
    let refuses = |condition: &&Value| {
        ["QuotaReserved", "Admitted"].iter().any(|kind| condition["type"] == *kind)
            && condition["status"] == "False"
    };
    let condition = conditions.iter().find(refuses)?;
    let part = |key: &str| condition[key].as_str().unwrap_or_default();
    Some(format!("its queue has not admitted it: {}: {}", part("reason"), part("message")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_says_what_it_waits_for() {
        let workload = |status: &str| {
            json!({ "status": { "conditions": [
                { "type": "Evicted", "status": "False", "reason": "QuotaReserved", "message": "Previously: m" },
                { "type": "QuotaReserved", "status": status, "reason": "Inadmissible", "message": "no quota" },
            ] } })
        };
        let said = Some("its queue has not admitted it: Inadmissible: no quota".to_owned());
        assert_eq!(refusal(&workload("False")), said);
        assert_eq!(refusal(&workload("True")), None);
        assert_eq!(refusal(&json!({ "spec": {} })), None);
    }
}
