//! `thresher worker`: one of any number of processes that finish a planned run together.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use thresher_core::{RunSpec, exit_code};
use thresher_dataset::Dataset;
use thresher_ledger::{Ledger, StoredPlan};
use thresher_rollout::llm::Llm;
use thresher_worker::{OnDrain, StopCause, WorkerReport};

use super::run::{ending, stopped};
use super::{print, print_json};
use crate::args::WorkerArgs;
use crate::backend::{self, Built};
use crate::dataset::{self, Stored};
use crate::exit::{Failure, WithCode as _};
use crate::job::Job;
use crate::location::{Location, Patience};
use crate::progress::Mode;
use crate::run_dir;
use crate::session::{Session, Worked, connect, host, lock};
use crate::signals::Signals;
use crate::table;

/// Works on the run until nothing is left.
pub(super) async fn run(args: WorkerArgs) -> Result<i32, Failure> {
    let location = Location::parse(&args.run)?;
    let _lock = match location.dir() {
        Some(dir) if dir.is_dir() => Some(lock(dir, false)?),
        _ => None,
    };
    let signals = Signals::listen()?;
    let drain = signals.drain();
    let ready = tokio::select! {
        ready = Ready::new(&args, &location) => ready?,
        // It may wait for half an hour for what is away, and has nothing to lose.
        () = drain.cancelled() => return Ok(exit_code::DRAINED),
    };
    let session = Session {
        job: &ready.job,
        location: &location,
        ledger: ready.ledger,
        plan: ready.plan,
        dataset: ready.dataset,
        model: ready.model,
        cache: ready.cache,
        on_drain: OnDrain::NoNewTurn,
        exclusive: false,
        built: ready.built,
        signals,
        host: args.host.clone().unwrap_or_else(host),
        mode: Mode::fitting(args.quiet),
    };
    let Worked::Left(report) = session.work().await? else { return Ok(stopped(&location)) };
    let (code, note) = ending(&report, "`thresher resume`");
    let code = if args.in_job { code_in_job(&report, code) } else { code };
    if args.json {
        let counts = report.manifest.as_ref().map(|manifest| manifest.counts);
        print_json(&json!({
            "run": location.to_string(), "exit_code": code, "stopped": note, "graded": report.graded,
            "solved": report.solved, "faulted": report.faulted, "counts": counts, "images": report.images,
        }))?;
    } else {
        let note = note.map(|note| format!("\n{note}")).unwrap_or_default();
        let images =
            table::images(&report.images).map(|images| format!("\nimages: {images}")).unwrap_or_default();
        print(&format!(
            "this worker: {} graded, {} of them solved, {} faulted{images}{note}\nTry next\n  thresher status {location}",
            report.graded, report.solved, report.faulted
        ))?;
    }
    Ok(code)
}

/// What a worker has to have before it can begin.
struct Ready {
    job: Job,
    ledger: Ledger,
    plan: StoredPlan,
    dataset: Dataset,
    model: Option<Arc<dyn Llm>>,
    cache: PathBuf,
    built: Built,
}

impl Ready {
    async fn new(args: &WorkerArgs, location: &Location) -> Result<Self, Failure> {
        // A worker that begins in an outage waits as one does that was there before.
        let known = location.find(Patience::Long).await?;
        let ledger = location.open().await?;
        let plan = stored(&ledger, location, known.run().as_str()).await?;
        let mut job = Job::of_plan(&plan.spec, args)?;
        let cache = run_dir::cache(args.cache.as_deref());
        let dataset = match args.dataset {
            Some(_) => here(&job, &plan)?,
            None => anywhere(&mut job, &plan, &ledger, &cache).await?,
        };
        let model = connect(&job)?;
        let built = backend::build(&job, &cache, ledger.run(), args.in_job).await?;
        Ok(Self { job, ledger, plan, dataset, model, cache, built })
    }
}

/// What a KubeJob is to know: whether a worker is still needed, not what became of the rollouts.
fn code_in_job(report: &WorkerReport, code: i32) -> i32 {
    match report.stopped {
        None | Some(StopCause::Cancelled | StopCause::Budget(_)) => exit_code::OK,
        // Another worker would find the same.
        Some(StopCause::Configuration(_)) => exit_code::USAGE,
        Some(StopCause::Drained | StopCause::Outage(_)) => code,
    }
}

async fn stored(ledger: &Ledger, location: &Location, run: &str) -> Result<StoredPlan, Failure> {
    let plan = ledger.plan().await.code(exit_code::CONFLICT)?;
    plan.ok_or_else(|| {
        Failure::usage(format!("run {run} has no plan"))
            .hint(format!("thresher plan JOB.yaml -o {location}, then start workers"))
    })
}

/// Opens the dataset where it was planned with, or else brings it here from where the run is kept.
async fn anywhere(
    job: &mut Job,
    plan: &StoredPlan,
    ledger: &Ledger,
    cache: &Path,
) -> Result<Dataset, Failure> {
    if Stored::parse(&job.spec.dataset.path)?.is_some() {
        return of_plan(dataset::open(job, cache).await?, job, plan);
    }
    let local = match here(job, plan) {
        Ok(dataset) => return Ok(dataset),
        Err(failure) => failure,
    };
    let folders = std::path::absolute(cache)?.join("datasets");
    std::fs::create_dir_all(&folders)?;
    let folder = folders.join(plan.dataset.fingerprint.as_str());
    if !ledger.fetch_data(&plan.dataset.fingerprint, &folder).await? {
        return Err(local);
    }
    job.spec.dataset.path = folder.display().to_string();
    job.spec.dataset.name = Some(plan.dataset.name.clone());
    here(job, plan)
}

/// Opens the dataset on this machine and makes sure that it is the one that was planned.
fn here(job: &Job, plan: &StoredPlan) -> Result<Dataset, Failure> {
    let opened = Dataset::open(&job.spec.dataset, &job.base).map_err(|error| {
        Failure::new(exit_code::DATA, error).hint(
            "the plan names the dataset by its path where it was planned, and the run does not hold its files; \
             --dataset PATH names it here",
        )
    })?;
    of_plan(opened, job, plan)
}

/// Makes sure that a dataset is the one that was planned.
fn of_plan(opened: Dataset, job: &Job, plan: &StoredPlan) -> Result<Dataset, Failure> {
    let found = opened.fingerprint().code(exit_code::DATA)?;
    if found == plan.dataset.fingerprint {
        return Ok(opened);
    }
    let path = &job.spec.dataset.path;
    let planned = &plan.dataset.fingerprint;
    Err(Failure::new(
        exit_code::DATA,
        anyhow::anyhow!(
            "dataset {path} is not the one that was planned: fingerprint {found}, planned {planned}"
        ),
    )
    .hint("give the very same files with --dataset"))
}

impl Job {
    /// The job of a stored plan, with what may differ from machine to machine.
    fn of_plan(spec: &RunSpec, args: &WorkerArgs) -> Result<Self, Failure> {
        let absolute = |path: &str| -> Result<String, Failure> {
            Ok(std::path::absolute(path)?.to_string_lossy().into_owned())
        };
        let mut spec = spec.clone();
        if let Some(path) = &args.dataset {
            spec.dataset.path = absolute(path)?;
        }
        if let Some(images) = &args.images {
            spec.sandbox.images = Some(absolute(images)?);
        }
        if let Some(backend) = &args.backend {
            spec.sandbox.backend = crate::job::named(backend, "backend")?;
        }
        spec.concurrency = args.slots.or(spec.concurrency);
        if let Some(model) = &mut spec.model {
            if args.base_url.is_some() {
                model.base_url.clone_from(&args.base_url);
            }
            if args.api_key_env.is_some() {
                model.api_key_env.clone_from(&args.api_key_env);
            }
            if let Some(replay) = &args.replay {
                model.replay = Some(absolute(replay)?);
            }
        }
        if spec.concurrency == Some(0) {
            return Err(Failure::usage("slots must be at least 1"));
        }
        Ok(Self { spec, base: PathBuf::from(".") })
    }
}
