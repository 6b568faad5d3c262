//! Limits of a run, enforced before work starts: every running rollout counts at its own cap.

use std::time::Duration;

use thresher_core::record::Totals;
use thresher_core::run_spec::{BudgetSpec, RunSpec};

/// What may still be spent.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: BudgetSpec,
    cap_usd: f64,
    spent_usd: f64,
    spent_tokens: u64,
    running: u32,
}

impl Budget {
    /// The budget of a run of which `spent` was spent by earlier invocations.
    pub(crate) fn new(spec: &RunSpec, spent: impl Iterator<Item = Totals>) -> Self {
        let cap_usd = spec.agent.max_cost_usd.unwrap_or(0.0);
        let mut budget =
            Self { limits: spec.budget.clone(), cap_usd, spent_usd: 0.0, spent_tokens: 0, running: 0 };
        spent.for_each(|totals| budget.spend(&totals));
        budget
    }

    /// Why no rollout may start now; `None` if one may. The caller then calls [`Budget::reserve`].
    pub(crate) fn refusal(&self, elapsed: Duration) -> Option<String> {
        let reserved = self.cap_usd * f64::from(self.running + 1);
        if let Some(limit) = self.limits.cost_usd
            && (self.spent_usd >= limit || self.spent_usd + reserved > limit)
        {
            return Some(format!(
                "cost budget: {:.4} USD spent and {:.4} reserved for running rollouts, of {limit} USD",
                self.spent_usd,
                self.cap_usd * f64::from(self.running)
            ));
        }
        if let Some(limit) = self.limits.tokens.filter(|limit| self.spent_tokens >= *limit) {
            return Some(format!("token budget: {} of {limit} tokens are used", self.spent_tokens));
        }
        if let Some(limit) = self.limits.wall_s.filter(|limit| elapsed >= Duration::from_secs(*limit)) {
            return Some(format!("wall-clock budget: {limit} s are over"));
        }
        None
    }

    /// Whether waiting for a running rollout could lift a refusal: its reservation is freed when it ends.
    pub(crate) fn may_recover(&self) -> bool {
        self.running > 0 && self.limits.cost_usd.is_some_and(|limit| self.spent_usd + self.cap_usd <= limit)
    }

    /// A rollout starts.
    pub(crate) fn reserve(&mut self) {
        self.running += 1;
    }

    /// A rollout ended and spent `totals`.
    pub(crate) fn settle(&mut self, totals: &Totals) {
        self.running = self.running.saturating_sub(1);
        self.spend(totals);
    }

    fn spend(&mut self, totals: &Totals) {
        self.spent_usd += totals.cost_usd.unwrap_or(0.0);
        self.spent_tokens += totals.usage.prompt_tokens + totals.usage.completion_tokens;
    }
}

#[cfg(test)]
mod tests {
    use thresher_core::trajectory::Usage;

    use super::*;

    fn budget(limits: &str, cap: Option<f64>) -> Budget {
        let json = format!(r#"{{"dataset": {{"path": "a"}}, "budget": {limits}}}"#);
        let mut spec: RunSpec = serde_json::from_str(&json).unwrap();
        spec.agent.max_cost_usd = cap;
        Budget::new(&spec, std::iter::empty())
    }

    fn totals(cost: f64, tokens: u64) -> Totals {
        let usage = Usage { prompt_tokens: tokens, ..Usage::default() };
        Totals { cost_usd: Some(cost), usage, ..Totals::default() }
    }

    #[test]
    fn running_rollouts_are_reserved_at_their_cap() {
        let mut budget = budget(r#"{"cost_usd": 1.0}"#, Some(0.5));
        for _ in 0..2 {
            assert_eq!(budget.refusal(Duration::ZERO), None);
            budget.reserve();
        }
        assert!(budget.refusal(Duration::ZERO).unwrap().contains("cost budget"));
        assert!(budget.may_recover());
        budget.settle(&totals(0.1, 0));
        assert!(budget.refusal(Duration::ZERO).is_some(), "0.1 spent, 0.5 running, 0.5 asked");
        budget.settle(&totals(0.1, 0));
        assert_eq!(budget.refusal(Duration::ZERO), None);
        budget.reserve();
        budget.settle(&totals(0.5, 0));
        assert!(budget.refusal(Duration::ZERO).is_some() && !budget.may_recover());
    }

    #[test]
    fn tokens_and_wall_clock_stop_admission() {
        let mut tokens = budget(r#"{"tokens": 10}"#, None);
        assert_eq!(tokens.refusal(Duration::ZERO), None);
        tokens.reserve();
        tokens.settle(&totals(0.0, 10));
        assert!(tokens.refusal(Duration::ZERO).unwrap().contains("token budget"));
        let wall = budget(r#"{"wall_s": 5}"#, None);
        assert_eq!(wall.refusal(Duration::from_secs(4)), None);
        assert!(wall.refusal(Duration::from_secs(5)).unwrap().contains("wall-clock"));
        assert_eq!(budget("{}", None).refusal(Duration::MAX), None);
    }
}
