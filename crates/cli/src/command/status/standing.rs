//! How far a run is: a few numbers from its plan, its log and its workers' heartbeats.

use serde::Serialize;
use thresher_core::RunId;
use thresher_ledger::{Amount, Control, Heartbeat, Ledger, Limits, LogSummary, OutcomeCounts, RunState};

use crate::exit::Failure;
use crate::table::{self, count};

/// How far a run is.
#[derive(Debug, Serialize)]
pub(crate) struct Standing {
    run: RunId,
    pub(crate) state: State,
    round: u32,
    pub(crate) planned: u64,
    pub(crate) graded: u64,
    pub(crate) solved: u64,
    /// Rollouts whose last attempt faulted: of a sealed run; of a running one, as its workers say.
    pub(crate) faulted: u64,
    in_flight: u64,
    packs: u64,
    /// Bytes of the tables.
    bytes: u64,
    budget: Option<BudgetUse>,
    workers: Vec<Heartbeat>,
}

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// Workers have heartbeats.
    Running,
    /// Operators want it to wait.
    Paused,
    /// Operators want it to end.
    Cancelled,
    /// Every shard is finished, and the manifest is written.
    Sealed,
    /// Nobody works on it.
    Idle,
}

/// What of the budget is used.
#[derive(Clone, Copy, Debug, Serialize)]
struct BudgetUse {
    spent: Amount,
    /// What workers may spend besides without asking.
    reserved: Amount,
    limit: [Option<u64>; 3],
}

impl Standing {
    /// Reads it; `log` is the log as it was read a moment ago.
    pub(crate) async fn of(ledger: &Ledger, log: &LogSummary) -> Result<Self, Failure> {
        let outline = ledger.plan_outline().await?;
        let (control, mut workers) = (ledger.control().await?, ledger.heartbeats().await?);
        let packed = log.packed();
        let budget = budget(ledger, &control, outline.as_ref().map(|outline| &outline.spec.budget)).await?;
        let (planned, segment) = outline.map_or((0, 0), |outline| (outline.rollouts, outline.segment));
        let sealed = match log.sealed() {
            Some(counts) if ledger.is_over(segment, control.round).await? => Some(counts),
            _ => None,
        };
        if sealed.is_some() {
            // What is left of heartbeats is that of workers that were lost shortly before the end.
            workers.clear();
        }
        let sum = |of: fn(&Heartbeat) -> u64| workers.iter().map(of).sum::<u64>();
        Ok(Self {
            run: ledger.run().clone(),
            state: state(&control, sealed.as_ref(), workers.is_empty()),
            round: control.round,
            planned,
            graded: packed.rollouts + sum(|beat| beat.unpacked.graded),
            solved: packed.solved + sum(|beat| beat.unpacked.solved),
            faulted: sealed.map_or_else(|| sum(|beat| beat.done.faulted), |counts| counts.faulted),
            in_flight: sum(|beat| beat.in_flight.len() as u64),
            packs: packed.packs,
            bytes: packed.bytes,
            budget,
            workers,
        })
    }

    /// Rollouts that have ended.
    pub(crate) fn finished(&self) -> u64 {
        self.graded + self.faulted
    }

    /// Everything, for a person; `per_minute` is known after a while of watching.
    pub(crate) fn text(&self, per_minute: Option<f64>) -> String {
        let mut text = format!("{}\n", self.line());
        text.push_str(&format!(
            "round {}, {} packs, {} of tables\n",
            self.round,
            count(self.packs),
            table::bytes(self.bytes)
        ));
        if let Some(pace) = per_minute {
            let left = self.planned.saturating_sub(self.finished()) as f64 / pace;
            let left = table::duration((left * 60_000.0) as u64);
            text.push_str(&format!("{pace:.1} rollouts a minute, about {left} left\n"));
        }
        if let Some(budget) = &self.budget {
            text.push_str(&budget.text());
        }
        if !self.workers.is_empty() {
            text.push_str(&self.workers_table());
        }
        text
    }

    /// The gist in one line.
    pub(crate) fn line(&self) -> String {
        let state = serde_json::to_value(self.state).expect("a word serializes");
        format!(
            "{}: {}   {}/{} graded, {} solved, {} faulted, {} in flight, {} workers",
            self.run,
            state.as_str().unwrap_or_default(),
            count(self.graded),
            count(self.planned),
            count(self.solved),
            count(self.faulted),
            count(self.in_flight),
            self.workers.len()
        )
    }

    fn workers_table(&self) -> String {
        let mut workers =
            table::new(["worker", "host", "state", "slots", "in flight", "shards", "graded", "faulted"]);
        for beat in &self.workers {
            let state = serde_json::to_value(beat.state).expect("a word serializes");
            workers.add_row([
                beat.incarnation.to_string(),
                beat.host.clone(),
                state.as_str().unwrap_or_default().to_owned(),
                beat.slots.to_string(),
                beat.in_flight.len().to_string(),
                beat.shards.len().to_string(),
                count(beat.done.graded),
                count(beat.done.faulted),
            ]);
        }
        format!("\n{workers}\n")
    }
}

impl BudgetUse {
    fn text(&self) -> String {
        let part = |name: &str, spent: u64, reserved: u64, limit: Option<u64>, show: fn(u64) -> String| {
            let limit = limit?;
            Some(format!("{name} {} spent, {} reserved, of {}", show(spent), show(reserved), show(limit)))
        };
        let usd = |micro: u64| format!("{:.4} USD", micro as f64 / 1e6);
        let (spent, reserved) = (&self.spent, &self.reserved);
        let parts = [
            part("cost:", spent.micro_usd, reserved.micro_usd, self.limit[0], usd),
            part("tokens:", spent.tokens, reserved.tokens, self.limit[1], count),
            part("rollouts:", spent.rollouts, reserved.rollouts, self.limit[2], count),
        ];
        parts.into_iter().flatten().map(|part| format!("budget of {part}\n")).collect()
    }
}

async fn budget(
    ledger: &Ledger,
    control: &Control,
    planned: Option<&thresher_core::run_spec::BudgetSpec>,
) -> Result<Option<BudgetUse>, Failure> {
    let Some(spec) = control.budget.as_ref().or(planned) else { return Ok(None) };
    let limits = Limits::of(spec);
    if limits.is_unlimited() {
        return Ok(None);
    }
    let used = ledger.budget_use().await?.unwrap_or_default();
    let limit = [limits.micro_usd, limits.tokens, limits.rollouts];
    Ok(Some(BudgetUse { spent: used.0, reserved: used.1, limit }))
}

fn state(control: &Control, sealed: Option<&OutcomeCounts>, nobody: bool) -> State {
    match control.state {
        RunState::Cancelled { .. } => State::Cancelled,
        _ if sealed.is_some() => State::Sealed,
        RunState::Paused => State::Paused,
        RunState::Running if nobody => State::Idle,
        RunState::Running => State::Running,
    }
}
