//! What differs between two runs, over the tasks that both have a graded rollout of. Pure.

use std::collections::BTreeMap;

use serde::Serialize;
use thresher_core::InstanceId;
use thresher_core::stats::{mean_interval, sign_test};
use thresher_ledger::RolloutSummary;

/// Above this p-value, a difference is taken for chance.
const SIGNIFICANT: f64 = 0.05;

/// Two runs beside each other.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) old: Side,
    pub(crate) new: Side,
    /// Tasks that both runs have a graded rollout of.
    pub(crate) tasks: u64,
    pub(crate) only_old: u64,
    pub(crate) only_new: u64,
    /// Mean over the shared tasks of the new run's solve rate less the old one's.
    pub(crate) difference: f64,
    /// 95 % interval of the difference.
    pub(crate) interval: Option<(f64, f64)>,
    /// Of the sign test over the tasks whose solve rates differ.
    pub(crate) p_value: f64,
    /// Tasks that the new run solves more often.
    pub(crate) better: Vec<String>,
    /// Tasks that it solves less often.
    pub(crate) worse: Vec<String>,
}

/// One of the runs.
#[derive(Debug, Serialize)]
pub(crate) struct Side {
    pub(crate) run: String,
    /// Graded rollouts of all its tasks.
    pub(crate) graded: u64,
    /// Mean over the shared tasks of how often each is solved.
    pub(crate) solve_rate: f64,
    pub(crate) steps_per_rollout: f64,
    pub(crate) tokens_per_rollout: f64,
    /// `None` where a rollout's cost is unknown.
    pub(crate) cost_usd_per_rollout: Option<f64>,
}

/// Solved and graded rollouts of a task.
type Rates<'a> = BTreeMap<&'a InstanceId, (u64, u64)>;

impl Comparison {
    pub(crate) fn new(
        old_run: String,
        old: &[RolloutSummary],
        new_run: String,
        new: &[RolloutSummary],
    ) -> Self {
        let (before, after) = (rates(old), rates(new));
        let shared: Vec<(&InstanceId, f64, f64)> = before
            .iter()
            .filter_map(|(task, counts)| Some((*task, rate(*counts), rate(*after.get(task)?))))
            .collect();
        let differences: Vec<f64> = shared.iter().map(|(_, old, new)| new - old).collect();
        let named = |wanted: fn(f64) -> bool| -> Vec<String> {
            let tasks = shared.iter().filter(|(_, old, new)| wanted(new - old));
            tasks.map(|(task, _, _)| task.to_string()).collect()
        };
        let (better, worse) = (named(|difference| difference > 0.0), named(|difference| difference < 0.0));
        Self {
            old: Side::new(old_run, old, shared.iter().map(|(_, old, _)| *old)),
            new: Side::new(new_run, new, shared.iter().map(|(_, _, new)| *new)),
            tasks: shared.len() as u64,
            only_old: (before.len() - shared.len()) as u64,
            only_new: (after.len() - shared.len()) as u64,
            difference: mean(differences.iter().copied()),
            interval: mean_interval(&differences).map(|(_, low, high)| (low, high)),
            p_value: sign_test(better.len() as u64, worse.len() as u64),
            better,
            worse,
        }
    }

    /// Whether the new run is worse by more than `points` percentage points, and by more than chance explains.
    pub(crate) fn is_regression(&self, points: f64) -> bool {
        -self.difference * 100.0 > points && self.p_value < SIGNIFICANT
    }
}

impl Side {
    fn new(run: String, rollouts: &[RolloutSummary], shared: impl Iterator<Item = f64>) -> Self {
        let graded: Vec<_> = rollouts.iter().filter(|rollout| rollout.outcome.reward().is_some()).collect();
        let costs: Option<Vec<f64>> = graded.iter().map(|rollout| rollout.totals.cost_usd).collect();
        Self {
            run,
            graded: graded.len() as u64,
            solve_rate: mean(shared),
            steps_per_rollout: mean(graded.iter().map(|rollout| f64::from(rollout.totals.steps))),
            tokens_per_rollout: mean(graded.iter().map(|rollout| {
                let usage = &rollout.totals.usage;
                (usage.prompt_tokens + usage.completion_tokens) as f64
            })),
            cost_usd_per_rollout: costs.map(|costs| mean(costs.into_iter())),
        }
    }
}

/// Faulted rollouts say nothing about a run, so they do not count.
fn rates(rollouts: &[RolloutSummary]) -> Rates<'_> {
    let mut rates = Rates::new();
    for rollout in rollouts.iter().filter(|rollout| rollout.outcome.reward().is_some()) {
        let (solved, graded) = rates.entry(&rollout.instance_id).or_default();
        *solved += u64::from(rollout.outcome.is_solved());
        *graded += 1;
    }
    rates
}

fn rate((solved, graded): (u64, u64)) -> f64 {
    solved as f64 / graded as f64
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0u64), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { 0.0 } else { sum / count as f64 }
}

#[cfg(test)]
mod tests {
    use thresher_core::outcome::{GradeStop, Graded};
    use thresher_core::record::{Timings, Totals};
    use thresher_core::{Blame, Fault, Outcome, Phase, Retry, RolloutId, ShardId};

    use super::*;

    fn rollout(task: &str, outcome: Outcome) -> RolloutSummary {
        RolloutSummary {
            rollout_id: RolloutId::new(task),
            shard_id: ShardId::new("shard"),
            instance_id: InstanceId::new(task),
            sample: 0,
            attempt: 1,
            agent: "r2egym".into(),
            model: "m".into(),
            outcome,
            stop_reason: None,
            patch_bytes: None,
            totals: Totals { steps: 4, cost_usd: Some(0.5), ..Totals::default() },
            timings: Timings::default(),
        }
    }

    fn graded(task: &str, solved: bool) -> RolloutSummary {
        rollout(
            task,
            Outcome::Graded(Graded {
                reward: if solved { 1.0 } else { 0.0 },
                resolution: None,
                stop: GradeStop::Evaluated,
                flaky: false,
                fail_to_pass: None,
                pass_to_pass: None,
                rule: "x".into(),
            }),
        )
    }

    fn compared(old: &[RolloutSummary], new: &[RolloutSummary]) -> Comparison {
        Comparison::new("old".into(), old, "new".into(), new)
    }

    #[test]
    fn tasks_that_both_have_are_compared_by_their_rates() {
        let fault = Fault::new(Blame::Model, Retry::Later, Phase::Agent, "away");
        let old = [
            graded("a", true),
            graded("a", false),
            graded("b", false),
            graded("c", true),
            graded("old", true),
        ];
        let new = [
            graded("a", true),
            graded("b", true),
            graded("c", false),
            rollout("old", Outcome::Faulted(fault)),
        ];
        let compared = compared(&old, &new);
        assert_eq!((compared.tasks, compared.only_old, compared.only_new), (3, 1, 0));
        assert_eq!(
            (compared.better.clone(), compared.worse.clone()),
            (vec!["a".into(), "b".into()], vec!["c".into()])
        );
        assert!((compared.difference - 0.5 / 3.0).abs() < 1e-12, "{}", compared.difference);
        assert!(
            (compared.old.solve_rate - 0.5).abs() < 1e-12
                && (compared.new.solve_rate - 2.0 / 3.0).abs() < 1e-12
        );
        assert_eq!((compared.old.graded, compared.new.graded), (5, 3));
        assert_eq!((compared.new.steps_per_rollout, compared.new.cost_usd_per_rollout), (4.0, Some(0.5)));
        assert!(!compared.is_regression(0.0));
    }

    #[test]
    fn only_more_than_chance_is_a_regression() {
        let tasks: Vec<String> = (0..20).map(|task| format!("t{task}")).collect();
        let run = |lost: usize| -> Vec<_> {
            tasks.iter().enumerate().map(|(at, task)| graded(task, at >= lost)).collect()
        };
        let cases = [(0, 0.0, false), (3, 0.0, false), (8, 0.0, true), (8, 39.0, true), (8, 41.0, false)];
        for (lost, points, wanted) in cases {
            assert_eq!(compared(&run(0), &run(lost)).is_regression(points), wanted, "{lost} {points}");
        }
        assert!(!compared(&run(8), &run(0)).is_regression(0.0), "better is no regression");
    }
}
