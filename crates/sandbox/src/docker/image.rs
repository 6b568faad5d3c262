//! Images on the node: resolved once, pulled once, by policy.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::models::ImageInspect;
use thresher_core::run_spec::PullPolicy;
use thresher_core::task::ImageRef;

use super::cache::Cache;
use super::cooldown::Cooldowns;
use super::engine::{CallError, Engine};
use super::pull::pull;
use super::reference::{Reference, apply_map};
use crate::image_cache::Had;
use crate::{Lease, Prepared, SandboxError};

/// What this process knows of the node's images.
pub(super) struct Images {
    cache: Arc<Cache>,
    policy: PullPolicy,
    registry_map: BTreeMap<String, String>,
    stall: Duration,
    cooldowns: Cooldowns,
    /// One lock per reference: a second caller waits for the first, then finds its result in `ready`.
    locks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    ready: Mutex<HashMap<String, Ready>>,
}

/// An image that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ready {
    pub(super) id: String,
    digest: String,
    env: BTreeMap<String, String>,
}

impl Images {
    pub(super) fn new(
        cache: Arc<Cache>,
        policy: PullPolicy,
        registry_map: BTreeMap<String, String>,
        stall: Duration,
        rate_limit_pause: Duration,
    ) -> Self {
        let cooldowns = Cooldowns::new(rate_limit_pause);
        let (locks, ready) = (Mutex::default(), Mutex::default());
        Self { cache, policy, registry_map, stall, cooldowns, locks, ready }
    }

    /// Makes `image` usable.
    pub(super) async fn prepare(&self, engine: &Engine, image: &ImageRef) -> Result<Prepared, SandboxError> {
        let ImageRef::Registry(named) = image else {
            return Err(SandboxError::Unsupported("a container engine has no `host` environment".into()));
        };
        let reference = apply_map(&self.registry_map, named);
        let lock = self.lock(&reference);
        let _alone = lock.lock().await;
        if let Some((ready, lease)) = self.known(engine, &reference).await? {
            return Ok(ready.prepared(image, 0, lease));
        }
        let (ready, lease, pulled_bytes) = self.obtain(engine, &reference).await?;
        self.ready().insert(reference, ready.clone());
        Ok(ready.prepared(image, pulled_bytes, lease))
    }

    /// Makes that content of `image` usable which `digest` names: a registry's digest, or the id of an image that no
    /// registry gave one.
    pub(super) async fn prepare_locked(
        &self,
        engine: &Engine,
        image: &ImageRef,
        digest: &str,
    ) -> Result<Prepared, SandboxError> {
        let ImageRef::Registry(named) = image else {
            return Err(SandboxError::Unsupported("a container engine has no `host` environment".into()));
        };
        let reference = apply_map(&self.registry_map, named);
        let locked = Reference::parse(&reference).at(digest);
        let lock = self.lock(&locked);
        let _alone = lock.lock().await;
        if let Some((ready, lease)) = self.known(engine, &locked).await? {
            return Ok(ready.prepared(image, 0, lease));
        }
        let held = match held(engine, &reference, digest).await? {
            Some(ready) => leased(engine, &self.cache, ready).await?,
            None => None,
        };
        let (ready, lease, pulled_bytes) = match held {
            Some((ready, lease)) => {
                self.cache.meter.hit();
                (ready, lease, 0)
            }
            None => {
                let obtained = self.obtain(engine, &locked).await;
                obtained.map_err(|error| explain(error, named, digest))?
            }
        };
        let ready = Ready { digest: digest.to_owned(), ..ready };
        self.ready().insert(locked, ready.clone());
        Ok(ready.prepared(image, pulled_bytes, lease))
    }

    /// What an earlier preparation found, if it is still there.
    async fn known(&self, engine: &Engine, reference: &str) -> Result<Option<(Ready, Lease)>, SandboxError> {
        let Some(ready) = self.ready().get(reference).cloned() else { return Ok(None) };
        let known = leased(engine, &self.cache, ready).await?;
        match known {
            Some(_) => self.cache.meter.hit(),
            None => drop(self.ready().remove(reference)),
        }
        Ok(known)
    }

    /// Forgets an image that turned out to be gone, so that the next preparation looks again.
    pub(super) fn forget(&self, id: &str) {
        self.ready().retain(|_, ready| ready.id != id);
    }

    /// The lock under which one thing is made at a time.
    pub(super) fn lock(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.entry(name.to_owned()).or_default().clone()
    }

    fn ready(&self) -> MutexGuard<'_, HashMap<String, Ready>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds or pulls. One process of the node does at a time; the others then find what it pulled.
    async fn obtain(&self, engine: &Engine, reference: &str) -> Result<(Ready, Lease, u64), SandboxError> {
        let alone = self.cache.alone(reference).await?;
        let obtained = self.obtain_alone(engine, reference).await;
        alone.forget();
        obtained
    }

    async fn obtain_alone(
        &self,
        engine: &Engine,
        reference: &str,
    ) -> Result<(Ready, Lease, u64), SandboxError> {
        if self.policy != PullPolicy::Always
            && let Some((ready, lease)) = self.find_leased(engine, reference).await?
        {
            self.cache.meter.hit();
            return Ok((ready, lease, 0));
        }
        if self.policy == PullPolicy::Never {
            let message = "not on this machine, and the pull policy is `never`".into();
            return Err(SandboxError::NoImage { image: reference.into(), message });
        }
        self.cache.keep_marks(engine).await;
        let pulled_bytes = self.pull_noted(engine, reference).await?;
        let Some((ready, lease)) = self.find_leased(engine, reference).await? else {
            return Err(SandboxError::NoImage {
                image: reference.into(),
                message: "pulled, and removed again before it could be used".into(),
            });
        };
        self.cache.meter.pulled(pulled_bytes);
        self.cache.keep_marks(engine).await;
        Ok((ready, lease, pulled_bytes))
    }

    async fn find_leased(
        &self,
        engine: &Engine,
        reference: &str,
    ) -> Result<Option<(Ready, Lease)>, SandboxError> {
        match find(engine, reference).await? {
            Some(ready) => leased(engine, &self.cache, ready).await,
            None => Ok(None),
        }
    }

    /// Pulls, and notes what is ours: a reference that was on the node before is not.
    async fn pull_noted(&self, engine: &Engine, reference: &str) -> Result<u64, SandboxError> {
        let is_ours = self.cache.has(reference) || find(engine, reference).await?.is_none();
        if is_ours {
            // Also a process that is killed meanwhile has said so.
            self.cache.note(reference, None)?;
        }
        let mut pulled = self.pull(engine, reference).await;
        if let Err(SandboxError::DiskFull(why)) = &pulled
            && self.cache.found_room(engine, why).await
        {
            pulled = self.pull(engine, reference).await;
        }
        if is_ours {
            match find(engine, reference).await? {
                Some(ready) => self.cache.note(reference, Some(&ready.id))?,
                None => self.cache.forget(reference),
            }
        }
        pulled
    }

    /// Pulls, unless the registry asked for a pause that is not over.
    async fn pull(&self, engine: &Engine, reference: &str) -> Result<u64, SandboxError> {
        let parsed = Reference::parse(reference);
        if let Some(left) = self.cooldowns.remaining(parsed.host()) {
            return Err(SandboxError::RateLimited { image: reference.into(), retry_after: Some(left) });
        }
        tracing::debug!(image = reference, "pulling");
        let result = pull(engine, reference, self.stall).await;
        match result {
            Ok(_) => self.cooldowns.served(parsed.host()),
            Err(SandboxError::RateLimited { image, retry_after }) => {
                let pause = self.cooldowns.refused(parsed.host(), retry_after);
                return Err(SandboxError::RateLimited { image, retry_after: Some(pause) });
            }
            Err(_) => {}
        }
        result
    }
}

impl Ready {
    fn prepared(&self, image: &ImageRef, pulled_bytes: u64, lease: Lease) -> Prepared {
        Prepared {
            image: image.clone(),
            digest: self.digest.clone(),
            handle: self.id.clone(),
            env: self.env.clone(),
            pulled_bytes,
            lease,
        }
    }

    fn of(reference: &str, image: &ImageInspect) -> Option<Self> {
        let id = image.id.clone()?;
        let digests = image.repo_digests.as_deref().unwrap_or_default();
        let digest = choose_digest(&Reference::parse(reference), digests).unwrap_or_else(|| id.clone());
        let env = image.config.as_ref().and_then(|config| config.env.as_deref()).unwrap_or_default();
        Some(Self { id, digest, env: parse_env(env) })
    }
}

/// Looks for the content `digest` of `reference` on the node: under its tag, then as an image's own id.
async fn held(engine: &Engine, reference: &str, digest: &str) -> Result<Option<Ready>, SandboxError> {
    for name in [reference, digest] {
        let found = inspect(engine, name).await?;
        if let Some(image) = found.filter(|image| is_content(image, digest)) {
            return Ok(Ready::of(reference, &image));
        }
    }
    Ok(None)
}

/// Whether the image is what `digest` names, in whichever repository.
fn is_content(image: &ImageInspect, digest: &str) -> bool {
    let digests = image.repo_digests.as_deref().unwrap_or_default();
    let mut digests = digests.iter().filter_map(|entry| Some(entry.split_once('@')?.1));
    image.id.as_deref() == Some(digest) || digests.any(|found| found == digest)
}

/// Says why a tag that may well exist was not good enough.
fn explain(error: SandboxError, image: &str, digest: &str) -> SandboxError {
    match error {
        SandboxError::NoImage { message, .. } => {
            let message = format!("the run uses {digest}, which cannot be had here: {message}");
            SandboxError::NoImage { image: image.to_owned(), message }
        }
        other => other,
    }
}

/// Leases what was found; `None` if it was removed meanwhile.
pub(super) async fn leased(
    engine: &Engine,
    cache: &Cache,
    ready: Ready,
) -> Result<Option<(Ready, Lease)>, SandboxError> {
    let (lease, had) = cache.lease(&ready.id).await?;
    let is_there = had == Had::Yes || inspect(engine, &ready.id).await?.is_some();
    Ok(is_there.then_some((ready, lease)))
}

/// Looks `reference` up on the node.
pub(super) async fn find(engine: &Engine, reference: &str) -> Result<Option<Ready>, SandboxError> {
    Ok(inspect(engine, reference).await?.and_then(|image| Ready::of(reference, &image)))
}

/// What the daemon knows of an image, by reference or id; `None` if it is not there.
pub(super) async fn inspect(engine: &Engine, reference: &str) -> Result<Option<ImageInspect>, SandboxError> {
    match engine.call(engine.api.inspect_image(reference)).await {
        Ok(image) => Ok(Some(image)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(CallError::Refused { status: 400, message }) => {
            Err(SandboxError::NoImage { image: reference.into(), message })
        }
        Err(error) => Err(engine.error("inspect an image", error)),
    }
}

/// The digest of the repository that the image was asked for in, else any: the content is the same.
fn choose_digest(reference: &Reference, repo_digests: &[String]) -> Option<String> {
    if reference.digest.is_some() {
        return reference.digest.clone();
    }
    let pairs: Vec<_> = repo_digests.iter().filter_map(|entry| entry.split_once('@')).collect();
    let own = pairs.iter().find(|(name, _)| familiar(name) == familiar(&reference.name));
    own.or_else(|| pairs.first()).map(|(_, digest)| (*digest).to_owned())
}

/// Without the parts that the daemon leaves away: `docker.io/library/debian` is `debian`.
fn familiar(name: &str) -> &str {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    name.strip_prefix("library/").unwrap_or(name)
}

fn parse_env(entries: &[String]) -> BTreeMap<String, String> {
    entries
        .iter()
        .filter_map(|entry| entry.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use bollard::models::ImageConfig;

    use super::*;

    #[test]
    fn the_digest_is_the_repositorys_own_or_the_config_id() {
        let other = "mirror:5000/debian@sha256:aa".to_owned();
        let own = "debian@sha256:bb".to_owned();
        let cases: [(&str, &[String], &str); 5] = [
            ("debian:12", &[other.clone(), own.clone()], "sha256:bb"),
            ("docker.io/library/debian:12", &[other.clone(), own.clone()], "sha256:bb"),
            ("unheard/of:1", &[other.clone(), own.clone()], "sha256:aa"),
            ("debian@sha256:cc", &[other, own], "sha256:cc"),
            ("imported:1", &[], "sha256:id"),
        ];
        for (reference, repo_digests, digest) in cases {
            let image = ImageInspect {
                id: Some("sha256:id".into()),
                repo_digests: Some(repo_digests.to_vec()),
                config: Some(ImageConfig {
                    env: Some(vec!["PATH=/a:/b".into(), "EMPTY=".into(), "X=a=b".into()]),
                    ..ImageConfig::default()
                }),
                ..ImageInspect::default()
            };
            let ready = Ready::of(reference, &image).unwrap();
            assert_eq!(ready.digest, digest, "{reference}");
            assert_eq!(ready.env["X"], "a=b");
            assert_eq!(ready.env.len(), 3);
        }
    }
}
