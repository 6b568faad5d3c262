//! Working on a run: what `run` and `worker` have in common.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use thresher_core::run_spec::AgentName;
use thresher_core::{RunSpec, Secret, Sha256Hex, exit_code};
use thresher_dataset::Dataset;
use thresher_ledger::{Ledger, LockError, RunLock, StoredPlan};
use thresher_rollout::Clock;
use thresher_rollout::engine::EngineParts;
use thresher_rollout::llm::{self, Llm};
use thresher_worker::{EngineRunner, Observer, OnDrain, Runner, Worker, WorkerParts, WorkerReport};

use crate::backend::Built;
use crate::exit::{Failure, WithCode as _};
use crate::job::Job;
use crate::location::Location;
use crate::progress::{Mode, View};
use crate::run_dir::Scratch;
use crate::signals::Signals;

/// Everything that working on a run takes.
pub(crate) struct Session<'a> {
    pub(crate) job: &'a Job,
    pub(crate) location: &'a Location,
    pub(crate) ledger: Ledger,
    pub(crate) plan: StoredPlan,
    pub(crate) dataset: Dataset,
    pub(crate) model: Option<Arc<dyn Llm>>,
    pub(crate) cache: PathBuf,
    pub(crate) on_drain: OnDrain,
    /// Whether nobody else works on the run, as the holder of its lock knows.
    pub(crate) exclusive: bool,
    /// What makes sandboxes.
    pub(crate) built: Built,
    pub(crate) signals: Signals,
    pub(crate) host: String,
    pub(crate) mode: Mode,
}

/// How working on a run ended.
pub(crate) enum Worked {
    /// The worker left in its own way.
    Left(Box<WorkerReport>),
    /// It was stopped at once.
    Stopped,
}

impl Session<'_> {
    /// Works until nothing is left, or until a signal says otherwise.
    pub(crate) async fn work(self) -> Result<Worked, Failure> {
        let view = Arc::new(View::new(self.mode));
        let scratch = self.scratch().context("failed to make a scratch folder")?;
        let fingerprint = self.dataset.fingerprint().code(exit_code::DATA)?;
        let engine =
            engine(self.job, &self.ledger, fingerprint, self.built, self.model, &self.cache, scratch.path());
        let dataset = Arc::new(self.dataset);
        let parts = WorkerParts {
            slots: slots(&self.job.spec),
            observer: Arc::clone(&view) as Arc<dyn Observer>,
            drain: self.signals.drain(),
            on_drain: self.on_drain,
            exclusive: self.exclusive,
            host: self.host,
            clock: Clock::system(),
            seed: rand::random(),
            runner: Box::new(move |journal| {
                Arc::new(EngineRunner::new(engine(journal), dataset)) as Arc<dyn Runner>
            }),
            ledger: self.ledger,
            plan: self.plan,
        };
        let worked = tokio::select! {
            worked = run_worker(parts) => worked.map(|report| Worked::Left(Box::new(report))),
            () = self.signals.stopped() => Ok(Worked::Stopped),
        };
        view.close();
        worked
    }

    /// A run directory of one's own has a place for what is in the making; else it lies with what outlives runs.
    fn scratch(&self) -> std::io::Result<Scratch> {
        match self.location.dir().filter(|_| self.exclusive) {
            Some(dir) => Scratch::make(dir),
            None => Scratch::beside_others(&self.cache),
        }
    }
}

async fn run_worker(parts: WorkerParts) -> Result<WorkerReport, Failure> {
    Ok(Box::pin(Worker::new(parts).await?.run()).await?)
}

/// Locks a run directory; `alone` keeps everybody else out.
pub(crate) fn lock(dir: &Path, alone: bool) -> Result<RunLock, Failure> {
    let locked = if alone { RunLock::acquire(dir) } else { RunLock::share(dir) };
    locked.map_err(|error| match error {
        LockError::Held { .. } => Failure::new(exit_code::CONFLICT, error).hint(match alone {
            true => "wait for it, stop it with Ctrl-C, or give another directory with --out",
            false => "`thresher run` works on a directory alone; `thresher plan` and any number of workers share one",
        }),
        LockError::Io { .. } => Failure::new(exit_code::FAILURE, error),
    })
}

/// Name of this machine or pod, for people.
pub(crate) fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// Whether the job's agent asks a model.
pub(crate) fn needs_model(spec: &RunSpec) -> bool {
    spec.agent.name == AgentName::R2egym
}

/// The model that the job asks for.
pub(crate) fn connect(job: &Job) -> Result<Option<Arc<dyn Llm>>, Failure> {
    if !needs_model(&job.spec) {
        return Ok(None);
    }
    let Some(spec) = &job.spec.model else {
        return Err(Failure::usage(format!("agent {} needs a model", job.spec.agent.name.as_str()))
            .hint("give --model NAME --base-url URL, or a `model` section in the job file"));
    };
    let key = api_key(spec.api_key_env.as_deref())?;
    let replay = spec.replay.as_deref().map(|path| job.path(path));
    llm::connect(spec, key, replay).map(Some).code(exit_code::USAGE)
}

/// Reads the key from the environment variable that the job names.
pub(crate) fn api_key(variable: Option<&str>) -> Result<Option<Secret>, Failure> {
    let Some(variable) = variable else { return Ok(None) };
    match std::env::var(variable) {
        Ok(key) if !key.trim().is_empty() => Ok(Some(Secret::new(key.trim()))),
        _ => Err(Failure::usage(format!("environment variable {variable} holds no API key"))
            .hint(format!("export {variable}=…, or leave model.api_key_env out if the endpoint needs none"))),
    }
}

/// Rollouts at a time.
pub(crate) fn slots(spec: &RunSpec) -> usize {
    spec.concurrency.map_or_else(processors, |concurrency| concurrency as usize)
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

type MakeEngine = Box<dyn FnOnce(Arc<dyn thresher_rollout::Journal>) -> EngineParts + Send>;

fn engine(
    job: &Job,
    ledger: &Ledger,
    fingerprint: Sha256Hex,
    built: Built,
    model: Option<Arc<dyn Llm>>,
    cache: &Path,
    scratch: &Path,
) -> MakeEngine {
    let mut spec = job.spec.clone();
    spec.sandbox.backend = built.name;
    let run = ledger.run().clone();
    let (cache, scratch) = (cache.to_owned(), scratch.to_owned());
    // With as many rollouts as processors something always runs, and starting ahead saves nothing.
    let start_ahead = slots(&job.spec) < processors();
    Box::new(move |journal| EngineParts {
        labels: [("run".to_owned(), run.to_string())].into(),
        run,
        dataset_fingerprint: fingerprint,
        spec: Arc::new(spec),
        backend: built.backend,
        model,
        journal,
        cache,
        scratch,
        clock: Clock::system(),
        start_ahead,
    })
}
