//! `thresher run`: plan, work, report. The same command on the same run directory resumes.

use serde_json::json;
use thresher_core::exit_code;
use thresher_core::run_spec::BudgetSpec;
use thresher_ledger::{Control, Ledger, Manifest, RunState, StoredPlan};
use thresher_rollout::Clock;
use thresher_worker::{OnDrain, StopCause, WorkerReport};

use super::plan::Planned;
use super::{print, print_json, report};
use crate::args::RunArgs;
use crate::backend;
use crate::exit::Failure;
use crate::location::Location;
use crate::progress::Mode;
use crate::run_dir;
use crate::session::{Session, Worked, connect, host, lock};
use crate::signals::Signals;
use crate::table;

/// Runs the job.
pub(super) async fn run(args: RunArgs) -> Result<i32, Failure> {
    let planned = Planned::new(&args).await?;
    if args.dry_run {
        return planned.show(args.json);
    }
    planned.refuse_nothing()?;
    let model = connect(&planned.job)?;
    let cache = run_dir::cache(args.cache.as_deref());
    let location = Location::or_default(args.out.as_deref(), planned.job.spec.name.as_deref())?;
    let lock = location.dir().map(|dir| lock(dir, true)).transpose()?;
    let ledger = location.open().await?;
    if let Some(lock) = &lock {
        ledger.sweep(lock).await?;
    }
    let stored = planned.store(&ledger).await?;
    begin_round(&ledger, &stored, &planned.job.spec.budget).await?;
    let Planned { job, dataset, .. } = planned;
    let built = backend::build(&job, &cache, ledger.run(), false).await?;
    let session = Session {
        job: &job,
        location: &location,
        ledger: ledger.clone(),
        plan: stored,
        dataset,
        model,
        cache,
        on_drain: OnDrain::Finish,
        exclusive: lock.is_some(),
        built,
        signals: Signals::listen()?,
        host: host(),
        mode: Mode::fitting(args.quiet),
    };
    match session.work().await? {
        Worked::Left(report) => finish(&report, &ledger, &location, &args, job.spec.samples).await,
        Worked::Stopped => Ok(stopped(&location)),
    }
}

/// Repeating the command is the word to go on, and to try again what faulted. Where every rollout has its result, there
/// is nothing to say.
async fn begin_round(ledger: &Ledger, stored: &StoredPlan, budget: &BudgetSpec) -> Result<(), Failure> {
    if ledger.committed().await?.len() == stored.plan.rollout_count() {
        return Ok(());
    }
    let now = Clock::system().now_us() / 1_000_000;
    let again = |control: &mut Control| {
        control.state = RunState::Running;
        control.round += 1;
        control.round_began_unix_s = now;
        // The plan keeps the budget that it was made with, and this command may state another one.
        control.budget = Some(budget.clone());
    };
    ledger.change_control(again).await?;
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a stop is told to whoever asked for it, not on stdout")]
pub(super) fn stopped(location: &Location) -> i32 {
    eprintln!("thresher: stopped; what was running is lost, the rest is valid");
    eprintln!("hint: the same command goes on with {location}");
    exit_code::STOPPED
}

async fn finish(
    worked: &WorkerReport,
    ledger: &Ledger,
    location: &Location,
    args: &RunArgs,
    samples: u32,
) -> Result<i32, Failure> {
    let report = report::of(ledger).await?;
    let (code, note) = ending(worked, "the same command");
    if args.json {
        let stopped = note.as_ref();
        print_json(
            &json!({ "run_dir": location.to_string(), "exit_code": code, "stopped": stopped, "report": report, "images": worked.images, "manifest": worked.manifest }),
        )?;
        return Ok(code);
    }
    let mut text = report::text(&report);
    if let Some(images) = table::images(&worked.images) {
        text.push_str(&format!("\nimages            {images}"));
    }
    text.push_str("\n\n");
    if let Some(note) = note {
        text.push_str(&format!("{note}\n\n"));
    }
    text.push_str(&next_steps(worked, &report, location, &more_samples(args, location, samples)));
    print(&text)?;
    Ok(code)
}

/// The exit code, and a note where the run is not finished; `again` is what tries faulted rollouts again.
pub(super) fn ending(worked: &WorkerReport, again: &str) -> (i32, Option<String>) {
    let counts = worked.manifest.as_ref().map(|manifest| manifest.counts);
    let missing = counts.map(|counts| counts.missing);
    let faulted = counts.map_or(worked.faulted, |counts| counts.faulted);
    // Only who leaves the run sealed knows of the rollouts of all workers.
    let not_begun = missing.map(|missing| format!("; {missing} rollouts were not begun")).unwrap_or_default();
    match &worked.stopped {
        Some(StopCause::Configuration(fault)) => {
            let note = format!("stopped: {fault}\nevery further rollout would fail alike{not_begun}");
            (exit_code::FAULTED, Some(note))
        }
        Some(StopCause::Outage(fault)) => {
            let note =
                format!("stopped: {fault}\nit was away for too long{not_begun}; the same command goes on");
            (exit_code::OUTAGE, Some(note))
        }
        Some(StopCause::Budget(which)) => {
            (exit_code::DRAINED, Some(format!("stopped: {which}{not_begun}; {RESUME}, with another budget")))
        }
        Some(StopCause::Cancelled) => {
            (exit_code::CANCELLED, Some(format!("cancelled{not_begun}; {RESUME} after all")))
        }
        Some(StopCause::Drained) if missing.is_none() => {
            (exit_code::DRAINED, Some("drained: what is left is for other workers".to_owned()))
        }
        Some(StopCause::Drained) if missing > Some(0) => {
            (exit_code::DRAINED, Some(format!("drained{not_begun}; the same command goes on")))
        }
        _ if faulted > 0 => {
            (exit_code::FAULTED, Some(format!("{faulted} rollouts are faulted; {again} tries them again")))
        }
        _ => (exit_code::OK, None),
    }
}

const RESUME: &str = "`thresher resume` goes on";

/// The command that doubles the samples.
fn more_samples(args: &RunArgs, location: &Location, samples: u32) -> String {
    let what =
        args.job.as_ref().map_or_else(|| "… (the same flags)".to_owned(), |job| job.display().to_string());
    format!("thresher run {what} -k {} -o {location}", samples * 2)
}

fn next_steps(worked: &WorkerReport, report: &report::Report, location: &Location, more: &str) -> String {
    let mut lines = vec!["Parquet files".to_owned()];
    for file in worked.manifest.iter().flat_map(|manifest: &Manifest| &manifest.files) {
        lines.push(format!("  {location}/{}  ({} rows of {})", file.path, file.rows, file.table));
    }
    let example = report.example.as_deref().unwrap_or("INSTANCE");
    lines.push("\nTry next".to_owned());
    lines.push(format!("  thresher show {location} '{example}'     one trajectory, step by step"));
    lines.push(format!("  thresher report {location}      these tables again; --json for programs"));
    lines.push(format!("  {more}     more samples of every task, into the same run"));
    lines.join("\n")
}
