//! Which other workers are gone: whose heartbeat stays as it is, by our own clock.

use std::collections::BTreeMap;
use std::time::Duration;

use thresher_ledger::Incarnation;
use thresher_store::ChangeTag;
use tokio::time::Instant;

/// What one worker has seen of the heartbeats of the others.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Unchanged for so long means gone.
    patience: Duration,
    /// What one look may add at most: time in which we were stopped ourselves, or saw nothing, is no evidence.
    step: Duration,
    looked: Option<Instant>,
    seen: BTreeMap<Incarnation, Seen>,
}

#[derive(Debug)]
struct Seen {
    tag: ChangeTag,
    unchanged: Duration,
}

impl Watch {
    /// A watch that counts a worker as gone after `patience`, of which each look adds at most a third.
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, step: patience / 3, looked: None, seen: BTreeMap::new() }
    }

    /// Takes a listing of heartbeats (protocol: T1). Workers that have no heartbeat any more are forgotten.
    pub(crate) fn look(&mut self, now: Instant, listing: Vec<(Incarnation, ChangeTag)>) {
        let passed = self.looked.map_or(Duration::ZERO, |before| (now - before).min(self.step));
        self.looked = Some(now);
        let mut before = std::mem::take(&mut self.seen);
        for (worker, tag) in listing {
            let unchanged = match before.remove(&worker) {
                Some(known) if known.tag == tag => known.unchanged + passed,
                _ => Duration::ZERO,
            };
            self.seen.insert(worker, Seen { tag, unchanged });
        }
    }

    /// The workers that count as gone.
    pub(crate) fn gone(&self) -> Vec<Incarnation> {
        let gone = self.seen.iter().filter(|(_, seen)| seen.unchanged >= self.patience);
        gone.map(|(worker, _)| worker.clone()).collect()
    }

    /// How many workers do not count as gone.
    pub(crate) fn alive(&self) -> usize {
        self.seen.values().filter(|seen| seen.unchanged < self.patience).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(name: &str) -> Incarnation {
        serde_json::from_value(name.into()).unwrap()
    }

    fn listing(beats: &[(&str, u32)]) -> Vec<(Incarnation, ChangeTag)> {
        beats.iter().map(|(name, beat)| (worker(name), ChangeTag::new(beat.to_string()))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn only_whoever_stays_unchanged_long_enough_is_gone() {
        let start = Instant::now();
        let mut watch = Watch::new(Duration::from_secs(120));
        for at in 0..5u32 {
            let now = start + Duration::from_secs(30) * at;
            watch.look(now, listing(&[("a", 1), ("b", at)]));
            assert_eq!(watch.gone(), if at < 4 { vec![] } else { vec![worker("a")] }, "{at}");
        }
        assert_eq!(watch.alive(), 1);
        watch.look(start + Duration::from_secs(150), listing(&[("a", 2), ("b", 9)]));
        assert_eq!((watch.gone(), watch.alive()), (vec![], 2), "one beat, and it is back");
    }

    #[tokio::test(start_paused = true)]
    async fn time_without_a_look_is_hardly_evidence() {
        let start = Instant::now();
        let mut watch = Watch::new(Duration::from_secs(120));
        watch.look(start, listing(&[("a", 1)]));
        watch.look(start + Duration::from_secs(3_600), listing(&[("a", 1)]));
        assert_eq!(watch.gone(), []);
    }
}
