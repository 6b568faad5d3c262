//! Makes an image fit for agents, once per digest.
//!
//! Images are dirty before an agent starts: they hold the hidden tests, the repository's future history and stale
//! caches. All of that is done once in a sandbox of the pristine image, verified, and kept as a derived layer from
//! which every later sandbox starts. The hidden tests are read out to the node's cache; only grading sandboxes get them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use thresher_core::fault::{Blame, Fault, Phase, Retry};
use thresher_core::run_spec::{Network, SandboxSpec as SandboxSettings};
use thresher_core::task::{Family, ImageRef};
use thresher_core::{Sha256Hex, Task};
use thresher_sandbox::{Backend, Command, Prepared, Sandbox, SandboxError, SandboxSpec};
use tokio::sync::OnceCell;

use crate::blobs::{disk_fault, write_atomically};
use crate::journal::Journal;

/// Version of set-up and scrub; it is part of the derived layer's key and of every record.
pub const SETUP_VERSION: &str = "1";

/// Limit of a hidden-test bundle, in bytes.
const BUNDLE_LIMIT: u64 = 256 << 20;
/// Where hidden files wait inside the pristine sandbox to be read out.
const STAGE: &str = "/.thresher-hidden";

/// An environment ready for rollouts.
#[derive(Debug)]
pub struct Environment {
    /// The image with set-up and scrub done: what sandboxes start from. Without both where the backend keeps no layers.
    pub prepared: Prepared,
    /// The set-up and scrub that every sandbox still needs.
    repeated: Option<&'static str>,
    /// Digest of the pristine image.
    pub digest: String,
    /// The hidden tests as a tar, on the node's disk; `None` where the image holds none.
    pub hidden: Option<PathBuf>,
    /// What deviates from the family's own environment.
    pub deviations: Vec<String>,
    /// Milliseconds that making it took in this process: pulling, and set-up.
    pub pull_ms: u64,
    pub(crate) captured: Captured,
    /// Whether its image was removed from the node behind our back.
    gone: AtomicBool,
}

/// The variables of every command, captured once per environment however often it is made again.
type Captured = Arc<OnceCell<BTreeMap<String, String>>>;

/// The environments of this process, each made once for as long as somebody uses it: one keeps its image on the node.
pub struct Environments {
    backend: Arc<dyn Backend>,
    journal: Arc<dyn Journal>,
    settings: SandboxSettings,
    cache: PathBuf,
    labels: BTreeMap<String, String>,
    ready: Mutex<HashMap<Key, Slot>>,
    /// The one that was made ahead of its use: only the work that is claimed next is prepared.
    ahead: Mutex<Option<(Key, Arc<Environment>)>>,
}

type Key = (ImageRef, Family);

/// One environment in the making, or made and in use.
type Slot = Arc<tokio::sync::Mutex<Made>>;

/// What is left of an environment once it was made.
#[derive(Default)]
struct Made {
    environment: Weak<Environment>,
    captured: Captured,
}

impl Environments {
    /// Makes environments with `backend`, from the images that `journal` knows the run is locked to; hidden tests are
    /// cached below `cache`.
    pub fn new(
        backend: Arc<dyn Backend>,
        journal: Arc<dyn Journal>,
        settings: SandboxSettings,
        cache: PathBuf,
        labels: BTreeMap<String, String>,
    ) -> Self {
        Self { backend, journal, settings, cache, labels, ready: Mutex::default(), ahead: Mutex::default() }
    }

    /// The environment of `task`: a second caller waits for the first, and a failure is tried again by the next.
    pub async fn get(&self, task: &Task) -> Result<Arc<Environment>, Fault> {
        let key = key(task);
        let environment = self.get_for(task, key.clone()).await?;
        // From here on it is kept by who uses it.
        self.ahead().take_if(|(ahead, _)| *ahead == key);
        Ok(environment)
    }

    /// Makes the environment of `task` ready, and keeps it until it is used, or another one is prefetched.
    pub async fn prefetch(&self, task: &Task) -> Result<(), Fault> {
        let key = key(task);
        let environment = self.get_for(task, key.clone()).await?;
        *self.ahead() = Some((key, environment));
        Ok(())
    }

    async fn get_for(&self, task: &Task, key: Key) -> Result<Arc<Environment>, Fault> {
        let slot = {
            let mut ready = self.ready.lock().expect("no holder of this lock panics");
            Arc::clone(ready.entry(key).or_default())
        };
        let mut made = slot.lock().await;
        if let Some(environment) = made.environment.upgrade()
            && !environment.gone.load(Ordering::Relaxed)
        {
            return Ok(environment);
        }
        let captured = Arc::clone(&made.captured);
        let environment = Arc::new(Environment { captured, ..self.make(task).await? });
        made.environment = Arc::downgrade(&environment);
        Ok(environment)
    }

    fn ahead(&self) -> MutexGuard<'_, Option<(Key, Arc<Environment>)>> {
        self.ahead.lock().expect("no holder of this lock panics")
    }

    async fn make(&self, task: &Task) -> Result<Environment, Fault> {
        let started = Instant::now();
        let image = &task.environment.image;
        let pristine = self.resolve(image).await?;
        let pull_ms = started.elapsed().as_millis() as u64;
        let digest = pristine.digest.clone();
        let Some(recipe) = Recipe::of(task.family) else {
            return Ok(Environment::new(pristine, None, digest, None, Vec::new(), pull_ms));
        };
        let key = layer_key(task.family, &digest);
        let (bundle, notes) =
            (self.cache.join(format!("hidden/{key}.tar")), self.cache.join(format!("hidden/{key}.notes")));
        let (prepared, repeated) = if self.backend.keeps_layers() {
            (self.layer(task, &pristine, &key, &recipe, &bundle, &notes).await?, None)
        } else {
            if !notes.is_file() {
                let rehearsed = self.prepare_files(task, &pristine, &recipe, &bundle, &notes).await?;
                rehearsed.close().await.map_err(|error| fault(&error, Phase::Setup))?;
            }
            (pristine, Some(recipe.script))
        };
        let deviations = std::fs::read_to_string(&notes).map_err(|error| disk_fault(&notes, &error))?;
        let deviations = deviations.lines().map(str::to_owned).collect();
        let hidden = bundle.is_file().then_some(bundle);
        Ok(Environment::new(prepared, repeated, digest, hidden, deviations, pull_ms))
    }

    /// The image's content in this run: what its reference stood for when the first worker asked.
    async fn resolve(&self, image: &ImageRef) -> Result<Prepared, Fault> {
        let pull = |error| fault(&error, Phase::Pull);
        let tag = match image {
            ImageRef::Registry(reference) if !reference.contains('@') => reference,
            ImageRef::Registry(_) | ImageRef::Host => return self.backend.prepare(image).await.map_err(pull),
        };
        if let Some(digest) = self.journal.locked_image(tag).await? {
            return self.backend.prepare_locked(image, &digest).await.map_err(pull);
        }
        let found = self.backend.prepare(image).await.map_err(pull)?;
        let digest = self.journal.lock_image(tag, &found.digest).await?;
        if digest == found.digest {
            return Ok(found);
        }
        self.backend.prepare_locked(image, &digest).await.map_err(pull)
    }

    /// The layer with set-up and scrub done, made if it is not there.
    async fn layer(
        &self,
        task: &Task,
        pristine: &Prepared,
        key: &str,
        recipe: &Recipe,
        bundle: &Path,
        notes: &Path,
    ) -> Result<Prepared, Fault> {
        let set_up = |error| fault(&error, Phase::Setup);
        match self.backend.derived(pristine, key).await.map_err(set_up)? {
            Some(derived) if notes.is_file() => Ok(derived),
            _ => {
                let sandbox = self.prepare_files(task, pristine, recipe, bundle, notes).await?;
                self.backend.derive(sandbox, pristine, key).await.map_err(set_up)
            }
        }
    }

    /// Sets the pristine image up in a sandbox, reads the hidden tests out, and scrubs.
    async fn prepare_files(
        &self,
        task: &Task,
        pristine: &Prepared,
        recipe: &Recipe,
        bundle: &Path,
        notes: &Path,
    ) -> Result<Sandbox, Fault> {
        let mut sandbox = self.start_pristine(task, pristine).await?;
        let report = run_script(&mut sandbox, recipe.script).await?;
        if let Some(tar) = read_bundle(&mut sandbox).await? {
            write_atomically(bundle, &tar).map_err(|error| disk_fault(bundle, &error))?;
        }
        clear(&mut sandbox).await?;
        // The notes are written last but before the layer: a layer with notes is known to be complete.
        write_atomically(notes, deviations(&report).as_bytes()).map_err(|error| disk_fault(notes, &error))?;
        Ok(sandbox)
    }

    async fn start_pristine(&self, task: &Task, pristine: &Prepared) -> Result<Sandbox, Fault> {
        let mut labels = self.labels.clone();
        labels.insert("purpose".into(), "setup".into());
        let spec = SandboxSpec {
            prepared: pristine.clone(),
            workdir: task.environment.workdir.clone(),
            network: Network::None,
            limits: self.settings.limits.clone(),
            labels,
        };
        self.backend.start(&spec).await.map_err(|error| fault(&error, Phase::Setup))
    }
}

impl Environment {
    fn new(
        prepared: Prepared,
        repeated: Option<&'static str>,
        digest: String,
        hidden: Option<PathBuf>,
        deviations: Vec<String>,
        pull_ms: u64,
    ) -> Self {
        Self {
            prepared,
            repeated,
            digest,
            hidden,
            deviations,
            pull_ms,
            captured: Captured::default(),
            gone: AtomicBool::new(false),
        }
    }
}

impl Environment {
    /// The fault of a sandbox that did not start. An image that was there and is no more can be had again: somebody who
    /// knows nothing of our leases removed it.
    pub(crate) fn not_started(&self, error: &SandboxError) -> Fault {
        let keeps_layers = self.repeated.is_none();
        if matches!(error, SandboxError::NoImage { .. }) && keeps_layers {
            self.gone.store(true, Ordering::Relaxed);
            let message = format!("removed from the node while it was in use: {error}");
            return Fault::new(Blame::Node, Retry::Later, Phase::Start, message);
        }
        fault(error, Phase::Start)
    }

    /// Does in a started sandbox what of set-up and scrub is not in what it was started from.
    pub(crate) async fn complete(&self, sandbox: &mut Sandbox) -> Result<(), Fault> {
        let Some(script) = self.repeated else { return Ok(()) };
        run_script(sandbox, script).await?;
        clear(sandbox).await
    }
}

/// Removes what the set-up script left for reading out, and ends what it left running.
async fn clear(sandbox: &mut Sandbox) -> Result<(), Fault> {
    sandbox.remove(STAGE).await.map_err(|error| fault(&error, Phase::Setup))?;
    sandbox.kill_all().await.map_err(|error| fault(&error, Phase::Setup))
}

/// How a family's image is made fit.
struct Recipe {
    script: &'static str,
}

impl Recipe {
    fn of(family: Family) -> Option<Self> {
        match family {
            Family::R2eGym => {
                Some(Self { script: concat!(include_str!("setup/r2e.sh"), include_str!("setup/scrub.sh")) })
            }
            Family::SweBench => Some(Self {
                script: concat!(include_str!("setup/swebench.sh"), include_str!("setup/scrub.sh")),
            }),
            Family::Inline => None,
        }
    }
}

fn key(task: &Task) -> Key {
    (task.environment.image.clone(), task.family)
}

fn layer_key(family: Family, digest: &str) -> String {
    let recipe = Recipe::of(family).map_or("", |recipe| recipe.script);
    let text = format!("{SETUP_VERSION}\0{family}\0{digest}\0{recipe}");
    Sha256Hex::of(text.as_bytes()).as_str()[..32].to_owned()
}

/// Runs a set-up script; its failure is the image's, because no agent has been here yet.
async fn run_script(sandbox: &mut Sandbox, script: &str) -> Result<String, Fault> {
    let env = BTreeMap::from([
        ("HOME".to_owned(), "/root".to_owned()),
        ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("LC_ALL".to_owned(), "C".to_owned()),
        ("STAGE".to_owned(), STAGE.to_owned()),
        ("WORKDIR".to_owned(), sandbox.workdir().to_owned()),
    ]);
    let command = Command::bash(script).env(env).timeout(Duration::from_secs(1_800));
    let output = sandbox.run(&command).await.map_err(|error| fault(&error, Phase::Setup))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.end.is_success() {
        return Ok(text);
    }
    let tail: String =
        text.lines().rev().take(5).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join(" | ");
    let message = format!("set-up of the image failed ({:?}): {tail}", output.end);
    Err(Fault::new(Blame::Image, Retry::Never, Phase::Setup, message))
}

async fn read_bundle(sandbox: &mut Sandbox) -> Result<Option<Bytes>, Fault> {
    let there = sandbox.stat(STAGE).await.map_err(|error| fault(&error, Phase::Setup))?;
    if there.is_none() {
        return Ok(None);
    }
    sandbox.archive(STAGE, BUNDLE_LIMIT).await.map(Some).map_err(|error| fault(&error, Phase::Setup))
}

/// The lines of a set-up report that state a deviation.
fn deviations(report: &str) -> String {
    report.lines().filter_map(|line| line.strip_prefix("deviation: ")).collect::<Vec<_>>().join("\n")
}

/// A sandbox error before any agent was there: always infrastructure's, whatever the evidence.
pub(crate) fn fault(error: &SandboxError, phase: Phase) -> Fault {
    error.fault(phase).unwrap_or_else(|| Fault::new(Blame::Node, Retry::Later, phase, error.to_string()))
}

#[cfg(test)]
mod tests;
