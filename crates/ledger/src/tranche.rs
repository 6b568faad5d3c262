//! The run's budget: one register from which workers draw tranches before they spend.
//!
//! A worker may begin a rollout only if what the rollout may spend at most fits into the tranche that the worker holds.
//! So what all workers together have spent and reserved never exceeds the limit. What can exceed it is what a rollout
//! in flight on a lost worker had spent and left no record of: at most its own reservation.

use std::collections::BTreeMap;
use std::ops::{Add, AddAssign, Sub};

use serde::{Deserialize, Serialize};
use thresher_core::record::Totals;
use thresher_core::run_spec::BudgetSpec;
use thresher_store::ObjectPath;

use crate::heartbeat::Incarnation;
use crate::layout::Layout;
use crate::register::{Seen, Swap};
use crate::{Ledger, LedgerError};

/// What a budget counts. Integers, so that sums do not depend on their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Millionths of a US dollar.
    pub micro_usd: u64,
    /// Tokens, prompt and reply together.
    pub tokens: u64,
    /// Rollouts that got a verdict.
    pub rollouts: u64,
}

/// Most of everything that a run may spend; `None` does not limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Millionths of a US dollar.
    pub micro_usd: Option<u64>,
    /// Tokens.
    pub tokens: Option<u64>,
    /// Rollouts with a verdict.
    pub rollouts: Option<u64>,
}

/// What drawing gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawn {
    /// The worker may spend this much on new rollouts, besides what the running ones reserved.
    Granted(Amount),
    /// Nothing now: what is left is reserved by other workers, who may give some of it back.
    Reserved,
    /// Nothing any more: what is spent leaves no room for one more rollout.
    Exhausted(Amount),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Account {
    /// Spent by workers that closed their entries.
    settled: Amount,
    workers: BTreeMap<Incarnation, Entry>,
}

/// What one worker has drawn and spent since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Entry {
    drawn: Amount,
    spent: Amount,
}

impl Amount {
    /// What an attempt spent, rounded up.
    pub fn of(totals: &Totals, graded: bool) -> Self {
        Self {
            micro_usd: micro_usd(totals.cost_usd.unwrap_or(0.0)),
            tokens: totals.usage.prompt_tokens + totals.usage.completion_tokens,
            rollouts: u64::from(graded),
        }
    }

    /// So many times as much.
    pub fn times(self, factor: u64) -> Self {
        self.each(Self { micro_usd: factor, tokens: factor, rollouts: factor }, u64::saturating_mul)
    }

    /// Whether there is at least as much of everything that `limits` counts.
    pub fn covers(self, need: Self, limits: &Limits) -> bool {
        let covers = |limit: Option<u64>, have: u64, need: u64| limit.is_none() || have >= need;
        covers(limits.micro_usd, self.micro_usd, need.micro_usd)
            && covers(limits.tokens, self.tokens, need.tokens)
            && covers(limits.rollouts, self.rollouts, need.rollouts)
    }

    fn each(self, other: Self, of: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            micro_usd: of(self.micro_usd, other.micro_usd),
            tokens: of(self.tokens, other.tokens),
            rollouts: of(self.rollouts, other.rollouts),
        }
    }
}

impl Add for Amount {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.each(other, u64::saturating_add)
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Amount {
    type Output = Self;
    /// Never below zero.
    fn sub(self, other: Self) -> Self {
        self.each(other, u64::saturating_sub)
    }
}

impl Limits {
    /// The limits of a budget.
    pub fn of(budget: &BudgetSpec) -> Self {
        Self { micro_usd: budget.cost_usd.map(micro_usd), tokens: budget.tokens, rollouts: budget.rollouts }
    }

    /// Whether nothing is limited.
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }

    /// The limits as an amount, as much as there can be where there is none.
    fn amount(&self) -> Amount {
        Amount {
            micro_usd: self.micro_usd.unwrap_or(u64::MAX),
            tokens: self.tokens.unwrap_or(u64::MAX),
            rollouts: self.rollouts.unwrap_or(u64::MAX),
        }
    }
}

/// Whole millionths of a dollar, rounded up.
pub fn micro_usd(usd: f64) -> u64 {
    (usd * 1e6).ceil().max(0.0) as u64
}

impl Account {
    fn spent(&self) -> Amount {
        self.workers.values().fold(self.settled, |sum, entry| sum + entry.spent)
    }

    /// Spent, or reserved by whoever drew it.
    fn bound(&self) -> Amount {
        self.workers.values().fold(self.settled, |sum, entry| sum + entry.spent.each(entry.drawn, u64::max))
    }

    /// Notes what `worker` has spent, and gives it up to `wish.want` for new rollouts, at least `wish.need`. What it
    /// held beyond `wish.keep` goes back first.
    fn draw(&mut self, worker: &Incarnation, spent: Amount, wish: &Wish) -> Drawn {
        let kept = spent + wish.keep;
        self.workers.insert(worker.clone(), Entry { drawn: kept, spent });
        let limit = wish.limits.amount();
        let free = limit - self.bound();
        if free.covers(wish.need, &wish.limits) {
            let granted = free.each(wish.want.each(wish.need, u64::max), u64::min);
            self.workers.insert(worker.clone(), Entry { drawn: kept + granted, spent });
            return Drawn::Granted(granted);
        }
        if (limit - self.spent()).covers(wish.need, &wish.limits) {
            Drawn::Reserved
        } else {
            Drawn::Exhausted(self.spent())
        }
    }

    /// Closes a worker's entry for good: it will not come back under this name.
    fn close(&mut self, worker: &Incarnation, spent: Amount) {
        self.workers.remove(worker);
        self.settled += spent;
    }

    /// Gives back what a lost worker had drawn and not spent. Its entry stays: it may come back and spend more.
    fn give_back(&mut self, worker: &Incarnation, spent: Amount) {
        if let Some(entry) = self.workers.get_mut(worker) {
            entry.spent = entry.spent.each(spent, u64::max);
            entry.drawn = entry.spent;
        }
    }
}

/// What a worker asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// The limits of the run.
    pub limits: Limits,
    /// What the worker's running rollouts have reserved: it stays reserved.
    pub keep: Amount,
    /// At least so much more: what one rollout may spend at most.
    pub need: Amount,
    /// At best so much more.
    pub want: Amount,
}

impl Ledger {
    /// Draws a tranche (protocol: B2), noting what the worker has `spent` since it started. `before` is what the run
    /// had spent before it had a budget; it is asked for only if the register is not there yet.
    pub async fn draw<F>(
        &self,
        worker: &Incarnation,
        spent: Amount,
        wish: &Wish,
        before: impl FnOnce() -> F + Send,
    ) -> Result<Drawn, LedgerError>
    where
        F: Future<Output = Result<Amount, LedgerError>> + Send,
    {
        let path = self.layout.budget()?;
        let mut seen = match self.read_register::<Account>(&path).await? {
            Some(seen) => seen,
            None => {
                let settled = before().await?;
                let (Swap::Won(seen) | Swap::Lost(seen)) =
                    self.create_register(&path, Account { settled, ..Account::default() }).await?;
                seen
            }
        };
        loop {
            let mut account = seen.content.clone();
            let drawn = account.draw(worker, spent, wish);
            if account == seen.content {
                return Ok(drawn);
            }
            match self.swap_register(&path, &seen, account).await? {
                Swap::Won(_) => return Ok(drawn),
                Swap::Lost(found) => seen = found,
            }
        }
    }

    /// Gives everything back at a worker's end (protocol: B4).
    pub async fn close_tranche(&self, worker: &Incarnation, spent: Amount) -> Result<(), LedgerError> {
        self.change_account(worker, |account| account.close(worker, spent)).await
    }

    /// Gives back what a lost worker held (protocol: B5), of which it had `spent` so much by its last heartbeat.
    pub async fn return_tranche(&self, lost: &Incarnation, spent: Amount) -> Result<(), LedgerError> {
        self.change_account(lost, |account| account.give_back(lost, spent)).await
    }

    /// What the run has spent and what its workers may spend without asking, if it has a budget.
    pub async fn budget_use(&self) -> Result<Option<(Amount, Amount)>, LedgerError> {
        let seen: Option<Seen<Account>> = self.read_register(&self.layout.budget()?).await?;
        Ok(seen.map(|seen| (seen.content.spent(), seen.content.bound() - seen.content.spent())))
    }

    async fn change_account(
        &self,
        worker: &Incarnation,
        change: impl Fn(&mut Account) + Send + Sync,
    ) -> Result<(), LedgerError> {
        let path = self.layout.budget()?;
        let Some(mut seen) = self.read_register::<Account>(&path).await? else { return Ok(()) };
        loop {
            let mut account = seen.content.clone();
            if !account.workers.contains_key(worker) {
                return Ok(());
            }
            change(&mut account);
            if account == seen.content {
                return Ok(());
            }
            match self.swap_register(&path, &seen, account).await? {
                Swap::Won(_) => return Ok(()),
                Swap::Lost(found) => seen = found,
            }
        }
    }
}

impl Layout {
    fn budget(&self) -> Result<ObjectPath, LedgerError> {
        self.object("budget.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(micro_usd: u64) -> Amount {
        Amount { micro_usd, ..Amount::default() }
    }

    fn wish(limit: u64, need: u64, want: u64) -> Wish {
        let limits = Limits { micro_usd: Some(limit), ..Limits::default() };
        Wish { limits, keep: usd(0), need: usd(need), want: usd(want) }
    }

    fn worker(name: &str) -> Incarnation {
        serde_json::from_value(name.into()).unwrap()
    }

    #[test]
    fn tranches_never_add_up_to_more_than_the_limit() {
        let mut account = Account::default();
        let (a, b) = (worker("a"), worker("b"));
        assert_eq!(account.draw(&a, usd(0), &wish(100, 10, 60)), Drawn::Granted(usd(60)));
        assert_eq!(account.draw(&b, usd(0), &wish(100, 10, 60)), Drawn::Granted(usd(40)), "what is left");
        assert_eq!(account.bound(), usd(100));
        // What a had left over goes back with its next draw; b's reservation stays.
        assert_eq!(account.draw(&a, usd(55), &wish(100, 10, 60)), Drawn::Reserved);
        assert_eq!(account.draw(&a, usd(45), &wish(100, 10, 60)), Drawn::Granted(usd(15)));
        // What its running rollouts reserved is not given away while it asks for more.
        assert_eq!(account.draw(&a, usd(45), &Wish { keep: usd(15), ..wish(100, 10, 60) }), Drawn::Reserved);
        assert_eq!(account.bound(), usd(100));
        account.close(&b, usd(38));
        assert_eq!(account.draw(&a, usd(53), &wish(100, 10, 60)), Drawn::Exhausted(usd(91)));
    }

    #[test]
    fn a_lost_workers_tranche_returns_and_its_comeback_is_counted() {
        let mut account = Account::default();
        let (a, b) = (worker("a"), worker("b"));
        account.draw(&a, usd(0), &wish(100, 10, 100));
        assert_eq!(account.draw(&b, usd(0), &wish(100, 10, 50)), Drawn::Reserved);
        account.give_back(&a, usd(30));
        account.give_back(&a, usd(20));
        assert_eq!(account.draw(&b, usd(0), &wish(100, 10, 50)), Drawn::Granted(usd(50)));
        // It was not dead, and had spent more than it said last.
        assert_eq!(account.draw(&a, usd(45), &wish(100, 10, 50)), Drawn::Reserved);
        assert_eq!(account.spent(), usd(45));
        account.close(&a, usd(45));
        assert_eq!((account.spent(), account.bound()), (usd(45), usd(95)));
    }

    #[test]
    fn only_what_is_limited_counts() {
        let limits = Limits { rollouts: Some(2), ..Limits::default() };
        let one = Amount { micro_usd: 7, tokens: 7, rollouts: 1 };
        let wish = Wish { limits, keep: Amount::default(), need: one, want: one.times(8) };
        let mut account = Account::default();
        let Drawn::Granted(granted) = account.draw(&worker("a"), Amount::default(), &wish) else { panic!() };
        assert_eq!(granted.rollouts, 2);
        assert!(granted.covers(one, &limits));
        assert_eq!(micro_usd(0.000_000_1), 1);
    }
}
