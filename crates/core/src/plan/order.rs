//! The order of work: longest first, because what begins last decides when a run ends, and within about the same
//! length the images that share layers next to each other, because they are pulled faster so.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::{Shard, TaskHandle, layer_key};

/// The shards of one image, as the order sees them.
struct Group {
    /// Expected seconds of its longest rollout: what cannot be divided among slots.
    longest_s: u32,
    first_task: u32,
    layers: String,
}

/// Sorts shards: the longest images first, all shards of one image together.
pub(super) fn sort(tasks: &[TaskHandle], shards: &mut [Shard]) {
    let groups = groups(tasks, shards);
    shards.sort_by_cached_key(|shard| {
        let group = &groups[image(tasks, shard)];
        let place = (Reverse(bucket(group.longest_s)), group.layers.as_str(), Reverse(group.longest_s));
        (place, group.first_task, Reverse(bucket(longest_s(shard))))
    });
}

fn groups<'a>(tasks: &'a [TaskHandle], shards: &[Shard]) -> HashMap<&'a str, Group> {
    let mut groups: HashMap<&str, Group> = HashMap::new();
    for shard in shards {
        let image = image(tasks, shard);
        let group = groups.entry(image).or_insert_with(|| Group {
            longest_s: 0,
            first_task: u32::MAX,
            layers: layer_key(image),
        });
        group.longest_s = group.longest_s.max(longest_s(shard));
        let first = shard.rollouts.iter().map(|rollout| rollout.task).min();
        group.first_task = group.first_task.min(first.unwrap_or(u32::MAX));
    }
    groups
}

fn image<'a>(tasks: &'a [TaskHandle], shard: &Shard) -> &'a str {
    &tasks[shard.rollouts[0].task as usize].image
}

fn longest_s(shard: &Shard) -> u32 {
    shard.rollouts.iter().map(|rollout| rollout.expected_s).max().unwrap_or(0)
}

/// Durations that are about the same: each power of two is four buckets. Whole numbers only, so that every machine
/// has the same ones.
pub(super) fn bucket(seconds: u32) -> u32 {
    let seconds = u64::from(seconds.max(1));
    let octave = seconds.ilog2();
    octave * 4 + ((seconds * 4) >> octave) as u32 - 4
}

#[cfg(test)]
mod tests {
    use super::bucket;

    #[test]
    fn buckets_grow_with_durations_and_hold_a_quarter_more_at_most() {
        let mut first_of = (0, 1);
        for seconds in 1..20_000 {
            let found = bucket(seconds);
            assert!(found >= first_of.0, "{seconds}");
            if found > first_of.0 {
                first_of = (found, seconds);
            }
            assert!(f64::from(seconds) <= f64::from(first_of.1) * 1.25, "{seconds} with {}", first_of.1);
        }
        assert_eq!([0, 1, 2, 3, 300, 319, 320, 1200].map(bucket), [0, 0, 4, 6, 32, 32, 33, 40]);
        assert!(bucket(u32::MAX) > bucket(u32::MAX / 2));
    }
}
