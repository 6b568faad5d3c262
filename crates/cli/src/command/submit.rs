//! `thresher submit`, `scale` and `logs`: a run on a cluster.

use std::path::Path;

use serde_json::json;
use thresher_coordinator::{Campaign, ClusterSpec, Command, Ending, Fleet, FleetEvent};
use thresher_core::run_spec::identity_difference;
use thresher_core::{RunSpec, exit_code};
use thresher_ledger::{Control, Ledger, RunState, StoredPlan};
use thresher_rollout::Clock;

use super::plan::Planned;
use super::{compare, print, print_json, report};
use crate::args::{ClusterArgs, LogsArgs, ScaleArgs, SubmitArgs};
use crate::dataset::Stored;
use crate::exit::{Failure, WithCode as _};
use crate::location::{Location, Patience};
use crate::signals::Signals;

/// Submits the job; a signal ends that at any time, since nothing that it does has to be finished by the same process.
pub(super) async fn run(args: SubmitArgs) -> Result<i32, Failure> {
    let signals = Signals::listen()?;
    let drain = signals.drain();
    tokio::select! {
        code = submit(args) => code,
        () = drain.cancelled() => {
            tell("left; a fleet that has begun goes on by itself, and the same command follows it again");
            Ok(exit_code::DRAINED)
        }
    }
}

/// Plans the run, gives it to the cluster, and follows it if asked to.
async fn submit(args: SubmitArgs) -> Result<i32, Failure> {
    let planned = Planned::new(&args.job).await?;
    if args.job.dry_run {
        return planned.show(args.job.json);
    }
    planned.refuse_nothing()?;
    if let Some(schedule) = &args.schedule {
        return campaign(&args, &planned, schedule).await;
    }
    let location = match args.kube_job.as_ref().filter(|_| args.run_name_from_job) {
        Some(name) => Location::parse(&format!("{}/{name}", folder(&args)?))?,
        None => Location::or_default(args.job.out.as_deref(), planned.job.spec.name.as_deref())?,
    };
    if location.dir().is_some() {
        return Err(Failure::usage(format!(
            "{location} is a directory, which workers on a cluster do not see"
        ))
        .hint("give a bucket: --out s3://bucket/runs/NAME"));
    }
    let ledger = location.open().await?;
    let fleet = fleet(&args.cluster, &ledger, &location).await?;
    fleet.check().await?;
    if !args.no_dataset {
        planned.store_dataset(&ledger).await?;
    }
    let stored = planned.store(&ledger).await?;
    go_on(&ledger, &stored, &planned, args.slots, fleet.template()).await?;
    let mut hear = |event: FleetEvent| say(&event);
    if !args.wait {
        let mut log = ledger.log_summary().await?;
        fleet.turn(&mut log, &mut hear).await?;
        let shards = stored.plan.shards.len();
        let rollouts = stored.plan.rollout_count();
        if args.job.json {
            print_json(&json!({ "run": location.to_string(), "rollouts": rollouts, "shards": shards }))?;
        } else {
            print(&format!(
                "{location}: {rollouts} rollouts in {shards} shards are with the cluster\n\nTry next\n  thresher watch \
                 {location}\n  thresher logs {location}\n  thresher report {location}"
            ))?;
        }
        return Ok(exit_code::OK);
    }
    let ending = fleet.follow(&mut hear).await?;
    let code = finish(&ledger, &location, &ending, args.job.json).await?;
    match args.fail_on_regression {
        Some(points) if ending == Ending::Over => Ok(compared(&location, points, code).await?),
        _ => Ok(code),
    }
}

/// Makes a campaign of the job.
async fn campaign(args: &SubmitArgs, planned: &Planned, schedule: &str) -> Result<i32, Failure> {
    let Some(config) = &args.cluster.cluster_config else {
        return Err(Failure::usage("a campaign needs --cluster-config FILE"));
    };
    let spec = read(config)?;
    let folder = folder(args)?;
    let name = planned.job.spec.name.clone().unwrap_or_else(|| "thresher".to_owned());
    let mut submit_args = vec![format!("--out={folder}")];
    submit_args.extend(args.fail_on_regression.map(|points| format!("--fail-on-regression={points}")));
    submit_args.extend(args.slots.map(|slots| format!("--slots={slots}")));
    let campaign = Campaign {
        name: name.clone(),
        schedule: schedule.to_owned(),
        time_zone: args.time_zone.clone(),
        job: in_pod(planned, &name, &Location::parse(&folder)?, args).await?,
        // The pod is in the cluster, and knows no context.
        cluster: serde_json::to_string_pretty(&ClusterSpec { context: None, ..spec.clone() })?,
        submit_args,
    };
    campaign.apply(&spec).await.code(exit_code::USAGE)?;
    print(&format!(
        "campaign {name}: `{schedule}`, runs below {folder}\n\nTry next\n  kubectl -n {} create job --from=cronjob/{name} \
         {name}-now\n  thresher runs {folder}",
        spec.namespace,
    ))?;
    Ok(exit_code::OK)
}

/// The job as the campaign's pods read it: with all flags applied, and its dataset in the campaign's folder.
async fn in_pod(
    planned: &Planned,
    name: &str,
    folder: &Location,
    args: &SubmitArgs,
) -> Result<String, Failure> {
    let mut spec = planned.job.spec.clone();
    if let Some(durations) = spec.durations.as_ref().filter(|durations| !durations.contains("://")) {
        return Err(Failure::usage(format!(
            "durations: `{durations}` is on this machine, which a campaign's pods do not see"
        ))
        .hint("name a run in a bucket: s3://bucket/runs/NAME"));
    }
    spec.name = Some(name.to_owned());
    if !planned.is_stored()? && !args.no_dataset {
        let fingerprint = planned.dataset.fingerprint().code(exit_code::DATA)?;
        planned.store_dataset(&folder.open().await?).await?;
        spec.dataset.path = Stored::at(folder, &fingerprint).url();
        spec.dataset.name = Some(planned.dataset.name().to_owned());
    }
    // JSON is YAML.
    Ok(serde_json::to_string_pretty(&spec)?)
}

/// The folder of a campaign's runs.
fn folder(args: &SubmitArgs) -> Result<String, Failure> {
    let folder = args.job.out.as_deref().filter(|folder| folder.starts_with("s3://"));
    let folder = folder.ok_or_else(|| {
        Failure::usage("where do the campaign's runs go?")
            .hint("give a folder in a bucket: --out s3://bucket/campaigns/NAME")
    })?;
    Ok(folder.trim_end_matches('/').to_owned())
}

/// Compares a run with the one before it in its folder; `code` where nothing is worse.
async fn compared(location: &Location, points: f64, code: i32) -> Result<i32, Failure> {
    let Some(before) = previous(location).await? else {
        print("no finished run of this job before this one to compare with")?;
        return Ok(code);
    };
    match compare::of(&before, location).await {
        Ok(comparison) => {
            print(&compare::text(&comparison))?;
            Ok(if comparison.is_regression(points) { exit_code::REGRESSION } else { code })
        }
        Err(failure) => {
            print(&format!("not compared with {before}: {failure}"))?;
            Ok(code)
        }
    }
}

/// The last finished run of the same job, in the same folder, that was submitted before this one. Names tell nothing of the
/// time: some runs of a campaign are begun by hand.
async fn previous(location: &Location) -> Result<Option<Location>, Failure> {
    let text = location.to_string();
    let Some((folder, _)) = text.rsplit_once('/') else { return Ok(None) };
    let folder = Location::parse(folder)?;
    let (store, prefix) = folder.store(Patience::Short).await?;
    let this = location.find(Patience::Short).await?;
    let (Some(began), Some(job)) = (this.control().await?.submitted_unix_s, this.plan_outline().await?)
    else {
        return Ok(None);
    };
    let mut before = Vec::new();
    for run in super::runs::find(&*store, &prefix).await.code(exit_code::UNAVAILABLE)? {
        let ledger = Ledger::find(store.clone(), &run).await;
        // What another version of the program made, or nobody can read, is nothing to compare with.
        let Ok(ledger) = ledger else { continue };
        let submitted = ledger.control().await?.submitted_unix_s;
        before.extend(submitted.map(|at| (at, folder.at(&run), ledger)));
    }
    before.retain(|(at, place, _)| (*at, place.as_str()) < (began, text.as_str()));
    before.sort_by(|(a, one, _), (b, other, _)| (b, other).cmp(&(a, one)));
    for (_, place, ledger) in before {
        if is_finished(&ledger, &job.spec).await? {
            return Location::parse(&place).map(Some);
        }
    }
    Ok(None)
}

/// Whether it is a run of the job, and sealed.
async fn is_finished(ledger: &Ledger, job: &RunSpec) -> Result<bool, Failure> {
    let Some(outline) = ledger.plan_outline().await? else { return Ok(false) };
    let same = outline.spec.name == job.name && identity_difference(&outline.spec, job).is_empty();
    Ok(same && ledger.log_summary().await?.sealed().is_some())
}

/// Repeating the command is the word to go on where the run had stopped; a run that is worked on is left alone.
async fn go_on(
    ledger: &Ledger,
    stored: &StoredPlan,
    planned: &Planned,
    slots: Option<u32>,
    template: &str,
) -> Result<(), Failure> {
    let control = ledger.control().await?;
    let over = ledger.is_over(stored.segment, control.round).await?;
    let whole = over && ledger.committed().await?.len() == stored.plan.rollout_count();
    let stopped = (over && !whole) || control.state != RunState::Running;
    let now = Clock::system().now_us() / 1_000_000;
    let budget = &planned.job.spec.budget;
    let change = |control: &mut Control| {
        if stopped {
            control.state = RunState::Running;
            control.round += 1;
            control.round_began_unix_s = now;
        }
        if *budget != stored.spec.budget || control.budget.is_some() {
            control.budget = Some(budget.clone());
        }
        control.submitted_unix_s = control.submitted_unix_s.or(Some(now));
        control.slots = slots.or(control.slots);
        control.template = Some(template.to_owned());
        control.hold_now = false;
    };
    ledger.change_control(change).await?;
    Ok(())
}

async fn finish(
    ledger: &Ledger,
    location: &Location,
    ending: &Ending,
    as_json: bool,
) -> Result<i32, Failure> {
    let report = report::of(ledger).await?;
    let (code, note) = match ending {
        Ending::Over if report.faulted > 0 => {
            (exit_code::FAULTED, Some(format!("{} rollouts are faulted", report.faulted)))
        }
        Ending::Over => (exit_code::OK, None),
        Ending::Cancelled => (exit_code::CANCELLED, Some("the run was cancelled".to_owned())),
        Ending::Stuck(why) => (exit_code::FAILURE, Some(format!("the fleet cannot go on: {why}"))),
        Ending::Superseded(_) => (
            exit_code::CONFLICT,
            Some(
                "the run was submitted again with workers of another template, and goes on with those"
                    .to_owned(),
            ),
        ),
    };
    if as_json {
        print_json(&json!({
            "run": location.to_string(), "exit_code": code, "stopped": note, "report": report,
        }))?;
    } else {
        let note = note.map(|note| format!("\n{note}")).unwrap_or_default();
        print(&format!("{}{note}", report::text(&report)))?;
    }
    Ok(code)
}

/// Changes the worker slots of a run.
pub(super) async fn scale(args: ScaleArgs) -> Result<i32, Failure> {
    if args.slots == 0 {
        return Err(Failure::usage("a fleet has at least 1 slot; `thresher pause` ends all of its pods"));
    }
    let location = Location::parse(&args.run)?;
    let ledger = location.find(Patience::Short).await?;
    ledger.change_control(|control| control.slots = Some(args.slots)).await?;
    apply_once(&args.cluster, &ledger, &location).await?;
    print(&format!("{location}: {} worker slots", args.slots))?;
    Ok(exit_code::OK)
}

/// Prints what a run's workers print.
pub(super) async fn logs(args: LogsArgs) -> Result<i32, Failure> {
    let location = Location::parse(&args.run)?;
    let ledger = location.find(Patience::Short).await?;
    let fleet = fleet(&args.cluster, &ledger, &location).await?;
    let hear = |pod: &str, line: &str| {
        if print(&format!("{pod}  {line}")).is_err() {
            tracing::debug!("nobody reads on");
        }
    };
    fleet.logs(args.slot, args.follow, args.tail, &hear).await?;
    Ok(exit_code::OK)
}

/// Tells the cluster what operators want now, where it is named; else the coordinator that follows the run does.
pub(super) async fn apply_once(
    cluster: &ClusterArgs,
    ledger: &Ledger,
    location: &Location,
) -> Result<(), Failure> {
    if cluster.cluster_config.is_none() {
        return Ok(());
    }
    let fleet = fleet(cluster, ledger, location).await?;
    let mut log = ledger.log_summary().await?;
    if let Some(Ending::Superseded(_)) = fleet.turn(&mut log, &mut |event| say(&event)).await? {
        tell(
            "the run was last submitted with workers of another template than this cluster configuration's: those that are \
             there are changed, and none are begun; `thresher submit` with this one would begin some",
        );
    }
    Ok(())
}

pub(super) async fn fleet(
    cluster: &ClusterArgs,
    ledger: &Ledger,
    location: &Location,
) -> Result<Fleet, Failure> {
    let Some(path) = &cluster.cluster_config else {
        return Err(Failure::usage("which cluster?")
            .hint("give --cluster-config FILE, or set THRESHER_CLUSTER_CONFIG; README.md shows one"));
    };
    let spec = read(path)?;
    Fleet::new(ledger.clone(), &location.to_string(), spec).await.code(exit_code::USAGE)
}

fn read(path: &Path) -> Result<ClusterSpec, Failure> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("failed to read {name}: {error}")))?;
    ClusterSpec::parse(&name, &text).code(exit_code::USAGE)
}

/// Says what happens to a fleet.
pub(super) fn say(event: &FleetEvent) {
    let text = match event {
        FleetEvent::Did(Command::Annotate { .. } | Command::End(_)) => return,
        FleetEvent::Did(Command::Begin { generation, slots, .. } | Command::Resize { generation, slots }) => {
            format!("generation {generation}: {slots} worker slots")
        }
        FleetEvent::Did(Command::Hold { generation }) => {
            format!("generation {generation}: its workers drain")
        }
        FleetEvent::Did(Command::Release { generation }) => format!("generation {generation}: goes on"),
        FleetEvent::Did(Command::Delete { generation }) => {
            format!("generation {generation}: deleted as soon as its workers have drained")
        }
        FleetEvent::Waiting(pods) if pods.is_empty() => "no pod waits any more".to_owned(),
        FleetEvent::Waiting(pods) => {
            let pods: Vec<String> = pods.iter().map(|(pod, why)| format!("{pod} waits: {why}")).collect();
            pods.join("\n")
        }
        FleetEvent::Away(why) => format!("{why}; trying again"),
        FleetEvent::Back => "it answers again".to_owned(),
    };
    tell(&text);
}

#[expect(clippy::print_stderr, reason = "what happens to a fleet is told beside the result")]
fn tell(text: &str) {
    eprintln!("{text}");
}
