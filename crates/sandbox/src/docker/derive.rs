//! Derived layers: a sandbox's file system kept as a local image under a tag made from its key.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{ContainerConfig, ImageConfig, ImageInspect};
use bollard::query_parameters::{CommitContainerOptions, RemoveImageOptions, TagImageOptions};
use sha2::{Digest, Sha256};

use super::cache::Cache;
use super::container::OWNER_LABEL;
use super::engine::Engine;
use super::image::{find, inspect, leased};
use crate::{Lease, Prepared, SandboxError};

/// Local repository of derived images.
const REPOSITORY: &str = "thresher-derived";
/// Label with the digest of the image that it was made from.
const BASE_LABEL: &str = "thresher.derived.base";
/// Label with the caller's key, which names the version of the set-up.
const KEY_LABEL: &str = "thresher.derived.key";
/// A commit copies what the container wrote; large set-ups take their time.
const COMMIT_DEADLINE: Duration = Duration::from_secs(900);

/// The tag for what `key` makes of `base`.
pub(super) fn reference(base: &Prepared, key: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(base.digest.as_bytes());
    hash.update([0]);
    hash.update(key.as_bytes());
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{REPOSITORY}:{hex}")
}

/// Looks a derived image up.
pub(super) async fn lookup(
    engine: &Engine,
    cache: &Cache,
    base: &Prepared,
    key: &str,
) -> Result<Option<Prepared>, SandboxError> {
    let Some(found) = find(engine, &reference(base, key)).await? else { return Ok(None) };
    let found = leased(engine, cache, found).await?;
    Ok(found.map(|(ready, lease)| of(base, ready.id, &lease)))
}

fn of(base: &Prepared, id: String, lease: &Lease) -> Prepared {
    Prepared { handle: id, pulled_bytes: 0, lease: base.lease.and(lease), ..base.clone() }
}

/// Makes an image of the running `container` and tags it, unless another was faster: then that one counts.
pub(super) async fn commit(
    engine: &Engine,
    cache: &Cache,
    container: &str,
    base: &Prepared,
    key: &str,
) -> Result<Prepared, SandboxError> {
    let missing =
        || SandboxError::NoImage { image: base.image.to_string(), message: "removed during set-up".into() };
    let image = inspect(engine, &base.handle).await?.ok_or_else(missing)?;
    // Without a tag at first: the commit call would move an existing one.
    let mut made = commit_once(engine, container, config(&image, base, key)).await;
    if let Err(SandboxError::DiskFull(why)) = &made
        && cache.found_room(engine, why).await
    {
        made = commit_once(engine, container, config(&image, base, key)).await;
    }
    let made = made?;
    let (lease, _) = cache.lease(&made).await?;
    if let Some(first) = lookup(engine, cache, base, key).await? {
        discard(engine, &made).await;
        return Ok(first);
    }
    let reference = reference(base, key);
    cache.note(&reference, None)?;
    tag(engine, &made, &reference).await?;
    cache.note(&reference, Some(&made))?;
    Ok(of(base, made, &lease))
}

/// Makes an image without a tag, which the commit call would move if there were one. Returns its id.
async fn commit_once(
    engine: &Engine,
    container: &str,
    config: ContainerConfig,
) -> Result<String, SandboxError> {
    let options =
        CommitContainerOptions { container: Some(container.to_owned()), pause: true, ..Default::default() };
    let call = engine.api.commit_container(options, config);
    let made = engine.call_within(COMMIT_DEADLINE, call).await;
    made.map(|made| made.id).map_err(|error| engine.error("commit", error))
}

async fn tag(engine: &Engine, id: &str, reference: &str) -> Result<(), SandboxError> {
    let (repo, tag) = reference.split_once(':').expect("derived references have a tag");
    let options = TagImageOptions { repo: Some(repo.to_owned()), tag: Some(tag.to_owned()) };
    engine
        .call(engine.api.tag_image(id, Some(options)))
        .await
        .map_err(|error| engine.error("tag an image", error))
}

async fn discard(engine: &Engine, id: &str) {
    let call = engine.api.remove_image(id, None::<RemoveImageOptions>, None);
    if let Err(error) = engine.call(call).await {
        tracing::debug!(image = id, ?error, "a superfluous derived image stays");
    }
}

/// The new image's configuration: the base's, said in full, because the daemon fills every gap from the container,
/// whose entry point is the guest and whose labels name a process.
fn config(image: &ImageInspect, base: &Prepared, key: &str) -> ContainerConfig {
    let ImageConfig {
        user,
        exposed_ports,
        env,
        cmd,
        healthcheck,
        args_escaped: _,
        volumes,
        working_dir,
        entrypoint,
        on_build,
        labels,
        stop_signal,
        shell,
    } = image.config.clone().unwrap_or_default();
    ContainerConfig {
        user,
        exposed_ports,
        env,
        cmd: Some(cmd.unwrap_or_default()),
        healthcheck,
        volumes,
        working_dir: Some(working_dir.filter(|dir| !dir.is_empty()).unwrap_or_else(|| "/".into())),
        entrypoint: Some(entrypoint.unwrap_or_default()),
        on_build,
        labels: Some(derived_labels(labels.unwrap_or_default(), base, key)),
        stop_signal,
        shell,
        ..ContainerConfig::default()
    }
}

/// The base's labels and ours. The owner's is blanked: a person's container from this image is not for our reaper.
fn derived_labels(
    mut labels: HashMap<String, String>,
    base: &Prepared,
    key: &str,
) -> HashMap<String, String> {
    labels.insert(OWNER_LABEL.into(), String::new());
    labels.insert(BASE_LABEL.into(), base.digest.clone());
    labels.insert(KEY_LABEL.into(), key.to_owned());
    labels
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use thresher_core::task::ImageRef;

    use super::*;

    fn base(digest: &str) -> Prepared {
        Prepared {
            image: ImageRef::Registry("x".into()),
            digest: digest.into(),
            handle: "h".into(),
            env: BTreeMap::new(),
            pulled_bytes: 7,
            lease: Default::default(),
        }
    }

    #[test]
    fn the_tag_depends_on_base_and_key_alone_and_is_a_valid_one() {
        let tag = reference(&base("sha256:a"), "setup-1");
        assert_eq!(tag, reference(&Prepared { pulled_bytes: 0, ..base("sha256:a") }, "setup-1"));
        assert_ne!(tag, reference(&base("sha256:b"), "setup-1"));
        assert_ne!(tag, reference(&base("sha256:a"), "setup-2"));
        assert_ne!(reference(&base("a"), "bc"), reference(&base("ab"), "c"));
        let word = tag.strip_prefix("thresher-derived:").unwrap();
        assert!(word.len() <= 128 && word.bytes().all(|letter| letter.is_ascii_hexdigit()));
    }

    #[test]
    fn the_bases_configuration_is_said_in_full() {
        let image = ImageInspect {
            config: Some(ImageConfig { cmd: Some(vec!["bash".into()]), ..ImageConfig::default() }),
            ..ImageInspect::default()
        };
        let config = config(&image, &base("sha256:a"), "k");
        assert_eq!((config.entrypoint, config.cmd), (Some(vec![]), Some(vec!["bash".to_owned()])));
        assert_eq!(config.labels.unwrap()[OWNER_LABEL], "");
    }
}
