//! `thresher compare`: two runs, task by task.

mod comparison;

use thresher_core::exit_code;

pub(super) use self::comparison::Comparison;
use super::{print, print_json};
use crate::args::CompareArgs;
use crate::exit::Failure;
use crate::location::{Location, Patience};
use crate::table::{self, count};

/// Tasks that are named for each direction of change.
const NAMED: usize = 20;

/// Compares them.
pub(super) async fn run(args: CompareArgs) -> Result<i32, Failure> {
    let (old, new) = (Location::parse(&args.old)?, Location::parse(&args.new)?);
    let comparison = of(&old, &new).await?;
    if args.json {
        print_json(&comparison)?;
    } else {
        print(&text(&comparison))?;
    }
    Ok(match args.fail_on_regression {
        Some(points) if comparison.is_regression(points) => exit_code::REGRESSION,
        _ => exit_code::OK,
    })
}

/// Reads two runs, sealed or not, and compares them.
pub(super) async fn of(old: &Location, new: &Location) -> Result<Comparison, Failure> {
    let (old_rollouts, new_rollouts) = (rollouts(old).await?, rollouts(new).await?);
    let comparison = Comparison::new(old.to_string(), &old_rollouts, new.to_string(), &new_rollouts);
    if comparison.tasks == 0 {
        return Err(Failure::usage(format!("{old} and {new} have no graded task in common")));
    }
    Ok(comparison)
}

async fn rollouts(run: &Location) -> Result<Vec<thresher_ledger::RolloutSummary>, Failure> {
    let reader = run.find(Patience::Short).await?.reader().await?;
    Ok(reader.rollouts().await?)
}

/// The comparison for a person.
pub(super) fn text(comparison: &Comparison) -> String {
    let Comparison { old, new, .. } = comparison;
    let mut runs = table::new(["", "graded", "solve rate of shared tasks", "steps", "tokens", "cost"]);
    for (name, side) in [("old", old), ("new", new)] {
        runs.add_row([
            format!("{name}: {}", side.run),
            count(side.graded),
            format!("{:.1} %", side.solve_rate * 100.0),
            format!("{:.1}", side.steps_per_rollout),
            count(side.tokens_per_rollout as u64),
            side.cost_usd_per_rollout.map_or_else(|| "unknown".to_owned(), |cost| format!("{cost:.4} USD")),
        ]);
    }
    let mut text = format!("{runs}\n\n");
    let points = comparison.difference * 100.0;
    let interval = comparison
        .interval
        .map(|(low, high)| format!("; 95 % interval {:+.1} to {:+.1}", low * 100.0, high * 100.0))
        .unwrap_or_default();
    text.push_str(&format!(
        "difference        {points:+.1} points over {} shared tasks{interval}\n",
        count(comparison.tasks)
    ));
    text.push_str(&format!(
        "tasks             {} better, {} worse, {} alike (sign test p = {:.3})\n",
        comparison.better.len(),
        comparison.worse.len(),
        comparison.tasks as usize - comparison.better.len() - comparison.worse.len(),
        comparison.p_value
    ));
    if comparison.only_old + comparison.only_new > 0 {
        text.push_str(&format!(
            "not shared        {} tasks only in the old run, {} only in the new one\n",
            count(comparison.only_old),
            count(comparison.only_new)
        ));
    }
    for (name, tasks) in [("better", &comparison.better), ("worse", &comparison.worse)] {
        if let Some(named) = named(tasks) {
            text.push_str(&format!("{name:<18}{named}\n"));
        }
    }
    text
}

fn named(tasks: &[String]) -> Option<String> {
    let shown = tasks.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    let more = tasks.len().saturating_sub(NAMED);
    match tasks.len() {
        0 => None,
        _ if more > 0 => Some(format!("{shown} and {more} more")),
        _ => Some(shown),
    }
}
