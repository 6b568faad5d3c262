//! What is left in the namespace of sandboxes' pods once a run is over.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt as _};

use crate::fleet::Fleet;
use crate::template::GENERATION;
use crate::{ClusterError, Placement};

impl Fleet {
    /// Removes the objects of worker slots whose last worker was killed, and with them their pods. No worker of a KubeJob is
    /// left when a run is over; those that somebody started elsewhere keep theirs.
    ///
    /// # Errors
    /// The cluster does not answer. What it refuses is left, and said in the log.
    pub(crate) async fn clear_sandboxes(&self) -> Result<(), ClusterError> {
        if self.spec.placement != Placement::Pods {
            return Ok(());
        }
        let Some(outline) = self.ledger.plan_outline().await? else { return Ok(()) };
        match self.clear_slots(&outline.spec.sandbox.pods.namespace).await {
            Err(error @ ClusterError::Refused { .. }) => {
                tracing::warn!(%error, "what killed workers left of their sandboxes stays");
                Ok(())
            }
            done => done,
        }
    }

    async fn clear_slots(&self, namespace: &str) -> Result<(), ClusterError> {
        let objects: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let of_slots = ListParams::default().labels(&format!("{},{GENERATION}", self.template.sandboxes()));
        let found = objects.list_metadata(&of_slots).await;
        for slot in found.map_err(|error| ClusterError::of("list the slots of sandboxes", error))?.items {
            let name = slot.name_any();
            match objects.delete(&name, &DeleteParams::background()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                done => {
                    drop(
                        done.map_err(|error| ClusterError::of(&format!("delete config map {name}"), error))?,
                    );
                }
            }
        }
        Ok(())
    }
}
