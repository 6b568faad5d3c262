//! `thresher run`: plan, work, report. The same command on the same run directory resumes.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::json;
use thresher_core::id::RolloutKey;
use thresher_core::plan::{Durations, PRIOR_S, Plan, Sizing};
use thresher_core::run_spec::{AgentName, DatasetFamily};
use thresher_core::task::Family;
use thresher_core::{RolloutId, RunSpec, Secret, Sha256Hex, exit_code};
use thresher_dataset::{Dataset, Selection};
use thresher_ledger::{
    Control, DatasetIdentity, Ledger, LedgerError, LockError, Manifest, RunLock, RunState, StoredPlan,
};
use thresher_rollout::engine::EngineParts;
use thresher_rollout::llm::{self, Llm};
use thresher_rollout::{Clock, agent};
use thresher_worker::{EngineRunner, OnDrain, Runner, StopCause, Worker, WorkerParts, WorkerReport};

use super::{print, print_json, report};
use crate::args::RunArgs;
use crate::backend::{self, Built};
use crate::durations;
use crate::exit::{Failure, WithCode as _};
use crate::job::Job;
use crate::progress::{Mode, View};
use crate::run_dir::{self, Scratch};
use crate::table;

/// Runs the job.
pub(super) async fn run(args: RunArgs) -> Result<i32, Failure> {
    let job = Job::from_args(&args)?;
    let dataset = open_dataset(&job)?;
    let selection = dataset.plan(&job.spec.dataset.select).code(exit_code::DATA)?;
    let durations = durations::read(&job, &selection.tasks).await?;
    let plan = plan(&job.spec, selection, durations);
    if args.dry_run {
        return dry_run(&job, &plan, args.json);
    }
    if plan.tasks.is_empty() {
        return Err(nothing_to_run(&plan));
    }
    let model = connect(&job)?;
    let cache = run_dir::cache(args.cache.as_deref());
    let dir = args.out.clone().unwrap_or_else(|| run_dir::default_for(job.spec.name.as_deref()));
    let lock = lock(&dir)?;
    let ledger = run_dir::open(&dir)?;
    ledger.sweep(&lock).await?;
    let fingerprint = dataset.fingerprint().code(exit_code::DATA)?;
    let stored = extend_plan(&ledger, &job, &dataset, &plan).await?;
    let built = backend::build(&job, &cache, ledger.run()).await?;

    let view = Arc::new(View::new(Mode::fitting(args.quiet)));
    let scratch = Scratch::make(&dir).context("failed to make a scratch folder")?;
    let signals = crate::signals::Signals::listen()?;
    begin_round(&ledger, &stored).await?;
    let engine = engine(&job, &ledger, fingerprint, built, model, &cache, scratch.path());
    let parts = WorkerParts {
        slots: slots(&job.spec),
        observer: Arc::clone(&view) as Arc<dyn thresher_worker::Observer>,
        drain: signals.drain(),
        on_drain: OnDrain::Finish,
        exclusive: true,
        host: String::new(),
        clock: Clock::system(),
        seed: rand::random(),
        runner: Box::new(move |journal| {
            Arc::new(EngineRunner::new(engine(journal), Arc::new(dataset))) as Arc<dyn Runner>
        }),
        ledger: ledger.clone(),
        plan: stored,
    };
    let worked = tokio::select! {
        worked = work(parts) => worked,
        () = signals.stopped() => {
            view.close();
            return Ok(stopped(&dir));
        }
    };
    view.close();
    finish(&worked?, &ledger, &dir, &args, job.spec.samples).await
}

/// Repeating the command is the word to go on, and to try again what faulted. Where every rollout has its result, there
/// is nothing to say.
async fn begin_round(ledger: &Ledger, stored: &StoredPlan) -> Result<(), Failure> {
    if ledger.committed().await?.len() == stored.plan.rollout_count() {
        return Ok(());
    }
    let now = Clock::system().now_us() / 1_000_000;
    let again = |control: &mut Control| {
        control.state = RunState::Running;
        control.round += 1;
        control.round_began_unix_s = now;
    };
    ledger.change_control(again).await?;
    Ok(())
}

async fn work(parts: WorkerParts) -> Result<WorkerReport, Failure> {
    Ok(Box::pin(Worker::new(parts).await?.run()).await?)
}

fn open_dataset(job: &Job) -> Result<Dataset, Failure> {
    Dataset::open(&job.spec.dataset, &job.base).code(exit_code::DATA)
}

/// Makes the plan: a pure function of spec, selection and durations.
fn plan(spec: &RunSpec, selection: Selection, durations: Durations) -> Plan {
    let agent_sha256 = agent::identity_sha256(&spec.agent);
    let model = spec.model.as_ref().filter(|_| needs_model(spec));
    let model = model.map(
        |model| json!({ "name": model.name, "sampling": model.sampling, "extra_body": model.extra_body }),
    );
    let model_sha256 = Sha256Hex::of(json!(model).to_string().as_bytes());
    let sizing = Sizing { shard_s: spec.shard_s, durations };
    Plan::sized(selection.tasks, selection.refused, 0..spec.samples, &sizing, |task, sample| {
        RolloutId::derive(&RolloutKey {
            instance_id: &task.instance_id,
            row_sha256: &task.row_sha256,
            agent_sha256: &agent_sha256,
            model_sha256: &model_sha256,
            sample,
        })
    })
}

fn needs_model(spec: &RunSpec) -> bool {
    spec.agent.name == AgentName::R2egym
}

fn nothing_to_run(plan: &Plan) -> Failure {
    let failure = Failure::new(exit_code::DATA, anyhow::anyhow!("no task is selected that can be run"));
    match plan.refused.first() {
        Some(refused) => {
            let name = refused
                .instance_id
                .as_ref()
                .map_or_else(|| format!("row {}", refused.row), ToString::to_string);
            failure.hint(format!(
                "{} rows were refused; the first is {name}: {}",
                plan.refused.len(),
                refused.reason
            ))
        }
        None => failure.hint("the selection (start, limit, only, filter) leaves no row"),
    }
}

fn dry_run(job: &Job, plan: &Plan, as_json: bool) -> Result<i32, Failure> {
    if as_json {
        print_json(&json!({ "job": job.spec, "plan": plan }))?;
        return Ok(exit_code::OK);
    }
    let spec = &job.spec;
    let model = spec.model.as_ref().filter(|_| needs_model(spec)).map_or("none", |model| model.name.as_str());
    let mut lines = vec![
        format!("dataset   {}", spec.dataset.path),
        format!("tasks     {} in {} shards", plan.tasks.len(), plan.shards.len()),
        format!("rollouts  {} ({} samples per task)", plan.rollout_count(), spec.samples),
        format!("agent     {}, model {model}", spec.agent.name.as_str()),
        format!("sandbox   {}, {} at a time", spec.sandbox.backend.as_str(), slots(spec)),
        expectation(spec, plan),
        format!(
            "at most   {} agent steps",
            plan.rollout_count() as u64 * u64::from(spec.agent.max_steps_hard)
        ),
    ];
    lines.push(match cost_bound(spec, plan) {
        Some(bound) => format!("cost      at most {bound:.2} USD"),
        None => "cost      unbounded: state agent.max_cost_usd or budget.cost_usd to bound it".to_owned(),
    });
    let refused = |row: &thresher_core::plan::RefusedRow| {
        let name = row.instance_id.as_ref().map_or_else(|| format!("row {}", row.row), ToString::to_string);
        format!("refused   {name}: {}", row.reason)
    };
    lines.extend(plan.refused.iter().map(refused));
    print(&lines.join("\n"))?;
    Ok(exit_code::OK)
}

/// How long it should take, with what the plan knows of durations.
fn expectation(spec: &RunSpec, plan: &Plan) -> String {
    let whole_ms = plan.expected_s() * 1_000;
    let longest_ms = plan.rollouts().map(|rollout| u64::from(rollout.expected_s) * 1_000).max().unwrap_or(0);
    let time = table::duration(longest_ms.max(whole_ms / slots(spec) as u64));
    let source = match &spec.durations {
        Some(durations) => format!("by {durations}"),
        None => format!(
            "at {} per rollout; state durations to know better",
            table::duration(u64::from(PRIOR_S) * 1_000)
        ),
    };
    format!("expected  {time} ({source})")
}

fn cost_bound(spec: &RunSpec, plan: &Plan) -> Option<f64> {
    if !needs_model(spec) {
        return Some(0.0);
    }
    let per_rollout = spec.agent.max_cost_usd.map(|cap| cap * plan.rollout_count() as f64);
    match (per_rollout, spec.budget.cost_usd) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn connect(job: &Job) -> Result<Option<Arc<dyn Llm>>, Failure> {
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
pub(super) fn api_key(variable: Option<&str>) -> Result<Option<Secret>, Failure> {
    let Some(variable) = variable else { return Ok(None) };
    match std::env::var(variable) {
        Ok(key) if !key.trim().is_empty() => Ok(Some(Secret::new(key.trim()))),
        _ => Err(Failure::usage(format!("environment variable {variable} holds no API key"))
            .hint(format!("export {variable}=…, or leave model.api_key_env out if the endpoint needs none"))),
    }
}

fn lock(dir: &Path) -> Result<RunLock, Failure> {
    RunLock::acquire(dir).map_err(|error| match error {
        LockError::Held { .. } => Failure::new(exit_code::CONFLICT, error)
            .hint("wait for it, stop it with Ctrl-C, or give another directory with --out"),
        LockError::Io { .. } => Failure::new(exit_code::FAILURE, error),
    })
}

async fn extend_plan(
    ledger: &Ledger,
    job: &Job,
    dataset: &Dataset,
    plan: &Plan,
) -> Result<StoredPlan, Failure> {
    let identity = DatasetIdentity {
        name: dataset.name().to_owned(),
        family: family(dataset.family()),
        fingerprint: dataset.fingerprint().code(exit_code::DATA)?,
        rows: dataset.len(),
    };
    ledger.extend_plan(&job.spec, &identity, plan).await.map_err(|error| match error {
        LedgerError::DifferentJob { .. } => Failure::new(exit_code::CONFLICT, error)
            .hint("a run keeps its job; give another directory with --out for a different one"),
        other => other.into(),
    })
}

fn family(family: DatasetFamily) -> Family {
    match family {
        DatasetFamily::R2eGym => Family::R2eGym,
        DatasetFamily::SweBench => Family::SweBench,
        DatasetFamily::Inline => Family::Inline,
    }
}

fn slots(spec: &RunSpec) -> usize {
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

#[expect(clippy::print_stderr, reason = "a stop is told to whoever asked for it, not on stdout")]
fn stopped(dir: &Path) -> i32 {
    eprintln!("thresher: stopped; what was running is lost, the rest is valid");
    eprintln!("hint: the same command goes on with {}", dir.display());
    exit_code::STOPPED
}

async fn finish(
    worked: &WorkerReport,
    ledger: &Ledger,
    dir: &Path,
    args: &RunArgs,
    samples: u32,
) -> Result<i32, Failure> {
    let report = report::of(ledger).await?;
    let (code, note) = ending(worked);
    if args.json {
        let stopped = note.as_ref();
        print_json(
            &json!({ "run_dir": dir, "exit_code": code, "stopped": stopped, "report": report, "manifest": worked.manifest }),
        )?;
        return Ok(code);
    }
    let mut text = report::text(&report);
    text.push_str("\n\n");
    if let Some(note) = note {
        text.push_str(&format!("{note}\n\n"));
    }
    text.push_str(&next_steps(worked, &report, dir, &more_samples(args, dir, samples)));
    print(&text)?;
    Ok(code)
}

/// The exit code, and a note where the run is not finished.
fn ending(worked: &WorkerReport) -> (i32, Option<String>) {
    let left = worked.manifest.as_ref().map_or(0, |manifest| manifest.counts.missing);
    match &worked.stopped {
        Some(StopCause::Configuration(fault)) => {
            let note =
                format!("stopped: {fault}\nEvery further rollout would fail alike; {left} were not begun.");
            (exit_code::FAULTED, Some(note))
        }
        Some(StopCause::Budget(which)) => {
            (exit_code::DRAINED, Some(format!("stopped: {which}; {left} rollouts were not begun.")))
        }
        Some(StopCause::Cancelled) => {
            (exit_code::DRAINED, Some(format!("cancelled: {left} rollouts were not begun.")))
        }
        Some(StopCause::Drained) if left > 0 => (
            exit_code::DRAINED,
            Some(format!("drained: {left} rollouts were not begun; the same command goes on.")),
        ),
        _ if worked.faulted > 0 => (
            exit_code::FAULTED,
            Some(format!("{} rollouts are faulted; the same command tries them again.", worked.faulted)),
        ),
        _ => (exit_code::OK, None),
    }
}

/// The command that doubles the samples.
fn more_samples(args: &RunArgs, dir: &Path, samples: u32) -> String {
    let what =
        args.job.as_ref().map_or_else(|| "… (the same flags)".to_owned(), |job| job.display().to_string());
    format!("thresher run {what} -k {} -o {}", samples * 2, dir.display())
}

fn next_steps(worked: &WorkerReport, report: &report::Report, dir: &Path, more: &str) -> String {
    let mut lines = vec!["Parquet files".to_owned()];
    for file in worked.manifest.iter().flat_map(|manifest: &Manifest| &manifest.files) {
        let path = dir.join(&file.path);
        lines.push(format!("  {}  ({} rows of {})", path.display(), file.rows, file.table));
    }
    let dir = dir.display();
    let example = report.example.as_deref().unwrap_or("INSTANCE");
    lines.push("\nTry next".to_owned());
    lines.push(format!("  thresher show {dir} '{example}'     one trajectory, step by step"));
    lines.push(format!("  thresher report {dir}      these tables again; --json for programs"));
    lines.push(format!("  {more}     more samples of every task, into the same run"));
    lines.join("\n")
}
