//! What is left to do, in the order of work: shards one after the other, retries when their pause is over.

use std::collections::{BTreeMap, VecDeque};

use thresher_core::plan::PlannedRollout;
use thresher_core::{RolloutId, ShardId};
use tokio::time::Instant;

use crate::outage::Spared;

/// A rollout that is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) shard: ShardId,
    pub(crate) rollout: PlannedRollout,
    /// Number of its next attempt over all workers, from 1.
    pub(crate) attempt: u32,
    /// Tries since the shard was claimed, the next one included.
    pub(crate) tries: u32,
    /// Whether a finished trajectory waits for grading.
    pub(crate) ungraded: bool,
    /// Tries that did not count, because something was away that rollouts share.
    pub(crate) spared: Option<Spared>,
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
    /// Adds the rollouts of a shard, in their order, behind what waits.
    pub(crate) fn push(&mut self, fresh: impl IntoIterator<Item = Pending>) {
        self.fresh.extend(fresh);
    }

    /// Drops what waits of a shard.
    pub(crate) fn drop_shard(&mut self, shard: &ShardId) {
        self.fresh.retain(|pending| pending.shard != *shard);
        self.retries.retain(|_, pending| pending.shard != *shard);
    }

    /// Puts a rollout that was taken back to the head.
    pub(crate) fn put_back(&mut self, pending: Pending) {
        self.fresh.push_front(pending);
    }

    /// How many rollouts wait that could begin now.
    pub(crate) fn ready(&self, now: Instant) -> usize {
        self.fresh.len() + self.retries.keys().filter(|(at, _)| *at <= now).count()
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.retries.is_empty()
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
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pending(shard: &str, id: &str) -> Pending {
        let rollout = PlannedRollout { rollout_id: RolloutId::new(id), task: 0, sample: 0, expected_s: 1 };
        Pending { shard: ShardId::new(shard), rollout, attempt: 1, tries: 1, ungraded: false, spared: None }
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
        let mut queue = Queue::default();
        queue.push([pending("a", "1"), pending("a", "2"), pending("b", "3"), pending("c", "4")]);
        queue.drop_shard(&ShardId::new("c"));
        let later = now + Duration::from_secs(2);
        queue.retry(later, pending("a", "0"));
        assert!(!queue.is_empty());
        assert_eq!(id(queue.next(now)), "1");
        assert_eq!((queue.ready(now), queue.ready(later)), (2, 3));
        assert_eq!(id(queue.next(later)), "0");
        assert_eq!(id(queue.next(later)), "2");
        assert_eq!(id(queue.next(later)), "3");
        assert_eq!(queue.next(later), Next::Empty);
        queue.retry(later + Duration::from_secs(1), pending("a", "0"));
        assert_eq!(queue.next(later), Next::NotBefore(later + Duration::from_secs(1)));
    }
}
