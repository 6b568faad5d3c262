//! Sandboxes as pods of a Kubernetes cluster, one each.
//!
//! The secret of this module is the cluster: which objects make, keep and remove a sandbox, what their statuses mean,
//! and how to speak to a guest that is reached through an API server. A pod's first container installs the guest on a
//! volume; the second is the environment, with the guest as its first process. The guest waits for relays, which are
//! started beside it by `exec`, one at a time; when one is cut off the stream goes on with the next (`link`). A guest
//! that nobody reaches for [`PodsOptions::orphan`] ends, and its pod with it. Pods belong to an object of their worker
//! slot (`owner`), which the slot's next incarnation deletes.
//!
//! Images are pulled by the nodes. Layers cannot be kept here: who needs a set-up repeats it in every sandbox.

mod bucket;
mod cluster;
mod dial;
mod held;
mod identity;
mod images;
mod link;
mod owner;
mod spec;
mod status;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use rand::TryRng;
use thresher_core::record::SandboxIdentity;
use thresher_core::run_spec::PullPolicy;
use thresher_core::task::ImageRef;
use thresher_guest::resume::{Key, socket_name};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::{Backend, Prepared, Sandbox, SandboxError, SandboxSpec, StartOptions};
use bucket::Bucket;
use cluster::{CallError, Cluster};
use dial::PodDial;
use held::{Held, Removals};
use images::Images;
use link::{Link, Patience};
use owner::Owner;
use spec::{Common, Own, Ownership};
use status::{Pulls, Stage, Up, stage};
use watch::{Seen, Watch};

pub use crate::guest::install_as as install_guest;
pub use spec::OlderGenerations;

/// How often a starting pod is looked at, besides the watch.
const LOOK: Duration = Duration::from_secs(5);

/// Pause before a creation is tried again that a quota refused.
const QUOTA_PAUSE: Duration = Duration::from_secs(5);

/// How a [`Pods`] backend is set up.
#[derive(Clone, Debug)]
pub struct PodsOptions {
    /// The file that says where the cluster is and who asks; absent in a pod of the cluster, which uses its own account.
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of the sandboxes. Nothing else should live in it.
    pub namespace: String,
    /// Image that brings the guest.
    pub guest_image: String,
    /// Command in it that writes the guest into the folder that is appended, as the file `guest`.
    pub guest_command: Vec<String>,
    /// When the environments' images are pulled.
    pub pull: PullPolicy,
    /// Reference prefixes and what replaces them; the longest that fits counts.
    pub registry_map: BTreeMap<String, String>,
    /// What is merged into every pod's spec: objects key by key, lists of named things by name.
    pub overrides: serde_json::Value,
    /// Labels of every pod, besides ours.
    pub labels: BTreeMap<String, String>,
    /// Whether the cluster is known to enforce network policies on pods labelled `thresher.dev/network: none`.
    pub network_enforced: bool,
    /// Run and process that the pods belong to.
    pub start: StartOptions,
    /// The worker slot. Its next incarnation removes what this one leaves, so no two live processes may share one.
    pub slot: String,
    /// Generation of the worker's job.
    pub generation: Option<u32>,
    /// What is known of the workers of older ones.
    pub older: OlderGenerations,
    /// After this without a runner a guest ends its sandbox.
    pub orphan: Duration,
    /// After this the cluster ends a sandbox, whatever it does.
    pub deadline: Duration,
    /// How long a pod may wait for a node, or for its namespace's quota.
    pub schedule_limit: Duration,
    /// How long a pod may take to start on its node, its pull included.
    pub start_limit: Duration,
    /// How long the API server may be away. Shorter than `orphan`.
    pub away_limit: Duration,
    /// Pods created per second in the long run, and at once.
    pub creations: (f64, u32),
    /// Connections made at a time.
    pub concurrent_execs: usize,
}

impl PodsOptions {
    /// The usual options for pods in `namespace` that get the guest from `guest_image`.
    pub fn new(namespace: impl Into<String>, guest_image: impl Into<String>) -> Self {
        Self {
            kubeconfig: None,
            namespace: namespace.into(),
            guest_image: guest_image.into(),
            guest_command: vec!["thresher".into(), "install-guest".into()],
            pull: PullPolicy::Missing,
            registry_map: BTreeMap::new(),
            overrides: serde_json::Value::Null,
            labels: BTreeMap::new(),
            network_enforced: false,
            start: StartOptions::default(),
            slot: "0".into(),
            generation: None,
            older: OlderGenerations::default(),
            orphan: Duration::from_secs(300),
            deadline: Duration::from_secs(24 * 3600),
            schedule_limit: Duration::from_secs(600),
            start_limit: Duration::from_secs(1_800),
            away_limit: Duration::from_secs(240),
            creations: (10.0, 20),
            concurrent_execs: 8,
        }
    }
}

/// Starts sandboxes as pods.
pub struct Pods {
    cluster: Arc<Cluster>,
    watch: Arc<Watch>,
    removals: Arc<Removals>,
    /// What carries the streams of live sandboxes; each ends with its sandbox.
    links: TaskTracker,
    owner: Owner,
    images: Images,
    common: Common,
    creations: Bucket,
    execs: Arc<Semaphore>,
    patience: Patience,
    network_enforced: bool,
    schedule_limit: Duration,
    start_limit: Duration,
}

impl Pods {
    /// Connects to the cluster.
    ///
    /// # Errors
    /// [`SandboxError::Daemon`] if its API server does not answer, [`SandboxError::Unsupported`] if it is not known
    /// where it is.
    pub async fn connect(options: PodsOptions) -> Result<Self, SandboxError> {
        const ANSWER: Duration = Duration::from_secs(30);
        let PodsOptions {
            kubeconfig,
            namespace,
            guest_image,
            guest_command,
            pull,
            registry_map,
            overrides,
            labels,
            network_enforced,
            start: StartOptions { run, incarnation },
            slot,
            generation,
            older,
            orphan,
            deadline,
            schedule_limit,
            start_limit,
            away_limit,
            creations,
            concurrent_execs,
        } = options;
        let cluster = Arc::new(Cluster::connect(kubeconfig.as_deref(), &namespace, away_limit).await?);
        cluster.answers(ANSWER).await?;
        let ownership = Ownership { run, slot, incarnation, generation, older };
        let watch = Arc::new(Watch::begin(cluster.pods.clone(), &ownership.selector()));
        let owner = Owner::new(cluster.clone(), ownership.clone());
        let (orphan_s, deadline_s) = (orphan.as_secs(), deadline.as_secs().max(1));
        Ok(Self {
            removals: Arc::new(Removals::new(cluster.clone(), watch.clone())),
            cluster,
            watch,
            links: TaskTracker::new(),
            owner,
            images: Images::new(pull, registry_map),
            common: Common { ownership, guest_image, guest_command, overrides, labels, orphan_s, deadline_s },
            creations: Bucket::new(creations.0, creations.1),
            execs: Arc::new(Semaphore::new(concurrent_execs.max(1))),
            patience: patience(away_limit),
            network_enforced,
            schedule_limit,
            start_limit,
        })
    }

    /// Starts a pod and attaches to its guest.
    async fn open(&self, spec: &SandboxSpec, pull: PullPolicy) -> Result<(Sandbox, Up), SandboxError> {
        let _in_use = self.removals.in_use();
        let key = Key::new(random()?);
        let held = self.create(spec, &key, pull).await?;
        let up = self.until_up(&held.name).await?;
        let dial = PodDial {
            cluster: self.cluster.clone(),
            watch: self.watch.clone(),
            permits: self.execs.clone(),
            pod: held.name.clone(),
            socket: socket_name(&key.hash()),
        };
        let Link { reader, writer, absence } = link::open(dial, key, self.patience.clone(), &self.links);
        let identity = SandboxIdentity::default();
        let sandbox = Sandbox::attach_reachable(reader, writer, absence, identity, Box::new(held)).await?;
        Ok((sandbox, up))
    }

    /// Creates the pod, in a task of its own: the cluster goes on creating when the caller gives up, and then somebody
    /// must remove what comes of it.
    async fn create(&self, spec: &SandboxSpec, key: &Key, pull: PullPolicy) -> Result<Held, SandboxError> {
        let name = spec::object_name(&self.common.ownership.run, &hex(&random::<8>()?));
        let owner = self.owner.get().await?;
        let own = Own { name: name.clone(), key_hash: key.hash(), owner, pull };
        let pod = spec::build(spec, &self.common, &own)?;
        let begun = Instant::now();
        loop {
            self.creations.take().await;
            match self.create_once(name.clone(), pod.clone()).await {
                Err(SandboxError::NoRoom(why)) if begun.elapsed() < self.schedule_limit => {
                    tracing::debug!(why, "a pod waits for its quota");
                    tokio::time::sleep(QUOTA_PAUSE).await;
                }
                created => return created,
            }
        }
    }

    async fn create_once(&self, name: String, pod: Pod) -> Result<Held, SandboxError> {
        let (cluster, removals) = (self.cluster.clone(), self.removals.clone());
        let (sender, receiver) = oneshot::channel();
        self.removals.tasks.spawn(async move {
            let held = removals.hold(name);
            let options = PostParams { field_manager: Some("thresher".into()), ..PostParams::default() };
            let created = match cluster.call(|| cluster.pods.create(&options, &pod)).await {
                Ok(_) => Ok(held),
                // An answer that was lost: names are random.
                Err(error) if error.is_there_already() => Ok(held),
                Err(error) => Err(explain_creation(&cluster, error)),
            };
            // A pod that nobody waits for any more is dropped here, and so removed.
            drop(sender.send(created));
        });
        receiver.await.map_err(|_| SandboxError::Daemon("call was broken off".into()))?
    }

    /// Waits until the environment's first process runs, or it is certain that it will not.
    async fn until_up(&self, name: &str) -> Result<Up, SandboxError> {
        let begun = Instant::now();
        let (mut placed, mut pulls) = (None, Pulls::default());
        let mut changes = self.watch.changes();
        loop {
            if let Some(pod) = present(self.watch.seen(name))? {
                match stage(&pod) {
                    Stage::Up(up) => return Ok(up),
                    Stage::Over(error) => return Err(error),
                    Stage::NotPulled { error, waiting } if pulls.failed(&error, waiting) => {
                        return Err(error);
                    }
                    Stage::Unscheduled(why) if begun.elapsed() >= self.schedule_limit => {
                        return Err(SandboxError::NoRoom(why));
                    }
                    Stage::Unscheduled(_) => placed = None,
                    Stage::NotPulled { .. } | Stage::Starting => {
                        let placed = placed.get_or_insert_with(Instant::now);
                        if placed.elapsed() >= self.start_limit {
                            let limit = self.start_limit;
                            return Err(SandboxError::Lost(format!(
                                "its node did not start it within {limit:?}"
                            )));
                        }
                    }
                }
            }
            if timeout(LOOK, changes.changed()).await.is_err() {
                let pod = self.cluster.call(|| self.cluster.pods.get_opt(name)).await;
                self.watch.look(name, pod.map_err(|error| self.cluster.error("read a pod", error))?);
            }
        }
    }
}

/// The pod while there is one.
fn present(seen: Seen) -> Result<Option<Arc<Pod>>, SandboxError> {
    match seen {
        Seen::Nothing => Ok(None),
        Seen::There(pod) => Ok(Some(pod)),
        Seen::Gone(pod) => match stage(&pod) {
            Stage::Over(error) => Err(error),
            _ => Err(SandboxError::Lost("the pod was deleted from outside".into())),
        },
    }
}

fn explain_creation(cluster: &Cluster, error: CallError) -> SandboxError {
    cluster.error("create a pod", error)
}

/// Whoever stops the relay from inside cuts the stream off without an end: that must show well before a request's
/// own deadline.
fn patience(away: Duration) -> Patience {
    Patience {
        dial: Duration::from_secs(15),
        away,
        ping: Duration::from_secs(3),
        silence: Duration::from_secs(9),
        pause: (Duration::from_millis(50), Duration::from_secs(5)),
    }
}

#[async_trait]
impl Backend for Pods {
    async fn prepare(&self, image: &ImageRef) -> Result<Prepared, SandboxError> {
        self.images.prepare(image, async |spec, pull| self.open(&spec, pull).await).await
    }

    async fn derived(&self, _base: &Prepared, _key: &str) -> Result<Option<Prepared>, SandboxError> {
        Ok(None)
    }

    async fn derive(&self, sandbox: Sandbox, _base: &Prepared, _key: &str) -> Result<Prepared, SandboxError> {
        sandbox.close().await?;
        Err(SandboxError::Unsupported("the files of a pod cannot be kept as a layer".into()))
    }

    fn keeps_layers(&self) -> bool {
        false
    }

    async fn start(&self, spec: &SandboxSpec) -> Result<Sandbox, SandboxError> {
        let (sandbox, up) = self.open(spec, self.images.pull_of(&spec.prepared)).await?;
        let mut sandbox = sandbox.with_workdir(&spec.workdir);
        if up.digest != spec.prepared.digest {
            let (image, digest) = (spec.prepared.handle.clone(), &spec.prepared.digest);
            let message = format!("it names {} now, and named {digest} before", up.digest);
            sandbox.close().await?;
            return Err(SandboxError::NoImage { image, message });
        }
        let workdir = sandbox.workdir().to_owned();
        if workdir != "/" {
            // Putting nothing into a folder creates it.
            sandbox.unarchive(&workdir, &[0; 1_024]).await?;
        }
        let identity = identity::identify(&mut sandbox, spec, self.network_enforced).await?;
        Ok(sandbox.with_identity(identity))
    }

    async fn evidence(&self) -> Option<SandboxError> {
        const ANSWER: Duration = Duration::from_secs(5);
        self.cluster.answers(ANSWER).await.err()
    }

    async fn settle(&self) {
        self.removals.settle().await;
        self.owner.let_go(|| self.removals.is_unused()).await;
        if let Err(error) = self.owner.reap_drained().await {
            tracing::debug!(%error, "what older generations left stays for the slot's next incarnation to delete");
        }
    }

    async fn reap(&self) -> Result<usize, SandboxError> {
        self.owner.reap().await
    }
}

fn random<const LENGTH: usize>() -> Result<[u8; LENGTH], SandboxError> {
    let mut bytes = [0; LENGTH];
    rand::rngs::SysRng.try_fill_bytes(&mut bytes).map_err(|error| SandboxError::Os {
        action: "get a random number".into(),
        source: std::io::Error::other(error),
    })?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
