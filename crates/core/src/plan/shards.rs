//! Cutting the rollouts of an image into shards of about the same expected time.

use std::cmp::Reverse;
use std::collections::HashMap;

use sha2::{Digest as _, Sha256};

use super::order::{self, bucket};
use super::{PlannedRollout, Shard, TaskHandle};
use crate::id::{RolloutId, ShardId, hex};

/// Cuts `rollouts` of `tasks` into shards in the order of work. The order in which they are given does not matter.
pub(super) fn cut(tasks: &[TaskHandle], mut rollouts: Vec<PlannedRollout>, shard_s: u32) -> Vec<Shard> {
    let image_of = images(tasks);
    let image = |rollout: &PlannedRollout| image_of[rollout.task as usize];
    rollouts.sort_unstable_by_key(|of| (image(of), Reverse(bucket(of.expected_s)), of.task, of.sample));
    let mut shards = Vec::new();
    for group in rollouts.chunk_by(|a, b| image(a) == image(b)) {
        let image = &tasks[group[0].task as usize].image;
        shards.extend(pieces(group, shard_s.into()).into_iter().map(|piece| shard(image, piece)));
    }
    order::sort(tasks, &mut shards);
    shards
}

/// The number of each task's image, images being numbered as they first occur.
fn images(tasks: &[TaskHandle]) -> Vec<usize> {
    let mut numbers = HashMap::new();
    let number = |task| {
        let next = numbers.len();
        *numbers.entry(task).or_insert(next)
    };
    tasks.iter().map(|task| task.image.as_str()).map(number).collect()
}

/// Cuts the rollouts of one image, which come task by task. All samples of a task stay together if they fit.
fn pieces(rollouts: &[PlannedRollout], shard_s: u64) -> Vec<Vec<PlannedRollout>> {
    let mut pieces = Vec::new();
    let (mut open, mut open_s) = (Vec::new(), 0);
    for samples in rollouts.chunk_by(|a, b| a.task == b.task) {
        let samples_s: u64 = samples.iter().map(|rollout| u64::from(rollout.expected_s)).sum();
        if open_s + samples_s > shard_s && !open.is_empty() {
            pieces.push(std::mem::take(&mut open));
            open_s = 0;
        }
        if samples_s > shard_s {
            pieces.extend(even_parts(samples, shard_s));
        } else {
            open.extend_from_slice(samples);
            open_s += samples_s;
        }
    }
    if !open.is_empty() {
        pieces.push(open);
    }
    pieces
}

/// Cuts the samples of one task, which together take too long, into as few parts as fit, of nearly equal size.
fn even_parts(samples: &[PlannedRollout], shard_s: u64) -> impl Iterator<Item = Vec<PlannedRollout>> {
    let fitting = (shard_s / u64::from(samples[0].expected_s.max(1))).max(1);
    let parts = samples.len().div_ceil(fitting as usize);
    let end = move |part: usize| part * samples.len() / parts;
    (0..parts).map(move |part| samples[end(part)..end(part + 1)].to_vec())
}

fn shard(image: &str, mut rollouts: Vec<PlannedRollout>) -> Shard {
    rollouts.sort_by_key(|rollout| rollout.sample);
    Shard { shard_id: shard_id(image, &rollouts[0].rollout_id), rollouts }
}

fn shard_id(image: &str, first: &RolloutId) -> ShardId {
    let hash = Sha256::new().chain_update(image).chain_update([0]).chain_update(first.as_str()).finalize();
    ShardId::new(hex(&hash[..8]))
}
