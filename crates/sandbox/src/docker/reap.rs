//! Removal of what dead runners left.

use std::collections::HashMap;

use bollard::models::ContainerSummary;
use bollard::query_parameters::ListContainersOptions;
use futures::{StreamExt, TryStreamExt};

use super::container::OWNER_LABEL;
use super::engine::Engine;
use super::held::force;
use super::owner::{Fate, Owner, start_ticks};
use crate::SandboxError;

/// Removals at a time: the daemon serializes most of the work anyway.
const AT_A_TIME: usize = 8;

/// Removes the containers whose owner is dead; returns how many.
pub(super) async fn reap(engine: &Engine, this: &Owner) -> Result<usize, SandboxError> {
    let filters = HashMap::from([("label".to_owned(), vec![OWNER_LABEL.to_owned()])]);
    let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
    let call = engine.api.list_containers(Some(options));
    let containers = engine.call(call).await.map_err(|error| engine.error("list containers", error))?;
    let orphans = containers.into_iter().filter(|container| is_orphan(container, this));
    futures::stream::iter(orphans.filter_map(|container| container.id))
        .map(|id| remove(engine, id))
        .buffer_unordered(AT_A_TIME)
        .try_fold(0, async |count, removed| Ok(count + usize::from(removed)))
        .await
}

fn is_orphan(container: &ContainerSummary, this: &Owner) -> bool {
    let label = container.labels.as_ref().and_then(|labels| labels.get(OWNER_LABEL));
    // A label that is not ours to read belongs to nobody that we could call dead.
    let Some(Ok(owner)) = label.map(|text| serde_json::from_str::<Owner>(text)) else { return false };
    owner.fate(this, start_ticks) == Fate::Dead
}

/// Removes one container; false where somebody else did or does.
async fn remove(engine: &Engine, id: String) -> Result<bool, SandboxError> {
    match engine.call(engine.api.remove_container(&id, Some(force()))).await {
        Ok(()) => {
            tracing::info!(container = %id, "removed a container of a dead runner");
            Ok(true)
        }
        Err(super::engine::CallError::Refused { status: 404 | 409, .. }) => Ok(false),
        Err(error) => Err(engine.error("remove a container", error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_without_a_readable_owner_is_spared() {
        let this = Owner::this();
        let labelled = |text: &str| ContainerSummary {
            labels: Some(HashMap::from([(OWNER_LABEL.to_owned(), text.to_owned())])),
            ..ContainerSummary::default()
        };
        let own = serde_json::to_string(&this).unwrap();
        for text in ["", "1234", "{}", own.as_str()] {
            assert!(!is_orphan(&labelled(text), &this), "{text}");
        }
        assert!(!is_orphan(&ContainerSummary::default(), &this));
        let mut dead: serde_json::Value = serde_json::from_str(&own).unwrap();
        dead["start_ticks"] = 1.into();
        assert!(is_orphan(&labelled(&dead.to_string()), &this));
    }
}
