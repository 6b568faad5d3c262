//! When the agent stops: a pure function of its turns. The order of the checks is the seed's, ours follow.

use std::time::Duration;

use thresher_core::StopReason;
use thresher_core::run_spec::AgentSpec;
use thresher_core::trajectory::Step;

/// What a turn tells the limits.
pub(super) struct Turn<'a> {
    /// The turn's record.
    pub(super) step: &'a Step,
    /// Whether the agent said that it is done.
    pub(super) finished: bool,
    /// Wall-clock time since the agent began.
    pub(super) elapsed: Duration,
}

/// Limits, and what has been used of them.
pub(super) struct Limits {
    spec: AgentSpec,
    steps: u32,
    time: Duration,
    cost: f64,
    tokens: u64,
    format_errors: u32,
    repeats: u32,
    last: Option<(String, String)>,
}

impl Limits {
    pub(super) fn new(spec: &AgentSpec) -> Self {
        Self {
            spec: spec.clone(),
            steps: 0,
            time: Duration::ZERO,
            cost: 0.0,
            tokens: 0,
            format_errors: 0,
            repeats: 0,
            last: None,
        }
    }

    /// The line under the last message before turn `index`: steps that remain, or the order to submit.
    pub(super) fn reminder(&self, index: u32) -> String {
        match self.spec.max_steps.saturating_sub(index) {
            0 => "You have used up your steps. Call finish NOW to submit what you have.".to_owned(),
            remaining => format!("Steps remaining: {remaining}"),
        }
    }

    /// Time that a model call may take: the query's own limit, within the rollout's wall clock.
    pub(super) fn query_timeout(&self, elapsed: Duration) -> Duration {
        let left = Duration::from_secs(self.spec.wall_limit_s).saturating_sub(elapsed);
        Duration::from_secs(self.spec.query_timeout_s).min(left).max(Duration::from_millis(1))
    }

    /// Counts a turn, and says whether it was the last.
    pub(super) fn after(&mut self, turn: Turn<'_>) -> Option<StopReason> {
        let remaining = i64::from(self.spec.max_steps) - i64::from(self.steps);
        self.count(&turn);
        if turn.finished {
            return Some(match remaining {
                1.. => StopReason::Submitted,
                0 => StopReason::SubmittedAtStepLimit,
                _ => StopReason::SubmittedAfterStepLimit,
            });
        }
        let context = turn.step.usage.prompt_tokens + turn.step.usage.completion_tokens;
        let checks = [
            (context >= self.spec.max_tokens, StopReason::TokenLimit),
            (self.steps >= self.spec.max_steps_hard, StopReason::StepLimit),
            (self.time >= Duration::from_secs(self.spec.max_time_s), StopReason::TimeLimit),
            (turn.elapsed >= Duration::from_secs(self.spec.wall_limit_s), StopReason::WallLimit),
            (self.spec.max_cost_usd.is_some_and(|cap| self.cost >= cap), StopReason::CostLimit),
            (self.spec.max_total_tokens.is_some_and(|cap| self.tokens >= cap), StopReason::TokenLimit),
            (self.format_errors >= self.spec.max_format_errors, StopReason::ParseFailureLimit),
            (self.repeats >= self.spec.max_repeats, StopReason::StuckLoop),
        ];
        checks.into_iter().find(|(reached, _)| *reached).map(|(_, reason)| reason)
    }

    fn count(&mut self, turn: &Turn<'_>) {
        let step = turn.step;
        self.steps += 1;
        self.time += Duration::from_millis(step.llm_ms + step.env_ms);
        self.cost += step.cost_usd.unwrap_or(0.0);
        self.tokens += step.usage.prompt_tokens + step.usage.completion_tokens;
        self.format_errors = if step.format_error.is_some() { self.format_errors + 1 } else { 0 };
        let fingerprint = fingerprint(step);
        let repeated = fingerprint.is_some() && self.last == fingerprint;
        self.repeats = if repeated { self.repeats + 1 } else { 1 };
        self.last = fingerprint;
    }
}

/// Call and observation: two turns with the same ones are a repetition. Turns without a call count as format errors.
fn fingerprint(step: &Step) -> Option<(String, String)> {
    let call = step.tool_calls.first()?;
    let seen = step.observations.first().map(|seen| seen.content.clone()).unwrap_or_default();
    Some((format!("{} {}", call.name, call.arguments), seen))
}

#[cfg(test)]
mod tests {
    use thresher_core::trajectory::{Observation, ToolCall, Usage};

    use super::*;

    fn spec() -> AgentSpec {
        AgentSpec {
            max_steps: 2,
            max_steps_hard: 4,
            max_tokens: 100,
            max_time_s: 10,
            wall_limit_s: 20,
            max_cost_usd: Some(1.0),
            max_format_errors: 2,
            max_repeats: 3,
            ..AgentSpec::default()
        }
    }

    /// A step whose call differs from every other by `mark`.
    fn step(mark: &str) -> Step {
        Step {
            tool_calls: vec![ToolCall {
                id: "1".into(),
                name: "f".into(),
                arguments: mark.into(),
                arguments_valid: true,
            }],
            observations: vec![Observation::default()],
            ..Step::default()
        }
    }

    fn run(limits: &mut Limits, step: &Step, finished: bool, elapsed_s: u64) -> Option<StopReason> {
        limits.after(Turn { step, finished, elapsed: Duration::from_secs(elapsed_s) })
    }

    #[test]
    fn finishing_is_named_by_the_steps_that_remained() {
        for (before, wanted) in [
            (0, StopReason::Submitted),
            (1, StopReason::Submitted),
            (2, StopReason::SubmittedAtStepLimit),
            (3, StopReason::SubmittedAfterStepLimit),
        ] {
            let mut limits = Limits::new(&spec());
            for at in 0..before {
                assert_eq!(run(&mut limits, &step(&at.to_string()), false, 0), None);
            }
            assert_eq!(run(&mut limits, &step("end"), true, 0), Some(wanted));
        }
    }

    #[test]
    fn each_limit_stops_with_its_own_reason() {
        let usage = Usage { prompt_tokens: 90, completion_tokens: 10, ..Usage::default() };
        let cases = [
            (Step { usage, ..step("a") }, 0, StopReason::TokenLimit),
            (Step { llm_ms: 6_000, env_ms: 4_000, ..step("a") }, 0, StopReason::TimeLimit),
            (step("a"), 20, StopReason::WallLimit),
            (Step { cost_usd: Some(1.0), ..step("a") }, 0, StopReason::CostLimit),
        ];
        for (step, elapsed, wanted) in cases {
            assert_eq!(run(&mut Limits::new(&spec()), &step, false, elapsed), Some(wanted));
        }
    }

    #[test]
    fn tokens_add_up_over_the_calls() {
        let usage = Usage { prompt_tokens: 30, completion_tokens: 10, ..Usage::default() };
        let capped = AgentSpec { max_total_tokens: Some(80), max_steps_hard: 9, ..spec() };
        let mut limits = Limits::new(&capped);
        let mut turn = |mark: &str| run(&mut limits, &Step { usage, ..step(mark) }, false, 0);
        assert_eq!((turn("a"), turn("b")), (None, Some(StopReason::TokenLimit)));
    }

    #[test]
    fn counted_limits_stop_at_their_count() {
        let mut limits = Limits::new(&spec());
        let stops: Vec<_> = (0..4).map(|at| run(&mut limits, &step(&at.to_string()), false, 0)).collect();
        assert_eq!(stops, [None, None, None, Some(StopReason::StepLimit)]);

        let bad = Step { format_error: Some("x".into()), tool_calls: vec![], ..step("a") };
        let mut limits = Limits::new(&spec());
        assert_eq!(run(&mut limits, &bad, false, 0), None);
        assert_eq!(run(&mut limits, &step("good"), false, 0), None);
        assert_eq!(run(&mut limits, &bad, false, 0), None);

        let mut limits = Limits::new(&spec());
        assert_eq!(run(&mut limits, &bad, false, 0), None);
        assert_eq!(run(&mut limits, &bad, false, 0), Some(StopReason::ParseFailureLimit));

        let mut limits = Limits::new(&spec());
        let stops: Vec<_> = (0..3).map(|_| run(&mut limits, &step("same"), false, 0)).collect();
        assert_eq!(stops, [None, None, Some(StopReason::StuckLoop)]);
    }

    #[test]
    fn reminders_count_down_to_the_order_to_submit() {
        let limits = Limits::new(&spec());
        assert_eq!(limits.reminder(0), "Steps remaining: 2");
        assert_eq!(limits.reminder(1), "Steps remaining: 1");
        assert!(limits.reminder(2).contains("finish NOW") && limits.reminder(9).contains("finish NOW"));
    }

    #[test]
    fn a_query_never_outlives_the_wall_clock() {
        let limits = Limits::new(&spec());
        assert_eq!(limits.query_timeout(Duration::from_secs(15)), Duration::from_secs(5));
        assert_eq!(limits.query_timeout(Duration::from_secs(99)), Duration::from_millis(1));
    }
}
