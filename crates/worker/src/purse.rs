//! What this worker may spend: reservations within the tranche that it drew from the run's budget.

use thresher_core::RunSpec;
use thresher_core::run_spec::BudgetSpec;
use thresher_ledger::{Amount, Limits, Wish, micro_usd};

/// The worker's part of the budget.
#[derive(Debug)]
pub(crate) struct Purse {
    limits: Limits,
    /// What one rollout may spend at most.
    cap: Amount,
    /// What ended attempts of this worker spent.
    spent: Amount,
    /// What running ones may spend.
    reserved: Amount,
    /// What `spent` and `reserved` together must not pass: set by the last draw.
    ceiling: Amount,
}

impl Purse {
    pub(crate) fn new(spec: &RunSpec) -> Self {
        // Without a cap of its own a rollout counts as next to nothing: none begins once the limit is reached.
        let cap = Amount {
            micro_usd: spec.agent.max_cost_usd.map_or(1, micro_usd).max(1),
            tokens: spec.agent.max_total_tokens.unwrap_or(1).max(1),
            rollouts: 1,
        };
        let zero = Amount::default();
        Self { limits: Limits::of(&spec.budget), cap, spent: zero, reserved: zero, ceiling: zero }
    }

    /// Sets other limits than the plan's.
    pub(crate) fn limit(&mut self, budget: &BudgetSpec) {
        self.limits = Limits::of(budget);
    }

    /// Whether nothing is limited.
    pub(crate) fn is_unlimited(&self) -> bool {
        self.limits.is_unlimited()
    }

    /// Reserves what one more rollout may spend, if there is room for it.
    pub(crate) fn reserve(&mut self) -> bool {
        let room = self.ceiling - self.spent - self.reserved;
        let fits = self.is_unlimited() || room.covers(self.cap, &self.limits);
        if fits {
            self.reserved += self.cap;
        }
        fits
    }

    /// A reserved rollout did not begin after all.
    pub(crate) fn unreserve(&mut self) {
        self.reserved = self.reserved - self.cap;
    }

    /// A reserved rollout ended and spent so much.
    pub(crate) fn settle(&mut self, spent: Amount) {
        self.unreserve();
        self.spent += spent;
    }

    /// What the worker's ended attempts spent.
    pub(crate) fn spent(&self) -> Amount {
        self.spent
    }

    /// Whether it holds more than what is spent and reserved.
    pub(crate) fn holds_unused(&self) -> bool {
        !self.is_unlimited() && self.ceiling != self.spent + self.reserved
    }

    /// What to draw for up to `slots` rollouts more.
    pub(crate) fn wish(&self, slots: u64) -> Wish {
        Wish { limits: self.limits, keep: self.reserved, need: self.cap, want: self.cap.times(slots.max(1)) }
    }

    /// Takes note of a draw that gave so much for new rollouts: nothing, if it was refused.
    pub(crate) fn drew(&mut self, granted: Amount) {
        self.ceiling = self.spent + self.reserved + granted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_rollouts_are_reserved_at_their_cap() {
        let json = r#"{"dataset": {"path": "a"}, "agent": {"max_cost_usd": 0.5}, "budget": {"cost_usd": 9}}"#;
        let spec: RunSpec = serde_json::from_str(json).unwrap();
        let mut purse = Purse::new(&spec);
        assert!(!purse.reserve(), "nothing is drawn yet");
        assert_eq!(purse.wish(2).want.micro_usd, 1_000_000);
        purse.drew(Amount { micro_usd: 1_000_000, ..Amount::default() });
        assert_eq!([purse.reserve(), purse.reserve(), purse.reserve()], [true, true, false]);
        let spent = Amount { micro_usd: 100_000, ..Amount::default() };
        purse.settle(spent);
        assert!(!purse.reserve(), "0.1 spent and 0.5 running of 1.0 leave 0.4");
        assert_eq!((purse.spent(), purse.wish(1).keep.micro_usd), (spent, 500_000));
        purse.settle(spent);
        assert!(purse.reserve());
    }

    #[test]
    fn without_limits_there_is_always_room() {
        let spec: RunSpec = serde_json::from_str(r#"{"dataset": {"path": "a"}}"#).unwrap();
        let mut purse = Purse::new(&spec);
        assert!(purse.is_unlimited() && (0..100).all(|_| purse.reserve()));
    }
}
