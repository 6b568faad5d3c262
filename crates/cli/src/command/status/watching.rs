//! What only a look that lasts can know: how fast rollouts finish, and which workers are silent.

use std::collections::BTreeMap;
use std::time::Duration;

use thresher_ledger::{Heartbeat, Incarnation};
use tokio::time::Instant;

/// Below this, a pace is mostly chance.
const LEAST_S: f64 = 3.0;

/// What was seen while one watched.
#[derive(Default)]
pub(super) struct Watching {
    first: Option<(Instant, u64)>,
    /// Each worker's last heartbeat, and when it was first seen.
    beats: BTreeMap<Incarnation, (u64, Instant)>,
}

impl Watching {
    /// Rollouts that finish in a minute, once that can be said; `finished` is how many have now.
    pub(super) fn per_minute(&mut self, now: Instant, finished: u64) -> Option<f64> {
        let (begun, before) = *self.first.get_or_insert((now, finished));
        let seconds = (now - begun).as_secs_f64();
        (seconds > LEAST_S && finished > before).then(|| (finished - before) as f64 * 60.0 / seconds)
    }

    /// For how many seconds workers have been silent, of those that are for longer than `usual`.
    pub(super) fn silent_s(
        &mut self,
        now: Instant,
        workers: &[Heartbeat],
        usual: Duration,
    ) -> BTreeMap<Incarnation, u64> {
        self.beats.retain(|who, _| workers.iter().any(|beat| beat.incarnation == *who));
        let mut silent = BTreeMap::new();
        for beat in workers {
            let seen = self.beats.entry(beat.incarnation.clone()).or_insert((beat.sequence, now));
            if seen.0 != beat.sequence {
                *seen = (beat.sequence, now);
            }
            let silence = now - seen.1;
            if silence > usual {
                silent.insert(beat.incarnation.clone(), silence.as_secs());
            }
        }
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(who: &str, sequence: u64) -> Heartbeat {
        serde_json::from_value(serde_json::json!({
            "protocol": 1, "incarnation": who, "sequence": sequence, "round": 1, "state": "working", "host": "h",
            "slots": 1, "shards": [], "in_flight": [], "unpacked": { "graded": 0, "solved": 0 },
            "done": { "graded": 0, "solved": 0, "faulted": 0 },
            "spent": { "micro_usd": 0, "tokens": 0, "rollouts": 0 },
        }))
        .unwrap()
    }

    #[test]
    fn a_pace_is_that_of_the_time_watched() {
        let (mut watching, begun) = (Watching::default(), Instant::now());
        let mut at =
            |seconds: u64, finished| watching.per_minute(begun + Duration::from_secs(seconds), finished);
        assert_eq!(at(0, 100), None);
        assert_eq!(at(2, 101), None, "too early to say");
        assert_eq!(at(30, 100), None, "nothing has finished");
        assert_eq!(at(30, 115), Some(30.0));
        assert_eq!(at(120, 115), Some(7.5));
    }

    #[test]
    fn a_worker_is_silent_while_its_heartbeat_stays_the_same() {
        let (mut watching, begun) = (Watching::default(), Instant::now());
        let mut at = |seconds, workers: &[Heartbeat]| {
            let now = begun + Duration::from_secs(seconds);
            let silent = watching.silent_s(now, workers, Duration::from_secs(60));
            silent.into_iter().map(|(who, seconds)| (who.to_string(), seconds)).collect::<Vec<_>>()
        };
        assert_eq!(at(0, &[beat("a", 1), beat("b", 7)]), []);
        assert_eq!(at(60, &[beat("a", 2), beat("b", 7)]), []);
        assert_eq!(at(61, &[beat("a", 2), beat("b", 7)]), [("b".to_owned(), 61)]);
        assert_eq!(at(62, &[beat("a", 3), beat("b", 8)]), [], "it beats again");
        assert_eq!(at(200, &[beat("b", 8)]), [("b".to_owned(), 138)]);
        assert_eq!(at(300, &[beat("a", 3), beat("b", 9)]), [], "one that was away begins anew");
    }
}
