//! Images: each is tried once in a short pod, which says what its tag was resolved to and which variables it sets.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thresher_core::run_spec::{LimitsSpec, Network, PullPolicy};
use thresher_core::task::ImageRef;

use super::status::Up;
use crate::docker::reference::{Reference, apply_map};
use crate::{Lease, Prepared, Sandbox, SandboxError, SandboxSpec};

/// Memory of a trial pod in MiB: the guest alone lives in it.
const TRIAL_MB: u64 = 64;

/// What this process knows of images.
pub(super) struct Images {
    pull: PullPolicy,
    registry_map: BTreeMap<String, String>,
    /// One per reference: a second caller waits for the first.
    ready: Mutex<HashMap<String, Slot>>,
}

type Slot = Arc<tokio::sync::Mutex<Option<Prepared>>>;

impl Images {
    pub(super) fn new(pull: PullPolicy, registry_map: BTreeMap<String, String>) -> Self {
        Self { pull, registry_map, ready: Mutex::default() }
    }

    /// Resolves `image`, with `open` to start a pod of it.
    pub(super) async fn prepare(
        &self,
        image: &ImageRef,
        open: impl AsyncFnOnce(SandboxSpec, PullPolicy) -> Result<(Sandbox, Up), SandboxError>,
    ) -> Result<Prepared, SandboxError> {
        let ImageRef::Registry(named) = image else {
            return Err(SandboxError::Unsupported("a cluster has no `host` environment".into()));
        };
        let reference = apply_map(&self.registry_map, named);
        let slot = self.slots().entry(reference.clone()).or_default().clone();
        let mut ready = slot.lock().await;
        if let Some(ready) = &*ready {
            return Ok(Prepared { image: image.clone(), ..ready.clone() });
        }
        let (mut sandbox, up) = open(trial(image, &reference), self.pull).await?;
        let env = image_variables(sandbox.environ().await?);
        sandbox.close().await?;
        let handle = pinned(&reference, &up, self.pull);
        // The kubelet keeps images, and removes them, by rules of its own.
        let lease = Lease::default();
        let prepared =
            Prepared { image: image.clone(), digest: up.digest, handle, env, pulled_bytes: 0, lease };
        *ready = Some(prepared.clone());
        Ok(prepared)
    }

    /// How the image of a sandbox is pulled: what is named by its digest is never another one.
    pub(super) fn pull_of(&self, prepared: &Prepared) -> PullPolicy {
        match self.pull {
            PullPolicy::Always if Reference::parse(&prepared.handle).digest.is_some() => PullPolicy::Missing,
            pull => pull,
        }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn trial(image: &ImageRef, reference: &str) -> SandboxSpec {
    SandboxSpec {
        prepared: Prepared {
            image: image.clone(),
            digest: String::new(),
            handle: reference.to_owned(),
            env: BTreeMap::new(),
            pulled_bytes: 0,
            lease: Lease::default(),
        },
        workdir: String::new(),
        network: Network::None,
        limits: LimitsSpec { cpus: None, memory_mb: TRIAL_MB, pids: 0, shm_mb: 0, disk_mb: 0 },
        labels: [("purpose".to_owned(), "resolve".to_owned())].into(),
    }
}

/// What later pods are started from: the digest, so that a tag that moves changes nothing. An image that was put on the
/// nodes by hand is known there by its tag alone.
fn pinned(reference: &str, up: &Up, pull: PullPolicy) -> String {
    let parsed = Reference::parse(reference);
    match parsed.digest.is_none() && up.in_registry && pull != PullPolicy::Never {
        true => format!("{}@{}", parsed.name, up.digest),
        false => reference.to_owned(),
    }
}

/// Without what the cluster and the container runtime add.
fn image_variables(mut variables: BTreeMap<String, String>) -> BTreeMap<String, String> {
    variables
        .retain(|name, _| !matches!(name.as_str(), "HOSTNAME" | "HOME") && !name.starts_with("KUBERNETES_"));
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_pinned_where_a_registry_knows_the_digest() {
        let up = |in_registry| Up { digest: "sha256:d".into(), in_registry, node: "n".into(), ready: true };
        let (missing, never) = (PullPolicy::Missing, PullPolicy::Never);
        for (reference, in_registry, pull, expected) in [
            ("r:5000/a/x:1", true, missing, "r:5000/a/x@sha256:d"),
            ("x", true, PullPolicy::Always, "x@sha256:d"),
            ("x:1", false, missing, "x:1"),
            ("x:1", true, never, "x:1"),
            ("x@sha256:e", true, missing, "x@sha256:e"),
        ] {
            assert_eq!(pinned(reference, &up(in_registry), pull), expected, "{reference}");
        }
    }

    #[test]
    fn only_the_images_own_variables_are_kept() {
        let all =
            ["PATH", "A", "HOSTNAME", "HOME", "KUBERNETES_PORT"].map(|name| (name.to_owned(), String::new()));
        let kept: Vec<String> = image_variables(all.into()).into_keys().collect();
        assert_eq!(kept, ["A", "PATH"]);
    }
}
