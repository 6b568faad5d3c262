//! Sandboxes of Linux namespaces and overlay mounts, without a daemon.
//!
//! The secret of this module is how a root file system, namespaces and limits come together: a launcher process per
//! sandbox makes them (see [`thresher_guest::launch`]), and a content-addressed store under the data folder holds the
//! layers of images. Written files live in memory and vanish with the mount namespace, so a killed runner leaves no
//! mount and no file; cgroups are removed by the launcher, and what a killed launcher left by the next reap.
//!
//! Two variants: root namespaces (`CAP_SYS_ADMIN`) run images and the machine's own programs; user namespaces run the
//! latter, and images where this process is root in a container, with that container's usual capabilities. A
//! [`probe()`] tries the real sequence and says which are possible.

mod archive;
mod cgroup;
mod hierarchy;
pub(crate) mod host_view;
mod images;
pub(crate) mod launcher;
pub(crate) mod live;
mod mounter;
pub(crate) mod node;
mod oci;
mod place;
pub(crate) mod plan;
mod probe;
mod reference;
mod registry;
mod remedy;
mod running;
pub(crate) mod store;
mod tree;
mod unpack;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use thresher_core::ImageCounts;
use thresher_core::task::ImageRef;
use thresher_guest::launch::Users;

use crate::image_cache::Need;
use crate::{Backend, Lease, Prepared, Sandbox, SandboxError, SandboxSpec, StartOptions, WaterMarks, guest};
use archive::StoredImage;
use cgroup::Cgroups;
use host_view::HostView;
use images::Images;
use launcher::{Launcher, os};
use live::{Fate, Live};
use mounter::Mounter;
use place::Place;
use plan::{Common, Variant};
pub use probe::{ProbeReport, probe};
pub use registry::RegistryOptions;
use registry::{Pulled, Registry};
use running::{Hold, Running};
use store::{Added, Record, Store};

/// Handle of the machine's own programs, without layers.
const HOST: &str = "host";

/// Which kind of namespaces to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Those of root where possible, else user namespaces.
    #[default]
    Best,
    /// Those of root only.
    Root,
    /// User namespaces, also where this process is root.
    User,
}

/// How an [`Embedded`] backend is set up.
#[derive(Clone, Debug, Default)]
pub struct EmbeddedOptions {
    /// Folder for layers and everything else that is kept; must allow programs to be run. Processes may share it.
    pub data: PathBuf,
    /// Folder of OCI layouts and `docker save` archives (`*.tar`).
    pub images: Option<PathBuf>,
    /// How images that are not in that folder are pulled; not at all if absent.
    pub registry: Option<RegistryOptions>,
    /// Which namespaces.
    pub isolation: Isolation,
    /// When images are removed from the data folder.
    pub marks: WaterMarks,
    /// Run and process that the sandboxes belong to.
    pub start: StartOptions,
}

/// Starts sandboxes in namespaces.
pub struct Embedded {
    parts: Arc<Parts>,
    common: Common,
    cgroups: Option<Arc<Cgroups>>,
    images: Arc<Images>,
    registry: Option<Registry>,
    /// Why no image can be run, where none can.
    no_images: Option<String>,
    /// One preparation per image at a time; then what came of it, without a lease.
    prepared: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Option<Prepared>>>>>,
    records: Mutex<HashMap<String, Record>>,
    /// Launchers by name, for [`Backend::derive`].
    running: Mutex<HashMap<String, Weak<Running>>>,
    names: AtomicU64,
}

/// What the variants of one process share.
pub(crate) struct Parts {
    data: PathBuf,
    guest: PathBuf,
    live: Arc<Live>,
    store: Arc<Store>,
}

impl Parts {
    fn open(
        data: &Path,
        live: Arc<Live>,
        mounter: Mounter,
        marks: WaterMarks,
    ) -> Result<Arc<Self>, SandboxError> {
        let data = data.canonicalize().map_err(|error| os(&format!("open {}", data.display()), error))?;
        let guest = guest::install(&data.join("guest")).map_err(|error| os("install the guest", error))?;
        let store = Store::open(&data, live.clone(), mounter, marks)
            .map_err(|error| os("open the layer store", error))?;
        Ok(Arc::new(Self { data, guest, live, store: Arc::new(store) }))
    }
}

impl Embedded {
    /// Probes the machine and gets ready.
    ///
    /// # Errors
    /// [`SandboxError::Unsupported`] with cause and remedy where the isolation cannot be had.
    pub async fn open(options: EmbeddedOptions) -> Result<Self, SandboxError> {
        let EmbeddedOptions { data, images, registry, isolation, marks, start } = options;
        let incarnation = start.incarnation;
        let claimed = std::fs::create_dir_all(&data).and_then(|()| Live::claim(&data, &incarnation));
        let live = Arc::new(claimed.map_err(|error| os(&format!("claim {}", data.display()), error))?);
        let (report, cgroups) = probe::probe_with(&data, &live).await?;
        let variant = report.variant(isolation)?;
        let parts = Parts::open(&data, live, Mounter::of(variant.users), marks)?;
        // As a user, the cgroups of root are of no use: only what was tried counts.
        let cgroups = cgroups.filter(|_| variant.users == Users::Host || report.root.is_err());
        let no_images = report.images(variant.users).err();
        let why = report.cgroups.and_then(|()| match &cgroups {
            Some(_) => Ok(()),
            None => Err("user namespaces were asked for".into()),
        });
        let registry = registry.map(|options| Registry::new(options, &parts.data, parts.store.clone()));
        let registry = registry.transpose().map_err(|error| os("make a folder for pulled images", error))?;
        Ok(Self { no_images, registry, ..Self::assemble(parts, variant, cgroups, why, images) })
    }

    fn assemble(
        parts: Arc<Parts>,
        variant: Variant,
        cgroups: Option<Arc<Cgroups>>,
        has_cgroups: Result<(), String>,
        images: Option<PathBuf>,
    ) -> Self {
        let common = Common {
            variant,
            first_id: Mounter::of(variant.users).first_id(),
            mount_point: parts.store.mount_point(),
            host: HostView::look(),
            layers: parts.store.layers(),
            memory: node::memory(),
            kernel: node::kernel(),
            no_cgroups: has_cgroups.err(),
        };
        Self {
            parts,
            common,
            cgroups,
            images: Arc::new(Images::new(images)),
            registry: None,
            no_images: None,
            prepared: Mutex::default(),
            records: Mutex::default(),
            running: Mutex::default(),
            names: AtomicU64::new(0),
        }
    }

    /// The word that records hold for the isolation in use.
    pub fn isolation(&self) -> &'static str {
        plan::isolation(self.common.variant.users)
    }

    async fn unpack(&self, reference: &str) -> Result<Prepared, SandboxError> {
        if let Some(why) = &self.no_images {
            return Err(SandboxError::Unsupported(format!("image {reference} cannot be run: {why}")));
        }
        let (image, pulled) = self.find(reference).await?;
        let mut added = self.add(reference, &image).await;
        if let Err(SandboxError::DiskFull(why)) = &added
            && self.found_room(why).await
        {
            added = self.add(reference, &image).await;
        }
        pulled.iter().for_each(Pulled::forget_layers);
        let Added { handle, record, unpacked, lease } = added?;
        let pulled_bytes = pulled.map_or(unpacked, |pulled| pulled.bytes);
        let meter = &self.parts.store.meter;
        if pulled_bytes == 0 && unpacked == 0 {
            meter.hit()
        } else {
            meter.pulled(pulled_bytes)
        }
        if unpacked > 0 {
            self.keep_marks().await;
        }
        let prepared = Prepared {
            image: ImageRef::Registry(reference.to_owned()),
            digest: record.digest.clone(),
            handle: handle.clone(),
            env: record.env.clone(),
            pulled_bytes,
            lease,
        };
        self.remember(handle, record);
        Ok(prepared)
    }

    /// The image in the caller's folder, else as the registry has it.
    async fn find(&self, reference: &str) -> Result<(StoredImage, Option<Pulled>), SandboxError> {
        let (images, name) = (self.images.clone(), reference.to_owned());
        let found = blocking(move || images.find(&name)).await;
        let (Err(SandboxError::NoImage { .. }), Some(registry)) = (&found, &self.registry) else {
            return Ok((found?, None));
        };
        self.keep_marks().await;
        let mut pulled = registry.fetch(reference).await;
        if let Err(SandboxError::DiskFull(why)) = &pulled
            && self.found_room(why).await
        {
            pulled = registry.fetch(reference).await;
        }
        pulled.map(|pulled| (pulled.image.clone(), Some(pulled)))
    }

    async fn add(&self, reference: &str, image: &StoredImage) -> Result<Added, SandboxError> {
        let (store, data) = (self.parts.store.clone(), self.parts.data.clone());
        let (name, image) = (reference.to_owned(), image.clone());
        blocking(move || store.add_image(&image).map_err(|error| image_error(&data, &name, error))).await
    }

    /// Keeps what a sandbox wrote as a layer over `base`.
    async fn keep(
        &self,
        handle: &str,
        base: &Prepared,
        under: Record,
        written: &Path,
    ) -> Result<(Record, Lease), SandboxError> {
        let (store, data) = (self.parts.store.clone(), self.parts.data.clone());
        let (handle, base, written) = (handle.to_owned(), base.handle.clone(), written.to_owned());
        let kept = blocking(move || {
            let kept = store.add_derived(&handle, (&base, under), &written);
            kept.map_err(|error| layer_error(&data, "keep a derived layer", error))
        });
        kept.await
    }

    /// Removes what is above the water marks.
    async fn keep_marks(&self) {
        self.make_room(Need::Growth).await;
    }

    /// Whether images could be removed after something failed for want of room: then it is worth another try.
    async fn found_room(&self, why: &str) -> bool {
        let removed = self.make_room(Need::Failure).await;
        tracing::info!(removed, why, "the disk is full");
        removed > 0
    }

    async fn make_room(&self, need: Need) -> u64 {
        let store = self.parts.store.clone();
        let room = blocking(move || store.make_room(need).map_err(|error| os("remove images", error)));
        room.await.unwrap_or_else(|error| {
            tracing::warn!(error = crate::error::chain(&error), "no room was made");
            0
        })
    }

    /// What an earlier preparation found, if it is still there.
    async fn still_there(&self, known: &Prepared) -> Result<Option<Prepared>, SandboxError> {
        let Some((record, lease)) = self.lease(&known.handle).await? else { return Ok(None) };
        self.remember(known.handle.clone(), record);
        Ok(Some(Prepared { lease, ..known.clone() }))
    }

    async fn lease(&self, handle: &str) -> Result<Option<(Record, Lease)>, SandboxError> {
        let (store, handle) = (self.parts.store.clone(), handle.to_owned());
        blocking(move || store.lease(&handle).map_err(|error| os("lease an image", error))).await
    }

    fn remember(&self, handle: String, record: Record) {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).insert(handle, record);
    }

    /// The layers behind a handle.
    fn record(&self, prepared: &Prepared) -> Result<Record, SandboxError> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = records.get(&prepared.handle) {
            return Ok(record.clone());
        }
        drop(records);
        if prepared.handle == HOST {
            return Ok(Record {
                layers: Vec::new(),
                digest: String::new(),
                env: BTreeMap::new(),
                base: None,
            });
        }
        let missing = || SandboxError::NoImage {
            image: prepared.image.to_string(),
            message: format!("its layers are not in {}", self.parts.data.display()),
        };
        let record = self.parts.store.record(&prepared.handle).ok_or_else(missing)?;
        self.remember(prepared.handle.clone(), record.clone());
        Ok(record)
    }

    async fn start_one(&self, spec: &SandboxSpec) -> Result<Sandbox, SandboxError> {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}.{}.{number}", self.parts.live.name(), self.isolation());
        let own_cgroups =
            self.cgroups.iter().flat_map(|cgroups| cgroups.plan(&name, &spec.limits)).collect::<Vec<_>>();
        let plan = self.common.plan(spec, self.record(&spec.prepared)?.layers, own_cgroups.clone());
        let (launcher, stream) = Launcher::start(&self.parts.guest, &plan).await?;
        let running = Arc::new(Running::new(launcher, self.cgroups.clone(), own_cgroups));
        let identity = self.common.identity(spec, self.cgroups.as_deref());
        let hold = Hold { name: name.clone(), running: running.clone() };
        match Sandbox::attach(stream.output, stream.input, identity, Box::new(hold)).await {
            Ok(sandbox) => {
                self.note(name, &running);
                Ok(sandbox.with_workdir(&spec.workdir).with_lease(spec.prepared.lease.clone()))
            }
            Err(error) => Err(running.failure().await.unwrap_or(error)),
        }
    }

    fn note(&self, name: String, running: &Arc<Running>) {
        let mut all = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, running| running.strong_count() > 0);
        all.insert(name, Arc::downgrade(running));
    }

    fn find_running(&self, sandbox: &Sandbox) -> Result<Arc<Running>, SandboxError> {
        let all = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let found = all.get(sandbox.handle()).and_then(Weak::upgrade);
        found.ok_or_else(|| SandboxError::Gone("it is not one of this backend's".into()))
    }
}

#[async_trait]
impl Backend for Embedded {
    async fn prepare(&self, image: &ImageRef) -> Result<Prepared, SandboxError> {
        let ImageRef::Registry(reference) = image else {
            let env = BTreeMap::new();
            let (image, handle) = (ImageRef::Host, HOST.to_owned());
            let (digest, lease) = (String::new(), Lease::default());
            return Ok(Prepared { image, digest, handle, env, pulled_bytes: 0, lease });
        };
        let slot = {
            let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
            prepared.entry(reference.clone()).or_default().clone()
        };
        let mut slot = slot.lock().await;
        if let Some(known) = &*slot
            && let Some(prepared) = self.still_there(known).await?
        {
            self.parts.store.meter.hit();
            return Ok(prepared);
        }
        let prepared = self.unpack(reference).await?;
        *slot = Some(Prepared { lease: Lease::default(), pulled_bytes: 0, ..prepared.clone() });
        Ok(prepared)
    }

    async fn derived(&self, base: &Prepared, key: &str) -> Result<Option<Prepared>, SandboxError> {
        let handle = derived_handle(base, key);
        let Some((record, lease)) = self.lease(&handle).await? else { return Ok(None) };
        self.remember(handle.clone(), record);
        let lease = base.lease.and(&lease);
        Ok(Some(Prepared { handle, pulled_bytes: 0, lease, ..base.clone() }))
    }

    async fn derive(&self, sandbox: Sandbox, base: &Prepared, key: &str) -> Result<Prepared, SandboxError> {
        let running = self.find_running(&sandbox)?;
        let record = self.record(base)?;
        let written = running.hold().await?;
        let handle = derived_handle(base, key);
        let mut kept = self.keep(&handle, base, record.clone(), &written).await;
        if let Err(SandboxError::DiskFull(why)) = &kept
            && self.found_room(why).await
        {
            kept = self.keep(&handle, base, record, &written).await;
        }
        sandbox.close().await?;
        let (record, lease) = kept?;
        self.keep_marks().await;
        self.remember(handle.clone(), record);
        let lease = base.lease.and(&lease);
        Ok(Prepared { handle, pulled_bytes: 0, lease, ..base.clone() })
    }

    async fn start(&self, spec: &SandboxSpec) -> Result<Sandbox, SandboxError> {
        self.start_one(spec).await
    }

    async fn evidence(&self) -> Option<SandboxError> {
        let full = node::full_disk(&self.parts.data);
        // Without a limit of its own the code inside could have used the memory up.
        full.or_else(|| self.cgroups.as_ref().and_then(|_| node::exhausted_memory()))
    }

    fn image_counts(&self) -> ImageCounts {
        self.parts.store.meter.counts()
    }

    async fn reap(&self) -> Result<usize, SandboxError> {
        let data = self.parts.data.clone();
        blocking(move || Ok(reap(&data))).await
    }
}

/// Removes what dead processes left below `data`. Their sandboxes end by themselves.
pub(crate) fn reap(data: &Path) -> usize {
    let removed = Cgroups::reap(data) + store::reap_entries(data, "tmp");
    for name in Live::all(data) {
        // Folders of the process backend may still carry the name: they hold on to it until they are gone.
        if let Fate::Dead(_lock) = Live::fate(data, &name)
            && !store::has_entries(data, "process", &name)
        {
            Live::forget(data, &name);
        }
    }
    removed
}

/// Not the base's digest alone: a derived base has the same one.
fn derived_handle(base: &Prepared, key: &str) -> String {
    let parts = [&base.digest, &base.handle, key];
    store::hex(&Sha256::digest(parts.join("\0")))
}

/// Runs what waits for the disk where it does not hold others up.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SandboxError> + Send + 'static,
) -> Result<T, SandboxError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(os("finish work on the disk", io::Error::other(error))),
    }
}

fn image_error(data: &Path, reference: &str, error: io::Error) -> SandboxError {
    match error.kind() {
        io::ErrorKind::InvalidData => {
            SandboxError::NoImage { image: reference.to_owned(), message: format!("it is damaged: {error}") }
        }
        _ => layer_error(data, &format!("unpack {reference}"), error),
    }
}

fn layer_error(data: &Path, action: &str, error: io::Error) -> SandboxError {
    match error.kind() {
        io::ErrorKind::PermissionDenied if node::is_overlay(data) => SandboxError::Unsupported(format!(
            "failed to {action}: {} is on an overlay, as a container's own files are, which cannot hold layers with \
             removed files; {}",
            data.display(),
            match Place::look() {
                Place::Pod => format!("mount an emptyDir at {} or above it", data.display()),
                Place::Machine => "put the data folder on a volume".into(),
            }
        )),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            SandboxError::DiskFull(format!("failed to {action}: {error}"))
        }
        _ => os(action, error),
    }
}
