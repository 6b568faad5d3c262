//! Workers that left a heartbeat and are gone: a pause does not wait for them.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use thresher_ledger::{Heartbeat, Incarnation, WorkerState};
use tokio::time::Instant;

/// Since when heartbeats have been the same, by this process's clock.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    seen: HashMap<Incarnation, (u64, Instant)>,
}

impl Silence {
    /// Whether a worker runs an attempt, or may begin one because it has not seen yet that it is not to. Those whose heartbeat
    /// has been the same for `patience` are gone.
    pub(crate) fn at_work(&mut self, beats: &[Heartbeat], now: Instant, patience: Duration) -> bool {
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
