//! How far a run is: a few numbers from its plan, its log and its workers' heartbeats.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use thresher_core::run_spec::{BudgetSpec, FleetSpec};
use thresher_core::{ImageCounts, RunId};
use thresher_ledger::{
    Amount, Control, Heartbeat, Incarnation, Ledger, Limits, LogSummary, OutcomeCounts, RunState,
};
use tokio::time::Instant;

use super::watching::Watching;
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
    /// Rollouts that have not ended.
    left: u64,
    /// Rollouts that finish in a minute, known after a while of watching.
    #[serde(skip_serializing_if = "Option::is_none")]
    per_minute: Option<f64>,
    packs: u64,
    /// Bytes of the tables.
    bytes: u64,
    budget: Option<BudgetUse>,
    /// How its present workers came by their images.
    images: ImageCounts,
    workers: Vec<Heartbeat>,
    /// For how long those workers have been silent that should have beaten while one watched.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    silent_s: BTreeMap<Incarnation, u64>,
    #[serde(skip)]
    fleet: FleetSpec,
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
    limit: Limits,
}

impl Standing {
    /// Reads it; `log` is the log as it was read a moment ago.
    pub(crate) async fn of(ledger: &Ledger, log: &LogSummary) -> Result<Self, Failure> {
        let outline = ledger.plan_outline().await?;
        let (control, mut workers) = (ledger.control().await?, ledger.heartbeats().await?);
        let packed = log.packed();
        let budget = budget(ledger, &control, outline.as_ref().map(|outline| &outline.spec.budget)).await?;
        let (planned, segment, fleet) = outline
            .map_or_else(Default::default, |outline| (outline.rollouts, outline.segment, outline.spec.fleet));
        let sealed = match log.sealed() {
            Some(counts) if ledger.is_over(segment, control.round).await? => Some(counts),
            _ => None,
        };
        if sealed.is_some() {
            // What is left of heartbeats is that of workers that were lost shortly before the end.
            workers.clear();
        }
        let sum = |of: fn(&Heartbeat) -> u64| workers.iter().map(of).sum::<u64>();
        let graded = packed.rollouts + sum(|beat| beat.unpacked.graded);
        let faulted = sealed.map_or_else(|| sum(|beat| beat.done.faulted), |counts| counts.faulted);
        Ok(Self {
            run: ledger.run().clone(),
            state: state(&control, sealed.as_ref(), workers.is_empty()),
            round: control.round,
            planned,
            graded,
            solved: packed.solved + sum(|beat| beat.unpacked.solved),
            faulted,
            in_flight: sum(|beat| beat.in_flight.len() as u64),
            left: planned.saturating_sub(graded + faulted),
            per_minute: None,
            packs: packed.packs,
            bytes: packed.bytes,
            budget,
            images: workers.iter().fold(ImageCounts::default(), |sum, beat| sum + beat.images),
            workers,
            silent_s: BTreeMap::new(),
            fleet,
        })
    }

    /// Adds what is known from having watched. A run whose workers are all silent for so long that others would take
    /// over is idle.
    pub(super) fn watched(&mut self, watching: &mut Watching, now: Instant) {
        self.per_minute = watching.per_minute(now, self.graded + self.faulted);
        // A beat may be late, and so may be our look.
        let usual = Duration::from_secs(2 * self.fleet.heartbeat_s + 2);
        self.silent_s = watching.silent_s(now, &self.workers, usual);
        let lost = self.silent_s.values().filter(|silent| **silent > self.fleet.take_over_s).count();
        if self.state == State::Running && lost == self.workers.len() {
            self.state = State::Idle;
        }
    }

    /// Everything, for a person.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}\n", self.line());
        text.push_str(&format!(
            "round {}, {} left, {} packs, {} of tables\n",
            self.round,
            count(self.left),
            count(self.packs),
            table::bytes(self.bytes)
        ));
        if let Some(pace) = self.per_minute {
            let left = table::duration((self.left as f64 / pace * 60_000.0) as u64);
            text.push_str(&format!("{pace:.1} rollouts a minute, about {left} left\n"));
        }
        if let Some(budget) = &self.budget {
            text.push_str(&budget.text());
        }
        if let Some(images) = table::images(&self.images) {
            text.push_str(&format!("images: {images}\n"));
        }
        if !self.workers.is_empty() {
            text.push_str(&self.workers_table());
        }
        text
    }

    /// The gist in one line.
    pub(crate) fn line(&self) -> String {
        let silent = match self.silent_s.len() {
            0 => String::new(),
            silent => format!(", {silent} of them silent"),
        };
        format!(
            "{}: {}   {}/{} graded, {} solved, {} faulted, {} in flight, {}{silent}",
            self.run,
            word(&self.state),
            count(self.graded),
            count(self.planned),
            count(self.solved),
            count(self.faulted),
            count(self.in_flight),
            table::plural(self.workers.len() as u64, "worker"),
        )
    }

    fn workers_table(&self) -> String {
        let mut workers = table::new([
            "worker",
            "host",
            "state",
            "slots",
            "in flight",
            "shards",
            "graded",
            "solved",
            "faulted",
            "spent",
        ]);
        for beat in &self.workers {
            let state = match self.silent_s.get(&beat.incarnation) {
                Some(silent) => format!("silent for {}", table::duration(silent * 1_000)),
                None => word(&beat.state),
            };
            workers.add_row([
                beat.incarnation.to_string(),
                beat.host.clone(),
                state,
                beat.slots.to_string(),
                beat.in_flight.len().to_string(),
                beat.shards.len().to_string(),
                count(beat.done.graded),
                count(beat.done.solved),
                count(beat.done.faulted),
                spent(&beat.spent),
            ]);
        }
        format!("\n{workers}\n")
    }
}

/// A state as its one word.
pub(crate) fn word(state: &impl Serialize) -> String {
    let word = serde_json::to_value(state).expect("a word serializes");
    word.as_str().unwrap_or_default().to_owned()
}

fn spent(amount: &Amount) -> String {
    match amount.micro_usd {
        0 => format!("{} tokens", count(amount.tokens)),
        micro => usd(micro),
    }
}

fn usd(micro: u64) -> String {
    format!("{:.4} USD", micro as f64 / 1e6)
}

impl BudgetUse {
    fn text(&self) -> String {
        let part = |name: &str, spent: u64, reserved: u64, limit: Option<u64>, show: fn(u64) -> String| {
            let limit = limit?;
            Some(format!("{name} {} spent, {} reserved, of {}", show(spent), show(reserved), show(limit)))
        };
        let (spent, reserved) = (&self.spent, &self.reserved);
        let parts = [
            part("cost:", spent.micro_usd, reserved.micro_usd, self.limit.micro_usd, usd),
            part("tokens:", spent.tokens, reserved.tokens, self.limit.tokens, count),
            part("rollouts:", spent.rollouts, reserved.rollouts, self.limit.rollouts, count),
        ];
        parts.into_iter().flatten().map(|part| format!("budget of {part}\n")).collect()
    }
}

async fn budget(
    ledger: &Ledger,
    control: &Control,
    planned: Option<&BudgetSpec>,
) -> Result<Option<BudgetUse>, Failure> {
    let Some(spec) = control.budget.as_ref().or(planned) else { return Ok(None) };
    let limits = Limits::of(spec);
    if limits.is_unlimited() {
        return Ok(None);
    }
    let used = ledger.budget_use().await?.unwrap_or_default();
    Ok(Some(BudgetUse { spent: used.0, reserved: used.1, limit: limits }))
}

fn state(control: &Control, sealed: Option<&OutcomeCounts>, nobody: bool) -> State {
    match control.state {
        _ if sealed.is_some() => State::Sealed,
        RunState::Cancelled { .. } => State::Cancelled,
        RunState::Paused => State::Paused,
        RunState::Running if nobody => State::Idle,
        RunState::Running => State::Running,
    }
}
