//! `thresher pause | resume | cancel`: what operators want of a run, for its workers to see.

use thresher_coordinator::{FleetEvent, Pausing};
use thresher_core::exit_code;
use thresher_ledger::{Control, Ledger, RunState};
use thresher_rollout::Clock;

use super::print;
use super::submit::{self, apply_once};
use crate::args::{CancelArgs, PauseArgs, ResumeArgs};
use crate::exit::Failure;
use crate::location::{Location, Patience};
use crate::signals::Signals;

/// Begins no further rollouts. Where the cluster is named, stays until the run's pods are gone.
pub(super) async fn pause(args: PauseArgs) -> Result<i32, Failure> {
    let ledger = find(&args.run).await?;
    let now = args.now;
    let pause = |control: &mut Control| (control.state, control.hold_now) = (RunState::Paused, now);
    ledger.change_control(pause).await?;
    if args.cluster.cluster_config.is_some() {
        return hold(&args, &ledger).await;
    }
    let text = match now {
        true => "paused: a coordinator ends its pods at once; `thresher resume` goes on",
        false => "paused: rollouts that have begun go on, and no others begin; `thresher resume` goes on",
    };
    tell(&ledger, text, "nobody works on it now; workers that are started wait").await
}

/// Follows a pause until no pod is left.
async fn hold(args: &PauseArgs, ledger: &Ledger) -> Result<i32, Failure> {
    let signals = Signals::listen()?;
    let (run, drain) = (ledger.run(), signals.drain());
    let fleet = submit::fleet(&args.cluster, ledger, &Location::parse(&args.run)?).await?;
    let what = match args.now {
        true => "its workers drain",
        false => "its workers finish what they have begun, then their pods go",
    };
    print(&format!("{run}: paused: {what}; Ctrl-C leaves it at that"))?;
    let mut hear = |event: FleetEvent| submit::say(&event);
    let (text, code) = tokio::select! {
        pausing = fleet.follow_pause(&mut hear) => match pausing? {
            Pausing::Held => ("no pod of it is left; `thresher resume` goes on", exit_code::OK),
            Pausing::Resumed => ("it is not paused any more", exit_code::CONFLICT),
        },
        () = drain.cancelled() => (
            "it stays paused: rollouts that have begun go on, and no others begin; pods stay until a coordinator or this \
             command looks again",
            exit_code::DRAINED,
        ),
    };
    print(&format!("{run}: {text}"))?;
    Ok(code)
}

/// Goes on, and tries what faulted again.
pub(super) async fn resume(args: ResumeArgs) -> Result<i32, Failure> {
    let ledger = find(&args.run).await?;
    let Some(outline) = ledger.plan_outline().await? else {
        return Err(Failure::usage(format!("run {} has no plan", ledger.run())));
    };
    if is_whole(&ledger, outline.segment).await? {
        print(&format!("{}: every rollout has its result, so there is nothing to go on with", ledger.run()))?;
        return Ok(exit_code::OK);
    }
    let spec = outline.spec.budget;
    let now = Clock::system().now_us() / 1_000_000;
    let again = |control: &mut Control| {
        control.state = RunState::Running;
        control.hold_now = false;
        control.round += 1;
        control.round_began_unix_s = now;
        let budget = control.budget.get_or_insert_with(|| spec.clone());
        budget.cost_usd = args.budget_usd.or(budget.cost_usd);
        budget.tokens = args.budget_tokens.or(budget.tokens);
        budget.rollouts = args.budget_rollouts.or(budget.rollouts);
        budget.wall_s = args.budget_wall_s.or(budget.wall_s);
    };
    let control = ledger.change_control(again).await?;
    apply_once(&args.cluster, &ledger, &Location::parse(&args.run)?).await?;
    let text = format!("resumed, round {}: rollouts that faulted are tried again", control.round);
    let hint = format!("nobody works on it now: start `thresher worker --run {}`", args.run);
    tell(&ledger, &text, &hint).await
}

/// Ends the run.
pub(super) async fn cancel(args: CancelArgs) -> Result<i32, Failure> {
    let ledger = find(&args.run).await?;
    let now = args.now;
    ledger.change_control(|control| control.state = RunState::Cancelled { now }).await?;
    apply_once(&args.cluster, &ledger, &Location::parse(&args.run)?).await?;
    let text = match now {
        true => "cancelled: rollouts that have begun are broken off, and workers leave",
        false => "cancelled: rollouts that have begun are finished, and workers leave",
    };
    tell(&ledger, text, "nobody works on it now; `thresher resume` would take the word back").await
}

/// Whether the run is over and nothing is left to be tried again.
async fn is_whole(ledger: &Ledger, segment: u32) -> Result<bool, Failure> {
    let over = ledger.is_over(segment, ledger.control().await?.round).await?;
    let counts = ledger.log_summary().await?.sealed();
    Ok(over && counts.is_some_and(|counts| counts.missing == 0 && counts.faulted == 0))
}

async fn find(run: &str) -> Result<Ledger, Failure> {
    Location::parse(run)?.find(Patience::Short).await
}

async fn tell(ledger: &Ledger, done: &str, nobody: &str) -> Result<i32, Failure> {
    let workers = ledger.workers().await?.len();
    let who = match workers {
        0 => nobody.to_owned(),
        1 => "1 worker has a heartbeat and will see it at its next look".to_owned(),
        many => format!("{many} workers have a heartbeat and will see it at their next look"),
    };
    print(&format!("{}: {done}\n{who}", ledger.run()))?;
    Ok(exit_code::OK)
}
