//! The slot's object: every pod of a slot goes with it, and the slot's next incarnation deletes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams, Preconditions};
use tokio::sync::Mutex;

use super::cluster::Cluster;
use super::spec::{OlderGenerations, OwnerRef, Ownership};
use crate::SandboxError;

/// How often the object of a former incarnation is deleted before it counts as that of a live one.
const TRIES: u32 = 5;

/// The slot's object, made when the first pod needs it.
pub(super) struct Owner {
    cluster: Arc<Cluster>,
    ownership: Ownership,
    name: String,
    made: Mutex<Option<OwnerRef>>,
}

impl Owner {
    pub(super) fn new(cluster: Arc<Cluster>, ownership: Ownership) -> Self {
        let name = ownership.owner_name();
        Self { cluster, ownership, name, made: Mutex::new(None) }
    }

    /// The object, made if need be.
    pub(super) async fn get(&self) -> Result<OwnerRef, SandboxError> {
        let mut made = self.made.lock().await;
        if let Some(owner) = &*made {
            return Ok(owner.clone());
        }
        let owner = self.make().await?;
        *made = Some(owner.clone());
        Ok(owner)
    }

    async fn make(&self) -> Result<OwnerRef, SandboxError> {
        let labels = self.ownership.labels();
        let metadata =
            ObjectMeta { name: Some(self.name.clone()), labels: Some(labels), ..ObjectMeta::default() };
        let wanted = ConfigMap { metadata, ..ConfigMap::default() };
        let options = PostParams { field_manager: Some("thresher".into()), ..PostParams::default() };
        for _ in 0..TRIES {
            match self.cluster.call(|| self.cluster.config_maps.create(&options, &wanted)).await {
                Ok(made) => return Ok(reference(&made)),
                Err(error) if error.is_there_already() => {}
                Err(error) => return Err(self.cluster.error("create a config map", error)),
            }
            // An answer that was lost: it is ours. Else it is a former incarnation's.
            match self.find().await? {
                Some(there) if self.is_own(&there.metadata) => return Ok(reference(&there)),
                Some(there) => self.delete(&there).await?,
                None => {}
            }
        }
        Err(SandboxError::Unsupported(format!("two live processes use the slot's object {}", self.name)))
    }

    /// Removes what earlier incarnations of this slot left; returns how many pods.
    pub(super) async fn reap(&self) -> Result<usize, SandboxError> {
        let mut removed = 0;
        for pod in self.pods().await?.iter().filter(|pod| !self.spares(&pod.metadata)) {
            removed += usize::from(self.remove(pod).await?);
        }
        for there in self.objects().await?.iter().filter(|there| !self.spares(&there.metadata)) {
            self.delete(there).await?;
        }
        Ok(removed)
    }

    /// Removes what workers of older generations left that were killed while they drained: objects of this slot without a pod
    /// that lives, and with them the pods that do not.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub(super) async fn reap_drained(&self) -> Result<(), SandboxError> {
        if self.ownership.older == OlderGenerations::Gone {
            return Ok(());
        }
        let (pods, objects) = (self.pods().await?, self.objects().await?);
        let lives = |there: &ConfigMap| {
            let mut owned = pods.iter().filter(|pod| owner_of(pod) == there.uid().as_deref());
            owned.any(|pod| !has_ended(pod))
        };
        for there in objects.iter().filter(|there| !self.is_own(&there.metadata) && !lives(there)) {
            self.delete(there).await?;
        }
        Ok(())
    }

    /// The slot's pods, whichever its incarnation.
    async fn pods(&self) -> Result<Vec<Pod>, SandboxError> {
        let options = ListParams::default().labels(&self.ownership.selector());
        let pods = self.cluster.call(|| self.cluster.pods.list(&options)).await;
        Ok(pods.map_err(|error| self.cluster.error("list pods", error))?.items)
    }

    /// The slot's objects: one of each generation, at most.
    async fn objects(&self) -> Result<Vec<ConfigMap>, SandboxError> {
        let options = ListParams::default().labels(&self.ownership.selector());
        let objects = self.cluster.call(|| self.cluster.config_maps.list(&options)).await;
        Ok(objects.map_err(|error| self.cluster.error("list config maps", error))?.items)
    }

    fn spares(&self, metadata: &ObjectMeta) -> bool {
        self.ownership.spares(metadata.labels.as_ref().unwrap_or(&BTreeMap::new()))
    }

    /// Deletes the object where this process made it and, as `unused` says, needs it no more. Whoever is about to need
    /// it says so before asking for it.
    pub(super) async fn let_go(&self, unused: impl Fn() -> bool) {
        let mut made = self.made.lock().await;
        if unused()
            && made.take().is_some()
            && let Ok(Some(there)) = self.find().await
            && self.is_own(&there.metadata)
            && let Err(error) = self.delete(&there).await
        {
            tracing::debug!(%error, "the slot's object stays for its next incarnation to delete");
        }
    }

    fn is_own(&self, metadata: &ObjectMeta) -> bool {
        const INCARNATION: &str = "thresher.dev/incarnation";
        let own = self.ownership.labels();
        metadata.labels.as_ref().and_then(|labels| labels.get(INCARNATION)) == own.get(INCARNATION)
    }

    async fn find(&self) -> Result<Option<ConfigMap>, SandboxError> {
        let found = self.cluster.call(|| self.cluster.config_maps.get_opt(&self.name)).await;
        found.map_err(|error| self.cluster.error("read a config map", error))
    }

    /// Deletes exactly this object, not one that was made since; its pods follow.
    async fn delete(&self, there: &ConfigMap) -> Result<(), SandboxError> {
        let preconditions = Some(Preconditions { uid: there.uid(), resource_version: None });
        let options = DeleteParams { preconditions, ..DeleteParams::background() };
        let name = there.name_any();
        match self.cluster.call(|| self.cluster.config_maps.delete(&name, &options)).await {
            Err(error) if !error.is_not_found() && !error.is_there_already() => {
                Err(self.cluster.error("delete a config map", error))
            }
            _ => Ok(()),
        }
    }

    async fn remove(&self, pod: &Pod) -> Result<bool, SandboxError> {
        let (name, options) = (pod.name_any(), DeleteParams::default());
        match self.cluster.call(|| self.cluster.pods.delete(&name, &options)).await {
            Ok(_) => {
                tracing::info!(pod = name, "removed a pod of a dead runner");
                Ok(true)
            }
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(self.cluster.error("delete a pod", error)),
        }
    }
}

/// The object that a pod goes with.
fn owner_of(pod: &Pod) -> Option<&str> {
    let owners = pod.metadata.owner_references.as_ref()?;
    owners.first().map(|owner| owner.uid.as_str())
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn reference(made: &ConfigMap) -> OwnerRef {
    OwnerRef { name: made.name_any(), uid: made.uid().unwrap_or_default() }
}
