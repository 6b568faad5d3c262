//! `thresher plan`: writes a run's plan, for workers that are started elsewhere. Also what `run` plans with.

use serde_json::json;
use thresher_core::id::RolloutKey;
use thresher_core::plan::{Durations, PRIOR_S, Plan, RefusedRow, Sizing};
use thresher_core::run_spec::DatasetFamily;
use thresher_core::task::Family;
use thresher_core::{RolloutId, RunSpec, Sha256Hex, exit_code};
use thresher_dataset::{Dataset, Selection};
use thresher_ledger::{DatasetIdentity, Ledger, LedgerError, StoredPlan};
use thresher_rollout::agent;

use super::{print, print_json};
use crate::args::{PlanArgs, RunArgs};
use crate::dataset::{self, Stored};
use crate::exit::{Failure, WithCode as _};
use crate::job::Job;
use crate::location::Location;
use crate::session::{lock, needs_model, slots};
use crate::{durations, run_dir, table};

/// A job that is ready to be stored as a plan.
pub(super) struct Planned {
    pub(super) job: Job,
    pub(super) dataset: Dataset,
    plan: Plan,
}

/// Writes the plan.
pub(super) async fn run(args: PlanArgs) -> Result<i32, Failure> {
    let PlanArgs { job: args, no_dataset } = args;
    let planned = Planned::new(&args).await?;
    if args.dry_run {
        return planned.show(args.json);
    }
    let location = Location::or_default(args.out.as_deref(), planned.job.spec.name.as_deref())?;
    let _lock = location.dir().map(|dir| lock(dir, false)).transpose()?;
    let ledger = location.open().await?;
    if location.dir().is_none() && !no_dataset {
        planned.store_dataset(&ledger).await?;
    }
    let stored = planned.store(&ledger).await?;
    let budget = &planned.job.spec.budget;
    let in_force = ledger.control().await?.budget.unwrap_or_else(|| stored.spec.budget.clone());
    if in_force != *budget {
        ledger.change_control(|control| control.budget = Some(budget.clone())).await?;
    }
    let rollouts = stored.plan.rollout_count();
    if args.json {
        print_json(&json!({ "run": location.to_string(), "segment": stored.segment, "rollouts": rollouts }))?;
    } else {
        print(&format!(
            "{}\n\n{location} holds {rollouts} planned rollouts of {} tasks in {} shards\n\nTry next\n  thresher worker --run \
             {location}     as often as you like, on any machine\n  thresher status {location}",
            planned.text(),
            stored.plan.tasks.len(),
            stored.plan.shards.len(),
        ))?;
    }
    Ok(exit_code::OK)
}

impl Planned {
    /// Reads job and dataset and makes the plan; nothing is written.
    pub(super) async fn new(args: &RunArgs) -> Result<Self, Failure> {
        let job = Job::from_args(args)?;
        let dataset = dataset::open(&job, &run_dir::cache(args.cache.as_deref())).await?;
        let selection = dataset.plan(&job.spec.dataset.select).code(exit_code::DATA)?;
        let durations = durations::read(&job, &selection.tasks).await?;
        let plan = plan(&job.spec, selection, durations);
        Ok(Self { job, dataset, plan })
    }

    /// Puts the dataset's files beside the plan, unless workers find them in a bucket as it is.
    pub(super) async fn store_dataset(&self, ledger: &Ledger) -> Result<(), Failure> {
        if self.is_stored()? {
            return Ok(());
        }
        let fingerprint = self.dataset.fingerprint().code(exit_code::DATA)?;
        let files = self.dataset.files().map(|(name, path)| (name.to_owned(), path.to_owned()));
        Ok(ledger.store_data(&fingerprint, &files.collect::<Vec<_>>()).await?)
    }

    /// Whether the job names a dataset in a bucket.
    pub(super) fn is_stored(&self) -> Result<bool, Failure> {
        Ok(Stored::parse(&self.job.spec.dataset.path)?.is_some())
    }

    /// Prints the plan.
    pub(super) fn show(&self, as_json: bool) -> Result<i32, Failure> {
        if as_json {
            print_json(&json!({ "job": self.job.spec, "plan": self.plan }))?;
        } else {
            print(&self.text())?;
        }
        Ok(exit_code::OK)
    }

    /// What is planned, and its bounds.
    fn text(&self) -> String {
        let (spec, plan) = (&self.job.spec, &self.plan);
        let model =
            spec.model.as_ref().filter(|_| needs_model(spec)).map_or("none", |model| model.name.as_str());
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
        let refused = |row: &RefusedRow| {
            let name =
                row.instance_id.as_ref().map_or_else(|| format!("row {}", row.row), ToString::to_string);
            format!("refused   {name}: {}", row.reason)
        };
        lines.extend(plan.refused.iter().map(refused));
        lines.join("\n")
    }

    /// Refuses a plan without a task.
    pub(super) fn refuse_nothing(&self) -> Result<(), Failure> {
        if self.plan.tasks.is_empty() { Err(nothing_to_run(&self.plan)) } else { Ok(()) }
    }

    /// Stores what the run's plan does not have yet; gives the whole.
    pub(super) async fn store(&self, ledger: &Ledger) -> Result<StoredPlan, Failure> {
        self.refuse_nothing()?;
        extend_plan(ledger, &self.job, &self.dataset, &self.plan).await
    }
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
