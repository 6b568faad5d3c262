//! Sandboxes as containers of a Docker daemon.
//!
//! The secret of this module is the daemon: which calls make, keep and remove a container, what its refusals mean,
//! and how to tell its own trouble from a sandbox's. A container is created, attached to and then started, in this
//! order, so that the guest's standard input is ours before it runs. When the stream ends (the sandbox is closed, or
//! this process is killed) the guest ends, and with it, as it is the first process, everything in the container;
//! the daemon then removes it. What was created and never started is removed by [`Backend::reap`] of the next start.
//!
//! The daemon has to run on this machine: the guest is mounted from a folder of this machine.

mod cache;
mod container;
mod cooldown;
mod derive;
mod engine;
mod evidence;
mod held;
mod image;
mod owner;
pub(crate) mod pull;
mod reap;
pub(crate) mod reference;
mod stream;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bollard::container::AttachContainerResults;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{AttachContainerOptions, CreateContainerOptions, InspectNetworkOptions};
use rand::TryRng;
use thresher_core::ImageCounts;
use thresher_core::record::SandboxIdentity;
use thresher_core::run_spec::{LimitsSpec, Network, PullPolicy};
use thresher_core::task::ImageRef;
use tokio::sync::OnceCell;

use crate::{
    Backend, FileMode, Prepared, Sandbox, SandboxError, SandboxSpec, StartOptions, WaterMarks, guest,
};
use cache::Cache;
#[cfg(feature = "pods")]
pub(crate) use container::CAPABILITIES;
use container::{Applied, Common};
use engine::{CallError, Engine, Facts};
use held::{Held, Removals};
use image::Images;
use owner::Owner;
use stream::GuestOutput;
use watch::{DaemonLife, Watch};

/// `/etc/hosts` of a sandbox without network. The daemon would mount its own, had the container a network.
const HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\tsandbox\n";

/// How a [`Docker`] backend is set up.
#[derive(Clone, Debug)]
pub struct DockerOptions {
    /// Address of the daemon in the form of `DOCKER_HOST`: `unix://PATH`, `tcp://HOST:PORT`; the usual socket if absent.
    pub host: Option<String>,
    /// Folder of this machine that the guest is installed in. The daemon must see it under the same path.
    pub guest_dir: PathBuf,
    /// Folder for the index of what was pulled. Processes that share the daemon should share it: in it they see what the
    /// others use.
    pub index: PathBuf,
    /// When images are removed that this or another process with the same index pulled or derived.
    pub marks: WaterMarks,
    /// When images are pulled.
    pub pull: PullPolicy,
    /// Reference prefixes and what replaces them; the longest that fits counts.
    pub registry_map: BTreeMap<String, String>,
    /// Run and process that the containers belong to.
    pub start: StartOptions,
    /// After this a call that the daemon has not answered counts as unanswered.
    pub call_deadline: Duration,
    /// After this without a sign of progress a pull is given up.
    pub pull_stall: Duration,
    /// First pause after a registry's 429 that names none; it doubles with every refusal in a row.
    pub rate_limit_pause: Duration,
    /// Bytes that must be free on the daemon's disk; with less it counts as full.
    pub min_free_bytes: u64,
}

impl DockerOptions {
    /// The usual options: the usual socket, and the guest in `guest_dir`, with the index below it.
    pub fn new(guest_dir: impl Into<PathBuf>) -> Self {
        let guest_dir = guest_dir.into();
        Self {
            host: None,
            index: guest_dir.join("images"),
            guest_dir,
            marks: WaterMarks::default(),
            pull: PullPolicy::Missing,
            registry_map: BTreeMap::new(),
            start: StartOptions::default(),
            call_deadline: Duration::from_secs(120),
            pull_stall: Duration::from_secs(600),
            rate_limit_pause: Duration::from_secs(60),
            min_free_bytes: 128 << 20,
        }
    }
}

/// Starts sandboxes as containers.
pub struct Docker {
    engine: Arc<Engine>,
    facts: Facts,
    images: Images,
    cache: Arc<Cache>,
    common: Common,
    owner: Owner,
    watch: Arc<Watch>,
    removals: Arc<Removals>,
    min_free_bytes: u64,
    /// Set once the daemon is known to have a bridge.
    bridge: OnceCell<()>,
    /// What the daemon made of each combination of limits and network, read back from its first container.
    applied: Mutex<Vec<(LimitsSpec, Network, Applied)>>,
}

impl Docker {
    /// Connects to the daemon and installs the guest.
    ///
    /// # Errors
    /// [`SandboxError::Daemon`] with the address if it does not answer, [`SandboxError::Os`] if the guest cannot be
    /// written.
    pub async fn connect(options: DockerOptions) -> Result<Self, SandboxError> {
        let DockerOptions {
            host,
            guest_dir,
            index,
            marks,
            pull,
            registry_map,
            start: StartOptions { run, incarnation },
            call_deadline,
            pull_stall,
            rate_limit_pause,
            min_free_bytes,
        } = options;
        let engine = Arc::new(Engine::new(host.as_deref(), call_deadline)?);
        let facts = engine.facts().await?;
        let owner = Owner::this();
        let common = Common {
            guest: install_guest(&guest_dir)?,
            owner: serde_json::to_string(&owner).expect("an owner is plain strings and numbers"),
            incarnation,
            run,
        };
        let watch = Arc::new(Watch::new(engine.socket.clone()));
        let cache = Arc::new(Cache::open(&index, &facts.id, marks, facts.root_dir.clone())?);
        Ok(Self {
            removals: Arc::new(Removals::new(engine.clone(), watch.clone())),
            images: Images::new(cache.clone(), pull, registry_map, pull_stall, rate_limit_pause),
            cache,
            applied: Mutex::default(),
            bridge: OnceCell::new(),
            engine,
            facts,
            common,
            owner,
            watch,
            min_free_bytes,
        })
    }

    /// Makes sure that sandboxes can have the network. Without a bridge the daemon makes containers that ask for it all the
    /// same, and they have none.
    ///
    /// # Errors
    /// [`SandboxError::Unsupported`] if the daemon has no bridge, [`SandboxError::Daemon`] if it does not answer.
    pub async fn require_bridge(&self) -> Result<(), SandboxError> {
        let has_bridge = async || {
            let options = None::<InspectNetworkOptions>;
            match self.engine.call(self.engine.api.inspect_network(container::BRIDGE, options)).await {
                Ok(_) => Ok(()),
                Err(error) if error.is_not_found() => Err(SandboxError::Unsupported(format!(
                    "`network: full` is asked for, and the container engine at {} has no bridge: it was started with \
                     --bridge=none, as those beside workers in a cluster are without `engine_network`",
                    self.engine.address
                ))),
                Err(error) => Err(self.engine.error("tell about its bridge", error)),
            }
        };
        self.bridge.get_or_try_init(has_bridge).await.copied()
    }

    /// Creates the container, in a task of its own: the daemon goes on creating when the caller gives up, and then
    /// somebody must remove what comes of it.
    async fn create(&self, spec: &SandboxSpec) -> Result<Held, SandboxError> {
        let (engine, removals) = (self.engine.clone(), self.removals.clone());
        let name = container::name(&self.common.run, random()?);
        let body = container::create_body(spec, &self.common);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.removals.track(async move {
            // A container that nobody waits for any more is dropped here, and so removed.
            drop(sender.send(create_and_hold(&engine, &removals, name, body).await));
        });
        let result = receiver.await.map_err(|_| SandboxError::Daemon("call was broken off".into()))?;
        result.map_err(|error| match error {
            CallError::Refused { status: 404, message } => {
                self.images.forget(&spec.prepared.handle);
                SandboxError::NoImage { image: spec.prepared.image.to_string(), message }
            }
            CallError::Refused { status: 400, message } if message.contains("bind source path") => {
                SandboxError::Unsupported(format!(
                    "the container engine does not see this machine's files: {message}"
                ))
            }
            error => self.engine.error("create a container", error),
        })
    }

    async fn attach(&self, held: &Held) -> Result<AttachContainerResults, SandboxError> {
        let options = AttachContainerOptions {
            stream: true,
            stdin: true,
            stdout: true,
            stderr: true,
            ..AttachContainerOptions::default()
        };
        let call = self.engine.api.attach_container(&held.id, Some(options));
        self.engine.call(call).await.map_err(|error| self.engine.error("attach to a container", error))
    }

    async fn run(&self, held: &mut Held, life: Option<DaemonLife>) -> Result<(), SandboxError> {
        held.starting();
        if let Some(life) = life {
            self.watch.started(&held.id, life);
        }
        let call = self.engine.api.start_container(&held.id, None);
        self.engine.call(call).await.map_err(|error| self.engine.error("start a container", error))
    }

    /// The identity of the sandbox to be, from what the daemon says it applied. Asked once per kind of sandbox.
    async fn identity(&self, spec: &SandboxSpec, held: &Held) -> Result<SandboxIdentity, SandboxError> {
        if let Some(applied) = self.known(spec) {
            return Ok(applied.identity(spec, &self.facts));
        }
        let call = self.engine.api.inspect_container(&held.id, None);
        let container =
            self.engine.call(call).await.map_err(|error| self.engine.error("inspect a container", error))?;
        let applied = Applied::of(&container, &self.facts);
        let identity = applied.identity(spec, &self.facts);
        let mut known = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        known.push((spec.limits.clone(), spec.network, applied));
        Ok(identity)
    }

    fn known(&self, spec: &SandboxSpec) -> Option<Applied> {
        let known = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let same =
            |entry: &&(LimitsSpec, Network, Applied)| entry.0 == spec.limits && entry.1 == spec.network;
        known.iter().find(same).map(|(_, _, applied)| applied.clone())
    }
}

#[async_trait]
impl Backend for Docker {
    async fn prepare(&self, image: &ImageRef) -> Result<Prepared, SandboxError> {
        self.images.prepare(&self.engine, image).await
    }

    async fn prepare_locked(&self, image: &ImageRef, digest: &str) -> Result<Prepared, SandboxError> {
        self.images.prepare_locked(&self.engine, image, digest).await
    }

    async fn derived(&self, base: &Prepared, key: &str) -> Result<Option<Prepared>, SandboxError> {
        derive::lookup(&self.engine, &self.cache, base, key).await
    }

    async fn derive(&self, sandbox: Sandbox, base: &Prepared, key: &str) -> Result<Prepared, SandboxError> {
        let reference = derive::reference(base, key);
        let lock = self.images.lock(&reference);
        let _alone = lock.lock().await;
        let (engine, cache) = (&self.engine, &self.cache);
        let alone = cache.alone(&reference).await?;
        let derived = match derive::lookup(engine, cache, base, key).await? {
            Some(first) => first,
            None => {
                let made = derive::commit(engine, cache, sandbox.handle(), base, key).await?;
                cache.keep_marks(engine).await;
                made
            }
        };
        alone.forget();
        sandbox.close().await?;
        Ok(derived)
    }

    async fn start(&self, spec: &SandboxSpec) -> Result<Sandbox, SandboxError> {
        if spec.network == Network::Full {
            self.require_bridge().await?;
        }
        let mut held = self.create(spec).await?;
        let life = async { Ok(self.watch.life().await) };
        let (streams, identity, life) =
            tokio::try_join!(self.attach(&held), self.identity(spec, &held), life)?;
        self.run(&mut held, life).await?;
        let output = GuestOutput::new(streams.output, held.id.clone());
        let attached = Sandbox::attach(output, streams.input, identity, Box::new(held)).await?;
        let mut sandbox = attached.with_workdir(&spec.workdir).with_lease(spec.prepared.lease.clone());
        if spec.network == Network::None {
            write_hosts(&mut sandbox).await?;
        }
        Ok(sandbox)
    }

    async fn evidence(&self) -> Option<SandboxError> {
        evidence::look(&self.engine, &self.facts, &self.watch, self.min_free_bytes).await
    }

    async fn settle(&self) {
        self.removals.settle().await;
    }

    fn image_counts(&self) -> ImageCounts {
        self.cache.meter.counts()
    }

    async fn reap(&self) -> Result<usize, SandboxError> {
        reap::reap(&self.engine, &self.owner).await
    }
}

async fn create_and_hold(
    engine: &Engine,
    removals: &Arc<Removals>,
    name: String,
    body: ContainerCreateBody,
) -> Result<Held, CallError> {
    let options = CreateContainerOptions { name: Some(name), platform: String::new() };
    let created = engine.call(engine.api.create_container(Some(options), body)).await?;
    for warning in &created.warnings {
        tracing::debug!(container = %created.id, warning, "the daemon does not apply all that was asked");
    }
    Ok(removals.hold(created.id))
}

/// Makes `localhost` and the sandbox's own name known inside. An image whose `/etc` cannot be written does without.
async fn write_hosts(sandbox: &mut Sandbox) -> Result<(), SandboxError> {
    match sandbox.write("/etc/hosts", HOSTS.as_bytes(), FileMode::Plain).await {
        Err(error @ SandboxError::File { .. }) => {
            tracing::debug!(%error, "no hosts file");
            Ok(())
        }
        other => other,
    }
}

fn install_guest(dir: &std::path::Path) -> Result<String, SandboxError> {
    let os = |source| SandboxError::Os { action: format!("install the guest in {}", dir.display()), source };
    let path = guest::install(dir).and_then(std::fs::canonicalize).map_err(os)?;
    Ok(path.to_string_lossy().into_owned())
}

fn random() -> Result<u64, SandboxError> {
    rand::rngs::SysRng.try_next_u64().map_err(|error| SandboxError::Os {
        action: "get a random number".into(),
        source: std::io::Error::other(error),
    })
}
