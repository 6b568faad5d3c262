//! What heartbeats tell of the workers, and which of those that left one are gone: a pause does not wait for them.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use thresher_ledger::{Heartbeat, Incarnation, Ledger, LedgerError, RunState, WorkerState};
use tokio::time::Instant;

/// Heartbeats read in a second, on average: each is an object of its own in the store.
const READS_PER_S: f64 = 50.0;

/// What was last read of a run's workers.
#[derive(Debug, Default)]
pub(crate) struct Workers {
    reading: Option<Reading>,
    silence: Silence,
}

#[derive(Debug)]
struct Reading {
    at: Instant,
    state: RunState,
    beats: Vec<Heartbeat>,
}

impl Workers {
    /// Reads all heartbeats, unless that was done a short while ago, for as many as they are.
    pub(crate) async fn look(
        &mut self,
        ledger: &Ledger,
        state: RunState,
    ) -> Result<&[Heartbeat], LedgerError> {
        let now = Instant::now();
        let reading = match self.reading.take().filter(|last| last.serves(state, now)) {
            Some(last) => last,
            None => Reading { at: now, state, beats: ledger.heartbeats().await? },
        };
        Ok(&self.reading.insert(reading).beats)
    }

    /// Whether a worker runs an attempt, or may begin one, as far as was read. Those that have been silent for `patience` are
    /// gone.
    pub(crate) fn at_work(&mut self, patience: Duration) -> bool {
        let beats = self.reading.as_ref().map_or(&[][..], |reading| &reading.beats);
        self.silence.at_work(beats, Instant::now(), patience)
    }
}

impl Reading {
    /// What workers said before an operator's word tells nothing of what they do since.
    fn serves(&self, state: RunState, now: Instant) -> bool {
        let lasts = Duration::from_secs_f64(self.beats.len() as f64 / READS_PER_S);
        self.state == state && now.duration_since(self.at) < lasts
    }
}

/// Since when heartbeats have been the same, by this process's clock.
#[derive(Debug, Default)]
struct Silence {
    seen: HashMap<Incarnation, (u64, Instant)>,
}

impl Silence {
    /// Whether a worker runs an attempt, or may begin one because it has not seen yet that it is not to. Those whose heartbeat
    /// has been the same for `patience` are gone.
    fn at_work(&mut self, beats: &[Heartbeat], now: Instant, patience: Duration) -> bool {
        let there: HashSet<&Incarnation> = beats.iter().map(|beat| &beat.incarnation).collect();
        self.seen.retain(|worker, _| there.contains(worker));
        beats.iter().filter(|beat| self.silent_for(beat, now) < patience).any(works)
    }

    fn silent_for(&mut self, beat: &Heartbeat, now: Instant) -> Duration {
        let seen = self.seen.entry(beat.incarnation.clone()).or_insert((beat.sequence, now));
        if seen.0 != beat.sequence {
            *seen = (beat.sequence, now);
        }
        now.duration_since(seen.1)
    }
}

fn works(beat: &Heartbeat) -> bool {
    !beat.in_flight.is_empty() || beat.state == WorkerState::Working
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn beat(worker: &str, sequence: u64, state: &str, in_flight: &[&str]) -> Heartbeat {
        let in_flight: Vec<_> = in_flight
            .iter()
            .map(|rollout| json!({ "shard": "s", "rollout": rollout, "attempt": 1, "nonce": "n" }))
            .collect();
        let beat = json!({
            "protocol": 1, "incarnation": worker, "sequence": sequence, "round": 1, "state": state, "host": "h",
            "slots": 1, "shards": [], "in_flight": in_flight, "unpacked": { "graded": 0, "solved": 0 },
            "done": { "graded": 0, "solved": 0, "faulted": 0 },
            "spent": { "micro_usd": 0, "tokens": 0, "rollouts": 0 },
        });
        serde_json::from_value(beat).unwrap()
    }

    #[tokio::test]
    async fn many_heartbeats_are_read_less_often_and_at_once_after_an_operators_word() {
        let at = Instant::now();
        let of = |workers: usize| {
            let beats = (0..workers).map(|worker| beat(&format!("w{worker}"), 1, "working", &[])).collect();
            Reading { at, state: RunState::Running, beats }
        };
        let serves = |workers, state, seconds| of(workers).serves(state, at + Duration::from_secs(seconds));
        assert!(!serves(0, RunState::Running, 0) && !serves(250, RunState::Running, 5));
        assert!(serves(1_000, RunState::Running, 19) && !serves(1_000, RunState::Running, 20));
        assert!(!serves(1_000, RunState::Paused, 1));
    }

    #[tokio::test]
    async fn workers_are_waited_for_until_they_rest_or_are_gone() {
        let (mut silence, begin, patience) = (Silence::default(), Instant::now(), Duration::from_secs(120));
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut look = |beats: &[Heartbeat], seconds| silence.at_work(beats, at(seconds), patience);
        assert!(!look(&[], 0));
        assert!(!look(&[beat("rests", 1, "waiting", &[])], 0));
        assert!(look(&[beat("has-not-seen-it", 1, "working", &[])], 0));
        assert!(look(&[beat("finishes", 1, "waiting", &["r"])], 0));
        assert!(look(&[beat("drains", 1, "draining", &["r"])], 0));
        let gone = beat("gone", 7, "working", &["r"]);
        assert!(look(std::slice::from_ref(&gone), 0) && look(std::slice::from_ref(&gone), 119));
        assert!(!look(std::slice::from_ref(&gone), 120));
        assert!(look(&[beat("gone", 8, "working", &["r"])], 200), "it was not");
        assert!(look(&[beat("gone", 8, "working", &["r"])], 319), "the time counts from there");
        assert!(!look(&[beat("gone", 8, "working", &["r"])], 320));
    }
}
