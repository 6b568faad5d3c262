//! `thresher report`: what a run has found so far.

mod figures;

use thresher_core::exit_code;
use thresher_ledger::{Ledger, StoredPlan};

pub(super) use self::figures::Report;
use super::{print, print_json};
use crate::args::ReportArgs;
use crate::exit::Failure;
use crate::location::{Location, Patience};
use crate::table::{self, count, duration};

/// Prints the report.
pub(super) async fn run(args: ReportArgs) -> Result<i32, Failure> {
    let ledger = Location::parse(&args.run)?.find(Patience::Short).await?;
    let report = of(&ledger).await?;
    if args.json {
        print_json(&report)?
    } else {
        print(&text(&report))?
    }
    Ok(exit_code::OK)
}

/// Gathers the report of a run, sealed or not.
pub(super) async fn of(ledger: &Ledger) -> Result<Report, Failure> {
    let plan = ledger.plan().await?;
    let reader = ledger.reader().await?;
    let (rollouts, faults) = (reader.rollouts().await?, reader.faults().await?);
    let planned = plan.as_ref().map_or(0, |plan: &StoredPlan| plan.plan.rollout_count() as u64);
    Ok(Report::new(ledger.run().clone(), planned, &rollouts, &faults))
}

/// The report as tables.
pub(super) fn text(report: &Report) -> String {
    let mut out = String::new();
    let mut section = |table: comfy_table::Table| {
        out.push_str(&table.to_string());
        out.push_str("\n\n");
    };
    let mut outcomes = table::new(["outcome", "rollouts"]);
    for (name, number) in &report.outcomes {
        outcomes.add_row([name.as_str(), &count(*number)]);
    }
    section(outcomes);
    if !report.stop_reasons.is_empty() {
        let mut stops = table::new(["stop reason", "rollouts", "solved"]);
        for (name, tally) in &report.stop_reasons {
            stops.add_row([name.as_str(), &count(tally.total), &count(tally.solved)]);
        }
        section(stops);
    }
    if !report.fault_classes.is_empty() {
        let mut faults = table::new(["fault", "retry", "attempts", "rollouts left", "example"]);
        for class in &report.fault_classes {
            let (attempts, left) = (count(class.attempts), count(class.rollouts));
            faults.add_row([&class.blame, &class.retry, &attempts, &left, &class.example]);
        }
        section(faults);
    }
    let mut phases = table::new(["phase", "median", "p90", "max", "total"]);
    for phase in &report.phases {
        phases.add_row([
            phase.name.clone(),
            duration(phase.median_ms),
            duration(phase.p90_ms),
            duration(phase.max_ms),
            duration(phase.total_ms),
        ]);
    }
    section(phases);
    out.push_str(&summary(report));
    out
}

/// The figures that one looks at first.
pub(super) fn summary(report: &Report) -> String {
    let rate = |rate: &figures::Rate| {
        let figures::Rate { solved, of, rate, low, high } = rate;
        format!(
            "{:5.1} %  ({solved} of {of}; 95 % interval {:.1} to {:.1})",
            rate * 100.0,
            low * 100.0,
            high * 100.0
        )
    };
    let mut lines = vec![
        format!("run               {}", report.run),
        format!(
            "rollouts          {} planned, {} graded, {} faulted, {} missing",
            report.planned, report.graded, report.faulted, report.missing
        ),
        format!("solve rate        {}", rate(&report.solve_rate)),
    ];
    if report.faulted > 0 {
        lines.push(format!("  faults as 0     {}", rate(&report.solve_rate_faults_as_zero)));
    }
    for (k, value) in &report.pass_at_k {
        lines.push(format!("pass@{k:<13}{:5.1} %", value * 100.0));
    }
    lines.push(format!(
        "tokens            {} prompt ({} cached), {} completion",
        count(report.tokens.prompt_tokens),
        count(report.tokens.cached_tokens),
        count(report.tokens.completion_tokens)
    ));
    lines.push(match report.cost_usd {
        Some(cost) => format!("cost              {cost:.4} USD"),
        None => "cost              unknown (the job states no prices)".to_owned(),
    });
    lines.join("\n")
}
