//! Images from registries, for machines without a container engine: pulled as OCI layouts, whose layers go once they are
//! unpacked.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciEnvelope, OciErrorCode};
use oci_client::manifest::{
    IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciImageManifest,
};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use thresher_core::run_spec::PullPolicy;

use super::archive::{Source, StoredImage};
use super::reference::normal;
use super::store::{Store, hex};
use crate::docker::reference::apply_map;
use crate::{Lease, SandboxError};

/// Layers of one image that are pulled at a time.
const AT_A_TIME: usize = 3;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(15);
/// Pause between two looks whether another process has pulled an image.
const LOOK: Duration = Duration::from_millis(20);
/// How long a registry may send nothing.
const STALL: Duration = Duration::from_secs(60);

/// How images are pulled.
#[derive(Clone, Debug, Default)]
pub struct RegistryOptions {
    /// When.
    pub pull: PullPolicy,
    /// Reference prefixes and what replaces them, longest first.
    pub map: BTreeMap<String, String>,
    /// Registries, as `host` or `host:port`, that are spoken to without TLS. Loopback ones always are.
    pub insecure: Vec<String>,
}

/// Pulls images into the data folder.
pub(super) struct Registry {
    options: RegistryOptions,
    store: Arc<Store>,
    folder: PathBuf,
}

/// An image that is there, but for layers that are unpacked already.
pub(super) struct Pulled {
    pub(super) image: StoredImage,
    /// Bytes that came over the network.
    pub(super) bytes: u64,
    folder: PathBuf,
    _lock: File,
    /// Of the layers that are unpacked already: they are not in `folder`.
    _lease: Lease,
}

impl Pulled {
    /// Removes the layers' archives: the unpacked ones are what is used.
    pub(super) fn forget_layers(&self) {
        for layer in &self.image.layers {
            if let Err(error) = fs::remove_file(self.folder.join(layer))
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, layer, "the archive of an unpacked layer stays");
            }
        }
    }
}

impl Registry {
    pub(super) fn new(options: RegistryOptions, data: &Path, store: Arc<Store>) -> io::Result<Self> {
        let folder = data.join("pulled");
        fs::create_dir_all(&folder)?;
        // Without one, clients over TLS cannot be made. That another one is there already is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        Ok(Self { options, store, folder })
    }

    /// Makes sure that the image is there, pulling what is missing. Other processes wait meanwhile.
    ///
    /// # Errors
    /// [`SandboxError::NoImage`] where registry or policy say that there is none, [`SandboxError::RateLimited`] and
    /// [`SandboxError::Registry`] where it may be had later.
    pub(super) async fn fetch(&self, reference: &str) -> Result<Pulled, SandboxError> {
        let place = self.folder.join(key(reference));
        let lock =
            lock(place.with_extension("lock")).await.map_err(|error| self.io("lock an image", error))?;
        if self.options.pull != PullPolicy::Always
            && let Some((image, lease)) = self.kept(&place)
        {
            return Ok(Pulled { image, bytes: 0, folder: place, _lock: lock, _lease: lease });
        }
        if self.options.pull == PullPolicy::Never {
            let message = "it is not there, and sandbox.pull is `never`".to_owned();
            return Err(SandboxError::NoImage { image: reference.to_owned(), message });
        }
        let (bytes, lease) = self.pull(reference, &place).await?;
        let image = layout(&place).ok_or_else(|| broken_pull(reference))?;
        Ok(Pulled { image, bytes, folder: place, _lock: lock, _lease: lease })
    }

    /// An image of a former pull all of whose layers are unpacked, or still there to be.
    fn kept(&self, place: &Path) -> Option<(StoredImage, Lease)> {
        let image = layout(place)?;
        let config = fs::read(place.join(&image.config)).ok()?;
        let lease = self.store.claim_image(&config, &image.digest).ok()?;
        let is_packed = |at: usize| image.layers.get(at).is_some_and(|layer| place.join(layer).is_file());
        self.store.has_image(&config, is_packed).then_some((image, lease))
    }

    async fn pull(&self, reference: &str, place: &Path) -> Result<(u64, Lease), SandboxError> {
        let mapped = apply_map(&self.options.map, reference.strip_prefix("docker://").unwrap_or(reference));
        let image: Reference = mapped.parse().map_err(|error| SandboxError::NoImage {
            image: reference.to_owned(),
            message: format!("{mapped} is no image reference: {error}"),
        })?;
        let registry = image.resolve_registry();
        let pull = Pull { client: self.client(registry), auth: credentials(registry), image };
        let temporary = self.store.temporary();
        let pulled = pull.write_layout(reference, &temporary, &self.store).await;
        let pulled = pulled.and_then(|pulled| {
            replace(&temporary, place)?;
            Ok(pulled)
        });
        if temporary.exists() {
            fs::remove_dir_all(&temporary).map_err(|error| self.io("remove a broken pull", error))?;
        }
        pulled.map_err(|error| refusal(reference, error))
    }

    fn client(&self, registry: &str) -> Client {
        let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
        let plain = ["localhost", "127.0.0.1", "[::1]"].contains(&host)
            || self.options.insecure.iter().any(|insecure| insecure == registry);
        let plain = if plain { vec![registry.to_owned()] } else { Vec::new() };
        Client::new(ClientConfig {
            protocol: ClientProtocol::HttpsExcept(plain),
            connect_timeout: Some(CONNECT),
            read_timeout: Some(STALL),
            user_agent: concat!("thresher/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        })
    }

    fn io(&self, action: &str, source: io::Error) -> SandboxError {
        SandboxError::Os { action: format!("{action} in {}", self.folder.display()), source }
    }
}

/// One pull.
struct Pull {
    client: Client,
    auth: RegistryAuth,
    image: Reference,
}

impl Pull {
    /// Writes the image as an OCI layout, without the layers that are unpacked already. Returns the bytes that came, and
    /// a lease of those layers.
    async fn write_layout(
        &self,
        reference: &str,
        folder: &Path,
        store: &Store,
    ) -> Result<(u64, Lease), OciDistributionError> {
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs)?;
        let (manifest, digest) = self.client.pull_image_manifest(&self.image, &self.auth).await?;
        let raw = self.manifest(&digest).await?;
        fs::write(blob(folder, &digest)?, &raw)?;
        let config = fs::read(self.blob(folder, &manifest.config).await?)?;
        let lease = store.claim_image(&config, &digest)?;
        let missing = missing_layers(&manifest, &config, store)?;
        let layers = stream::iter(missing).map(|layer| async move { self.blob(folder, &layer).await });
        layers.buffer_unordered(AT_A_TIME).try_collect::<Vec<PathBuf>>().await?;
        let index = json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": manifest.media_type.as_deref().unwrap_or(OCI_IMAGE_MEDIA_TYPE),
                "digest": digest,
                "size": raw.len(),
                "annotations": { "io.containerd.image.name": normal(reference) },
            }],
        });
        fs::write(folder.join("index.json"), index.to_string())?;
        let sizes = fs::read_dir(&blobs)?.flatten().filter_map(|entry| Some(entry.metadata().ok()?.len()));
        Ok((sizes.sum(), lease))
    }

    /// The manifest's own bytes, which its digest is over.
    async fn manifest(&self, digest: &str) -> Result<Vec<u8>, OciDistributionError> {
        let types = [OCI_IMAGE_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE];
        let image = self.image.clone_with_digest(digest.to_owned());
        Ok(self.client.pull_manifest_raw(&image, &self.auth, &types).await?.0.to_vec())
    }

    /// Writes a blob, whose digest the client checks.
    async fn blob(&self, folder: &Path, descriptor: &OciDescriptor) -> Result<PathBuf, OciDistributionError> {
        let path = blob(folder, &descriptor.digest)?;
        let file = tokio::fs::File::create(&path).await?;
        self.client.pull_blob(&self.image, descriptor, file).await?;
        Ok(path)
    }
}

/// The layers that are not unpacked yet, each once.
fn missing_layers(
    manifest: &OciImageManifest,
    config: &[u8],
    store: &Store,
) -> Result<Vec<OciDescriptor>, OciDistributionError> {
    let config: super::oci::Config = serde_json::from_slice(config)?;
    let diff_ids = config.rootfs.diff_ids.unwrap_or_default();
    let mut missing: Vec<OciDescriptor> = Vec::new();
    for (at, layer) in manifest.layers.iter().enumerate() {
        let is_there = diff_ids.get(at).is_some_and(|diff_id| store.has_layer(diff_id));
        if !is_there && missing.iter().all(|known| known.digest != layer.digest) {
            missing.push(layer.clone());
        }
    }
    Ok(missing)
}

fn blob(folder: &Path, digest: &str) -> io::Result<PathBuf> {
    let hash =
        digest.strip_prefix("sha256:").filter(|hash| hash.bytes().all(|letter| letter.is_ascii_hexdigit()));
    let hash =
        hash.ok_or_else(|| super::archive::broken(format!("{digest:?} is no digest that is known here")))?;
    Ok(folder.join("blobs/sha256").join(hash))
}

/// What `docker login` or a mounted pull secret left for the registry.
fn credentials(registry: &str) -> RegistryAuth {
    let server = if registry.ends_with("docker.io") { "https://index.docker.io/v1/" } else { registry };
    match docker_credential::get_credential(server) {
        Ok(docker_credential::DockerCredential::UsernamePassword(name, password)) => {
            RegistryAuth::Basic(name, password)
        }
        Ok(docker_credential::DockerCredential::IdentityToken(token)) => RegistryAuth::Bearer(token),
        Err(_) => RegistryAuth::Anonymous,
    }
}

fn layout(place: &Path) -> Option<StoredImage> {
    let source = Source::open(place).ok()??;
    Arc::new(source).images().ok()?.into_iter().next()
}

fn replace(temporary: &Path, place: &Path) -> io::Result<()> {
    if place.exists() {
        fs::remove_dir_all(place)?;
    }
    fs::rename(temporary, place)
}

/// Waits for the lock without a thread of its own, so that whoever gives up waiting leaves none behind.
async fn lock(path: PathBuf) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOOK).await,
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

fn key(reference: &str) -> String {
    hex(&Sha256::digest(normal(reference).as_bytes())[..16])
}

fn broken_pull(reference: &str) -> SandboxError {
    let message = "what it sent is no image for this machine".to_owned();
    SandboxError::NoImage { image: reference.to_owned(), message }
}

/// What a registry's refusal means.
fn refusal(image: &str, error: OciDistributionError) -> SandboxError {
    use OciDistributionError as Error;
    let image = image.to_owned();
    let message = error.to_string();
    match error {
        Error::IoError(source) if source.kind() == io::ErrorKind::StorageFull => {
            SandboxError::DiskFull(message)
        }
        Error::ServerError { code: 429, .. } => SandboxError::RateLimited { image, retry_after: None },
        Error::RegistryError { envelope, .. } if says(&envelope, &[OciErrorCode::Toomanyrequests]) => {
            SandboxError::RateLimited { image, retry_after: None }
        }
        Error::ImageManifestNotFoundError(_)
        | Error::UnauthorizedError { .. }
        | Error::AuthenticationFailure(_)
        | Error::ImageIndexParsingNoPlatformResolverError
        | Error::ManifestParsingError(_)
        | Error::VersionedParsingError(_)
        | Error::UnsupportedMediaTypeError(_)
        | Error::UnsupportedSchemaVersionError(_)
        | Error::ServerError { code: 401 | 403 | 404, .. } => SandboxError::NoImage { image, message },
        Error::RegistryError { envelope, .. } if says(&envelope, &ABSENT) => {
            SandboxError::NoImage { image, message }
        }
        _ => SandboxError::Registry { image, message: crate::error::chain(&error) },
    }
}

/// What a registry says of an image that it has not, or not for us.
const ABSENT: [OciErrorCode; 6] = [
    OciErrorCode::ManifestUnknown,
    OciErrorCode::NameUnknown,
    OciErrorCode::NameInvalid,
    OciErrorCode::NotFound,
    OciErrorCode::Unauthorized,
    OciErrorCode::Denied,
];

fn says(envelope: &OciEnvelope, codes: &[OciErrorCode]) -> bool {
    envelope.errors.iter().any(|error| codes.contains(&error.code))
}
