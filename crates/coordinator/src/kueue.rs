//! Kueue: a generation that it admits is held by its workload, which Kueue then leaves alone.

use kube::api::{DynamicObject, GroupVersionKind, ListParams, Patch};
use kube::{Api, discovery};
use serde_json::json;

use crate::ClusterError;
use crate::apply::parameters;
use crate::error::chain;
use crate::fleet::Fleet;
use crate::template::job_name;

const GROUP: &str = "kueue.x-k8s.io";
/// Versions of its API that have what is needed here, the best one first.
const VERSIONS: [&str; 2] = ["v1beta2", "v1beta1"];

impl Fleet {
    /// Has Kueue end the pods of a generation, or admit it again.
    pub(crate) async fn set_workload_active(
        &self,
        generation: u32,
        active: bool,
    ) -> Result<(), ClusterError> {
        let name = job_name(self.ledger.run(), generation);
        let job = self
            .jobs()
            .get(&name)
            .await
            .map_err(|error| ClusterError::of(&format!("read KubeJob {name}"), error))?;
        let workloads = self.workloads().await?;
        let of_job = format!("{GROUP}/job-uid={}", job.metadata.uid.unwrap_or_default());
        let found = workloads.list(&ListParams::default().labels(&of_job)).await;
        let found = found.map_err(|error| ClusterError::of("list Kueue's workloads", error))?;
        for workload in found.items.iter().filter_map(|workload| workload.metadata.name.as_deref()) {
            let change = json!({ "spec": { "active": active } });
            let patched = workloads.patch(workload, &parameters(), &Patch::Merge(&change)).await;
            patched.map_err(|error| ClusterError::of(&format!("change workload {workload}"), error))?;
        }
        Ok(())
    }

    /// Kueue's workloads in the version that this cluster serves.
    async fn workloads(&self) -> Result<Api<DynamicObject>, ClusterError> {
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
