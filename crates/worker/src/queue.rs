//! What is left to do, in the order of work: shards one after the other, retries when their pause is over.

use std::collections::{BTreeMap, VecDeque};

use thresher_core::plan::PlannedRollout;
use thresher_core::{RolloutId, ShardId};
use tokio::time::Instant;

/// A rollout that is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) shard: ShardId,
    pub(crate) rollout: PlannedRollout,
    /// Number of its next attempt over all invocations, from 1.
    pub(crate) attempt: u32,
    /// Tries of this invocation, the next one included.
    pub(crate) tries: u32,
    /// Whether a finished trajectory waits for grading.
    pub(crate) ungraded: bool,
}

/// What the queue has to offer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A rollout to start now.
    Ready(Box<Pending>),
    /// Nothing before this instant.
    NotBefore(Instant),
    /// Nothing at all.
    Empty,
}

/// The queue of one worker.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    fresh: VecDeque<Pending>,
    retries: BTreeMap<(Instant, RolloutId), Pending>,
}

impl Queue {
    /// A queue of `fresh` rollouts in order of work.
    pub(crate) fn new(fresh: impl IntoIterator<Item = Pending>) -> Self {
        Self { fresh: fresh.into_iter().collect(), retries: BTreeMap::new() }
    }

    /// How many rollouts wait.
    pub(crate) fn len(&self) -> usize {
        self.fresh.len() + self.retries.len()
    }

    /// Takes the next rollout: a retry whose pause is over goes first, because its image is still at hand.
    pub(crate) fn next(&mut self, now: Instant) -> Next {
        let due = self.retries.keys().next().filter(|(at, _)| *at <= now).cloned();
        if let Some(key) = due {
            let pending = self.retries.remove(&key).expect("the key was just seen");
            return Next::Ready(Box::new(pending));
        }
        if let Some(pending) = self.fresh.pop_front() {
            return Next::Ready(Box::new(pending));
        }
        self.retries.keys().next().map_or(Next::Empty, |(at, _)| Next::NotBefore(*at))
    }

    /// Puts a rollout back until `at`.
    pub(crate) fn retry(&mut self, at: Instant, pending: Pending) {
        self.retries.insert((at, pending.rollout.rollout_id.clone()), pending);
    }

    /// A rollout of the shard that comes after the one at the head, to prefetch its image.
    pub(crate) fn peek_next_shard(&self, current: &ShardId) -> Option<&Pending> {
        self.fresh.iter().find(|pending| pending.shard != *current)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pending(shard: &str, id: &str) -> Pending {
        let rollout = PlannedRollout { rollout_id: RolloutId::new(id), task: 0, sample: 0 };
        Pending { shard: ShardId::new(shard), rollout, attempt: 1, tries: 1, ungraded: false }
    }

    fn id(next: Next) -> String {
        match next {
            Next::Ready(pending) => pending.rollout.rollout_id.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn retries_wait_their_pause_and_then_go_first() {
        let now = Instant::now();
        let mut queue = Queue::new([pending("a", "1"), pending("a", "2"), pending("b", "3")]);
        let later = now + Duration::from_secs(2);
        queue.retry(later, pending("a", "0"));
        assert_eq!(queue.len(), 4);
        assert_eq!(id(queue.next(now)), "1");
        assert_eq!(queue.peek_next_shard(&ShardId::new("a")).unwrap().rollout.rollout_id.as_str(), "3");
        assert_eq!(id(queue.next(later)), "0");
        assert_eq!(id(queue.next(later)), "2");
        assert_eq!(id(queue.next(later)), "3");
        assert_eq!(queue.next(later), Next::Empty);
        queue.retry(later + Duration::from_secs(1), pending("a", "0"));
        assert_eq!(queue.next(later), Next::NotBefore(later + Duration::from_secs(1)));
    }
}
