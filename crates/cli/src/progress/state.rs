//! What the view knows: a pure fold over events.

use std::collections::BTreeMap;

use thresher_core::{Outcome, Phase, RolloutId};
use thresher_ledger::RunState;
use thresher_worker::Event;

use crate::table::{count, duration};

/// A line for the plain view; notable ones are shown above the live view too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) notable: bool,
}

/// The state of a run as events tell it.
#[derive(Debug, Default)]
pub(super) struct State {
    planned: u64,
    finished: u64,
    solved: u64,
    unsolved: u64,
    faulted: u64,
    retries: u64,
    tokens: u64,
    cost_usd: Option<f64>,
    stops: BTreeMap<String, u64>,
    running: BTreeMap<RolloutId, Option<Phase>>,
}

impl State {
    /// Takes an event in. Returns a line if there is something to say.
    pub(super) fn take(&mut self, event: Event) -> Option<Line> {
        match event {
            Event::Planned { planned, finished_before } => {
                (self.planned, self.finished) = (planned, finished_before);
                let earlier = if finished_before > 0 {
                    format!(", {finished_before} done before")
                } else {
                    String::new()
                };
                return Some(Line {
                    text: format!("{planned} rollouts planned{earlier}"),
                    notable: finished_before > 0,
                });
            }
            Event::Started { rollout, .. } => drop(self.running.insert(rollout, None)),
            Event::Entered { rollout, phase } => {
                if let Some(entered) = self.running.get_mut(&rollout) {
                    *entered = Some(phase);
                }
            }
            Event::Stepped { tokens, cost_usd, .. } => {
                self.tokens += tokens;
                if let Some(cost) = cost_usd {
                    *self.cost_usd.get_or_insert(0.0) += cost;
                }
            }
            Event::Finished { rollout, instance_id, sample, outcome, stop_reason, steps, wall_ms } => {
                self.running.remove(&rollout);
                self.finished += 1;
                if let Some(stop) = stop_reason {
                    *self.stops.entry(stop.to_string()).or_default() += 1;
                }
                let verdict = self.count(&outcome);
                let stop = stop_reason.map(|stop| format!(" ({stop}, {steps} steps)")).unwrap_or_default();
                let text = format!(
                    "[{}/{}] {instance_id} #{sample}: {verdict}{stop} in {}",
                    self.finished,
                    self.planned,
                    duration(wall_ms)
                );
                return Some(Line { text, notable: matches!(outcome, Outcome::Faulted(_)) });
            }
            Event::WillRetry { rollout, instance_id, fault, after_s } => {
                self.running.remove(&rollout);
                self.retries += 1;
                let text =
                    format!("{instance_id}: fault of {} ({fault}); next try in {after_s} s", fault.blame);
                return Some(Line { text, notable: true });
            }
            Event::Met { workers, patience_s } => {
                let text = format!(
                    "{workers} other workers have heartbeats; what lost ones held is taken over after {patience_s} s"
                );
                return Some(Line { text, notable: true });
            }
            Event::TookOver { shard, lost } => {
                let text =
                    format!("shard {shard} taken over from a lost worker, {lost} attempts were in flight");
                return Some(Line { text, notable: true });
            }
            Event::Fenced { shard } => {
                let text = format!("shard {shard} was taken over by another worker");
                return Some(Line { text, notable: true });
            }
            Event::SetAside { rollout, workers } => {
                let text = format!("rollout {rollout} set aside: {workers} workers were lost with it");
                return Some(Line { text, notable: true });
            }
            Event::Controlled { state } => return controlled(state),
            Event::Draining { running } => {
                let text = match running {
                    0 => "no new rollouts are started".to_owned(),
                    _ => format!("draining: {running} rollouts are being finished, no new ones started"),
                };
                return Some(Line { text, notable: true });
            }
        }
        None
    }

    fn count(&mut self, outcome: &Outcome) -> String {
        match outcome {
            Outcome::Graded(graded) if graded.reward >= 1.0 => {
                self.solved += 1;
                "solved".into()
            }
            Outcome::Graded(graded) => {
                self.unsolved += 1;
                format!("not solved, {}", graded.stop)
            }
            Outcome::Faulted(fault) => {
                self.faulted += 1;
                format!("FAULT of {}: {fault}", fault.blame)
            }
        }
    }

    pub(super) fn planned(&self) -> u64 {
        self.planned
    }

    pub(super) fn finished(&self) -> u64 {
        self.finished
    }

    /// Counts, tokens and cost in one line.
    pub(super) fn tally(&self) -> String {
        let mut parts = vec![format!("{} solved", self.solved), format!("{} not solved", self.unsolved)];
        if self.faulted > 0 {
            parts.push(format!("{} faulted", self.faulted));
        }
        if self.retries > 0 {
            parts.push(format!("{} retries", self.retries));
        }
        let tokens = format!("{} tokens", count(self.tokens));
        let cost = self.cost_usd.map(|cost| format!(", {cost:.3} USD")).unwrap_or_default();
        let stops: Vec<String> = self.stops.iter().map(|(stop, number)| format!("{stop} {number}")).collect();
        let stops = if stops.is_empty() { String::new() } else { format!("   [{}]", stops.join(", ")) };
        format!("{}   {tokens}{cost}{stops}", parts.join(", "))
    }

    /// How many rollouts are in which phase.
    pub(super) fn running(&self) -> String {
        let mut phases: BTreeMap<String, u64> = BTreeMap::new();
        for phase in self.running.values() {
            *phases.entry(phase.map_or_else(|| "queue".into(), |phase| phase.to_string())).or_default() += 1;
        }
        let phases: Vec<String> = phases.iter().map(|(phase, number)| format!("{phase} {number}")).collect();
        format!("{} running: {}", self.running.len(), phases.join(", "))
    }
}

fn controlled(state: RunState) -> Option<Line> {
    let text = match state {
        RunState::Running => return None,
        RunState::Paused => "paused: rollouts that have begun go on, no new ones begin",
        RunState::Cancelled { now: false } => "cancelled: rollouts that have begun are finished",
        RunState::Cancelled { now: true } => "cancelled: rollouts that have begun are broken off",
    };
    Some(Line { text: text.to_owned(), notable: true })
}

#[cfg(test)]
mod tests {
    use thresher_core::{Blame, Fault, InstanceId, Retry};

    use super::*;

    #[test]
    fn events_add_up() {
        let mut state = State::default();
        let rollout = RolloutId::new("r");
        let instance_id = InstanceId::new("task");
        state.take(Event::Planned { planned: 3, finished_before: 1 });
        state.take(Event::Started { rollout: rollout.clone(), instance_id: instance_id.clone(), sample: 0 });
        state.take(Event::Entered { rollout: rollout.clone(), phase: Phase::Agent });
        state.take(Event::Stepped { rollout: rollout.clone(), steps: 1, tokens: 1_500, cost_usd: Some(0.5) });
        assert_eq!(state.running(), "1 running: agent 1");
        let fault = Fault::new(Blame::Daemon, Retry::Never, Phase::Start, "gone");
        let line = state
            .take(Event::Finished {
                rollout,
                instance_id,
                sample: 0,
                outcome: Outcome::Faulted(fault),
                stop_reason: None,
                steps: 0,
                wall_ms: 20,
            })
            .unwrap();
        assert!(
            line.notable && line.text.starts_with("[2/3] task #0: FAULT of daemon: gone"),
            "{}",
            line.text
        );
        assert_eq!(state.tally(), "0 solved, 0 not solved, 1 faulted   1,500 tokens, 0.500 USD");
        assert_eq!((state.planned(), state.finished()), (3, 2));
    }
}
