//! The figures of a report: a pure function of the rollouts' summaries.

use std::collections::BTreeMap;

use serde::Serialize;
use thresher_core::stats::{pass_at_k, wilson_interval};
use thresher_core::trajectory::Usage;
use thresher_core::{InstanceId, Outcome, Phase, RunId};
use thresher_ledger::RolloutSummary;

/// Everything a report says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Report {
    pub(crate) run: RunId,
    pub(crate) planned: u64,
    pub(crate) graded: u64,
    pub(crate) faulted: u64,
    pub(crate) missing: u64,
    pub(crate) solved: u64,
    /// Faults excluded: of the graded rollouts.
    pub(crate) solve_rate: Rate,
    /// Faults counted as 0: of the graded and the faulted ones.
    pub(crate) solve_rate_faults_as_zero: Rate,
    /// Mean over the tasks that have at least k graded samples.
    pub(crate) pass_at_k: BTreeMap<u64, f64>,
    pub(crate) outcomes: BTreeMap<String, u64>,
    pub(crate) stop_reasons: BTreeMap<String, Tally>,
    pub(crate) fault_classes: Vec<FaultClass>,
    pub(crate) phases: Vec<PhaseTimes>,
    pub(crate) tokens: Usage,
    pub(crate) cost_usd: Option<f64>,
    /// A rollout worth a look: the first solved one, else the first.
    pub(crate) example: Option<String>,
}

/// A proportion with its 95 % Wilson interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Rate {
    pub(crate) solved: u64,
    pub(crate) of: u64,
    pub(crate) rate: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// Solved out of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tally {
    pub(crate) total: u64,
    pub(crate) solved: u64,
}

/// Attempts that ended in the same class of fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct FaultClass {
    pub(crate) blame: String,
    pub(crate) retry: String,
    /// Attempts, also of rollouts that were graded later.
    pub(crate) attempts: u64,
    /// Rollouts that have no result because of it.
    pub(crate) rollouts: u64,
    pub(crate) example: String,
}

/// Milliseconds of one phase over the rollouts that entered it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PhaseTimes {
    pub(crate) name: String,
    pub(crate) median_ms: u64,
    pub(crate) p90_ms: u64,
    pub(crate) max_ms: u64,
    pub(crate) total_ms: u64,
}

impl Report {
    /// Computes the report. `rollouts` holds each rollout once, `faults` every attempt that ended in a fault.
    pub(crate) fn new(
        run: RunId,
        planned: u64,
        rollouts: &[RolloutSummary],
        faults: &[RolloutSummary],
    ) -> Self {
        let graded = rollouts.iter().filter(|rollout| rollout.outcome.reward().is_some()).count() as u64;
        let faulted = rollouts.len() as u64 - graded;
        let solved = rollouts.iter().filter(|rollout| rollout.outcome.is_solved()).count() as u64;
        Self {
            run,
            planned,
            graded,
            faulted,
            missing: planned.saturating_sub(rollouts.len() as u64),
            solved,
            solve_rate: rate(solved, graded),
            solve_rate_faults_as_zero: rate(solved, graded + faulted),
            pass_at_k: pass_rates(rollouts),
            outcomes: outcomes(rollouts),
            stop_reasons: stop_reasons(rollouts),
            fault_classes: fault_classes(rollouts, faults),
            phases: phases(rollouts),
            tokens: tokens(rollouts),
            cost_usd: cost(rollouts),
            example: rollouts
                .iter()
                .find(|rollout| rollout.outcome.is_solved())
                .or_else(|| rollouts.first())
                .map(|rollout| format!("{}#{}", rollout.instance_id, rollout.sample)),
        }
    }
}

fn rate(solved: u64, of: u64) -> Rate {
    let (low, high) = wilson_interval(solved, of);
    let rate = if of == 0 { 0.0 } else { solved as f64 / of as f64 };
    Rate { solved, of, rate, low, high }
}

fn pass_rates(rollouts: &[RolloutSummary]) -> BTreeMap<u64, f64> {
    let mut tasks: BTreeMap<&InstanceId, (u64, u64)> = BTreeMap::new();
    for rollout in rollouts.iter().filter(|rollout| rollout.outcome.reward().is_some()) {
        let (n, c) = tasks.entry(&rollout.instance_id).or_default();
        *n += 1;
        *c += u64::from(rollout.outcome.is_solved());
    }
    let most = tasks.values().map(|(n, _)| *n).max().unwrap_or(0);
    let ks = (0..).map(|power| 1u64 << power).take_while(|k| *k <= most);
    ks.filter_map(|k| {
        let values: Vec<f64> = tasks.values().filter_map(|(n, c)| pass_at_k(*n, *c, k)).collect();
        (!values.is_empty()).then(|| (k, values.iter().sum::<f64>() / values.len() as f64))
    })
    .collect()
}

fn outcomes(rollouts: &[RolloutSummary]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for rollout in rollouts {
        let name = match &rollout.outcome {
            Outcome::Graded(graded) if graded.reward >= 1.0 => "graded: solved".to_owned(),
            Outcome::Graded(graded) => format!("graded: not solved ({})", graded.stop),
            Outcome::Faulted(fault) => format!("faulted ({})", fault.blame),
        };
        *counts.entry(name).or_default() += 1;
    }
    counts
}

fn stop_reasons(rollouts: &[RolloutSummary]) -> BTreeMap<String, Tally> {
    let mut counts: BTreeMap<String, Tally> = BTreeMap::new();
    for rollout in rollouts {
        if let Some(reason) = rollout.stop_reason {
            let tally = counts.entry(reason.to_string()).or_default();
            tally.total += 1;
            tally.solved += u64::from(rollout.outcome.is_solved());
        }
    }
    counts
}

fn fault_classes(rollouts: &[RolloutSummary], faults: &[RolloutSummary]) -> Vec<FaultClass> {
    let mut classes: BTreeMap<(String, String), FaultClass> = BTreeMap::new();
    for (list, is_attempt) in [(faults, true), (rollouts, false)] {
        for summary in list {
            let Outcome::Faulted(fault) = &summary.outcome else { continue };
            let key = (fault.blame.to_string(), fault.retry.to_string());
            let class = classes.entry(key.clone()).or_insert_with(|| FaultClass {
                blame: key.0,
                retry: key.1,
                attempts: 0,
                rollouts: 0,
                example: fault.message.clone(),
            });
            class.attempts += u64::from(is_attempt);
            class.rollouts += u64::from(!is_attempt);
        }
    }
    classes.into_values().collect()
}

fn phases(rollouts: &[RolloutSummary]) -> Vec<PhaseTimes> {
    let mut times: BTreeMap<Phase, Vec<u64>> = BTreeMap::new();
    for (phase, ms) in rollouts.iter().flat_map(|rollout| &rollout.timings.phases) {
        times.entry(*phase).or_default().push(*ms);
    }
    times
        .into_iter()
        .map(|(phase, mut ms)| {
            ms.sort_unstable();
            let quantile = |q: f64| ms[((ms.len() - 1) as f64 * q).round() as usize];
            PhaseTimes {
                name: phase.to_string(),
                median_ms: quantile(0.5),
                p90_ms: quantile(0.9),
                max_ms: quantile(1.0),
                total_ms: ms.iter().sum(),
            }
        })
        .collect()
}

fn tokens(rollouts: &[RolloutSummary]) -> Usage {
    let mut sum = Usage::default();
    rollouts.iter().for_each(|rollout| sum += rollout.totals.usage);
    sum
}

fn cost(rollouts: &[RolloutSummary]) -> Option<f64> {
    let costs: Vec<f64> = rollouts.iter().filter_map(|rollout| rollout.totals.cost_usd).collect();
    (!costs.is_empty()).then(|| costs.iter().sum())
}

#[cfg(test)]
mod tests {
    use thresher_core::outcome::{GradeStop, Graded};
    use thresher_core::record::{Timings, Totals};
    use thresher_core::{Blame, Fault, Retry, RolloutId, ShardId, StopReason};

    use super::*;

    fn summary(task: &str, sample: u32, outcome: Outcome) -> RolloutSummary {
        RolloutSummary {
            rollout_id: RolloutId::new(format!("{task}{sample}")),
            shard_id: ShardId::new("s"),
            instance_id: InstanceId::new(task),
            sample,
            attempt: 1,
            agent: "r2egym".into(),
            model: "m".into(),
            stop_reason: outcome.reward().map(|_| StopReason::Submitted),
            outcome,
            patch_bytes: None,
            totals: Totals::default(),
            timings: Timings {
                phases: [(Phase::Agent, u64::from(sample) * 10)].into(),
                ..Timings::default()
            },
        }
    }

    fn graded(reward: f64) -> Outcome {
        Outcome::Graded(Graded {
            reward,
            resolution: None,
            stop: GradeStop::Evaluated,
            flaky: false,
            fail_to_pass: None,
            pass_to_pass: None,
            rule: "x".into(),
        })
    }

    #[test]
    fn faults_are_excluded_and_counted_as_zero() {
        let fault = Outcome::Faulted(Fault::new(Blame::Daemon, Retry::Later, Phase::Start, "gone"));
        let rollouts = [
            summary("a", 0, graded(1.0)),
            summary("a", 1, graded(0.0)),
            summary("b", 0, graded(1.0)),
            summary("b", 1, fault.clone()),
        ];
        let faults = [summary("b", 1, fault.clone()), summary("a", 0, fault)];
        let report = Report::new(RunId::new("r"), 5, &rollouts, &faults);
        assert_eq!((report.graded, report.faulted, report.missing, report.solved), (3, 1, 1, 2));
        assert_eq!((report.solve_rate.of, report.solve_rate_faults_as_zero.of), (3, 4));
        assert_eq!(report.pass_at_k, BTreeMap::from([(1, 0.75), (2, 1.0)]));
        assert_eq!((report.fault_classes[0].attempts, report.fault_classes[0].rollouts), (2, 1));
        assert_eq!(report.stop_reasons["submitted"], Tally { total: 3, solved: 2 });
        assert_eq!(report.outcomes["faulted (daemon)"], 1);
        assert_eq!(report.cost_usd, None, "unknown is not 0");
    }

    #[test]
    fn an_empty_run_has_a_report() {
        let report = Report::new(RunId::new("r"), 0, &[], &[]);
        assert_eq!((report.solve_rate.low, report.solve_rate.high), (0.0, 1.0));
        assert!(report.pass_at_k.is_empty() && report.phases.is_empty());
    }
}
